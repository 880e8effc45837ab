// Nothing a model writes may run, load or leave the page by itself: neither through Markdown nor, should Markdown ever
// let HTML through, past the sanitiser.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { JSDOM } from "jsdom";

import { createMarkdown } from "../chat/markdown.ts";
import { createSanitiser } from "../chat/sanitise.ts";

const FOLDER = "tests/data/xss";
const PAYLOADS = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".txt"))
  .flatMap((name) => readFileSync(`${FOLDER}/${name}`, "utf8").split("\n"))
  .filter((line) => line.trim());

const { window } = new JSDOM("<!doctype html><body></body>", { runScripts: "dangerously" });
const ran: string[] = [];
for (const name of ["alert", "prompt", "confirm"]) {
  Object.defineProperty(window, name, { value: () => ran.push(name) });
}
const markdown = createMarkdown((name) => `Image: ${name}`);
const sanitiser = createSanitiser(window);

function shown(html: string): HTMLElement {
  const holder = window.document.createElement("div");
  holder.append(sanitiser.answer(html));
  window.document.body.replaceChildren(holder);
  return holder;
}

function checkHarmless(holder: HTMLElement, payload: string): void {
  assert.equal(holder.querySelector("script, style, img, iframe, object, embed, svg, math, form, input, video, link"), null, payload);
  for (const element of holder.querySelectorAll("*")) {
    for (const { name, value } of element.attributes) {
      assert.match(name, /^(class|href|start|title|rel|target)$/, payload);
      if (name === "href") assert.match(value, /^(https?:|mailto:)/i, payload);
    }
  }
  for (const link of holder.querySelectorAll("a")) {
    assert.equal(link.getAttribute("rel"), "noopener noreferrer", payload);
  }
}

test(`${PAYLOADS.length} attack strings do nothing as Markdown`, () => {
  assert.ok(PAYLOADS.length > 200);
  for (const payload of PAYLOADS) checkHarmless(shown(markdown(payload)), payload);
  assert.deepEqual(ran, []);
});

test("the same strings do nothing as HTML either", () => {
  for (const payload of PAYLOADS) checkHarmless(shown(payload), payload);
  assert.deepEqual(ran, []);
});

test("every prefix of an attack is harmless too, for answers arrive piece by piece", () => {
  for (const payload of PAYLOADS.filter((line) => line.length < 120).slice(0, 60)) {
    for (let length = 1; length <= payload.length; length += 3) {
      checkHarmless(shown(markdown(payload.slice(0, length))), payload);
    }
  }
  assert.deepEqual(ran, []);
});

test("the page itself would have run them: the check can fail", () => {
  const holder = window.document.createElement("div");
  window.document.body.append(holder);
  const script = window.document.createElement("script");
  script.textContent = "alert(1)";
  holder.append(script);
  assert.deepEqual(ran.splice(0), ["alert"]);
});

test("links that could run something are not links", () => {
  for (const url of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "//evil.example", "/signout/"]) {
    assert.equal(shown(markdown(`[go](${url})`)).querySelector("a"), null, url);
  }
  assert.equal(shown(markdown("[go](https://a.example)")).querySelector("a")?.target, "_blank");
});

test("images are never loaded; they become links that say so", () => {
  const holder = shown(markdown("![a cat](https://evil.example/?secret=1)"));
  assert.equal(holder.querySelector("img"), null);
  assert.equal(holder.querySelector("a")?.textContent, "Image: a cat");
});

test("an answer cannot dress up as a part of the page", () => {
  const holder = shown('<p class="notice bad">x</p><span class="math-inline btn">y</span><code class="language-c++">z</code>');
  assert.equal(holder.querySelector(".notice, .btn"), null);
  assert.ok(holder.querySelector(".math-inline"));
  assert.ok(holder.querySelector(".language-c\\+\\+"));
});
