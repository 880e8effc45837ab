import assert from "node:assert/strict";
import { test } from "node:test";

import { annotated } from "../chat/citations.ts";
import { createMarkdown } from "../chat/markdown.ts";
import type { Sources, Support } from "../chat/protocol.ts";

const markdown = createMarkdown((name) => name);

function sources(...support: Support[]): Sources {
  return { searched: "", at: null, confidence: 1, is_enough: true, used: 2, passages: [], support };
}

function support(start: number, end: number, ...passages: number[]): Support {
  return { start, end, passages, spans: passages.map(() => null) };
}

function shown(text: string, found: Sources | null, passages = 2): string {
  return markdown(annotated(text, found), passages).trim();
}

test("what the model cites can be pressed, as far as there are passages", () => {
  assert.equal(shown("So it is [1].", null), '<p>So it is <span class="cite">1</span>.</p>');
  assert.equal(shown("So [3] is [0] not.", null), "<p>So [3] is [0] not.</p>");
  assert.equal(shown("So it is [1].", null, 0), "<p>So it is [1].</p>");
});

test("a link, a task and code are no citations", () => {
  assert.match(shown("[1](https://example.com)", null), /<a href/);
  assert.equal(shown("`a[1]`", null), "<p><code>a[1]</code></p>");
});

test("sentences carry what they rest on, whatever the model cited", () => {
  const text = "One [2]. Two.";
  const found = sources(support(0, 8, 1), support(9, 13));
  assert.equal(
    shown(text, found),
    '<p>One.<span class="cite">1</span> Two.<span class="unsupported">?</span></p>',
  );
});

test("places count characters, not halves of them", () => {
  const text = "😀😀 银行。 二。";
  const found = sources(support(3, 6, 2));
  assert.equal(shown(text, found), '<p>😀😀 银行。<span class="cite">2</span> 二。</p>');
});

test("code stays as it is written", () => {
  const text = "```\nlet a = 1\n```\nDone so.";
  const found = sources(support(4, 13, 1), support(18, 26, 2));
  assert.ok(shown(text, found).includes("let a = 1\n</code>"));
  assert.ok(shown(text, found).endsWith('Done so.<span class="cite">2</span></p>'));
});

test("an answer cannot write our marks itself", () => {
  assert.equal(shown("Sure [\uE000?] [\uE0001]", null), "<p>Sure [ ?] [ 1]</p>");
});

test("places that do not fit the text are left out", () => {
  assert.equal(shown("Short.", sources(support(3, 400, 1))), "<p>Short.</p>");
});
