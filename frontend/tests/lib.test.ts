import assert from "node:assert/strict";
import { test } from "node:test";

import { parseFrame } from "../chat/protocol.ts";
import { pause } from "../chat/socket.ts";
import { best } from "../lib/match.ts";
import { say, utf8Bytes } from "../lib/text.ts";

test("titles that start with the typed letters come first, and every word must be there", () => {
  const titles = ["About risk", "Risk report 2024", "Brisk walk", "Holiday"];
  assert.deepEqual(best(titles, "risk", (t) => t, 9), ["Risk report 2024", "About risk", "Brisk walk"]);
  assert.deepEqual(best(titles, "report risk", (t) => t, 9), ["Risk report 2024"]);
  assert.deepEqual(best(titles, "", (t) => t, 2), ["About risk", "Risk report 2024"]);
});

test("bytes are counted as the server counts them", () => {
  assert.equal(utf8Bytes("abc"), 3);
  assert.equal(utf8Bytes("资料"), 6);
  assert.equal(utf8Bytes("👋"), 4);
});

test("values are filled in as text, and a missing word is noticed", () => {
  assert.equal(say({ hello: "Hello {name}, {name}" }, "hello", { name: "$& <b>" }), "Hello $& <b>, $& <b>");
  assert.equal(say({}, "hello"), "hello");
});

test("pauses grow, are spread, and stay below half a minute", () => {
  assert.ok(pause(0, 0.5) < pause(3, 0.5));
  assert.notEqual(pause(2, 0), pause(2, 1));
  assert.ok(pause(99, 1) <= 30);
});

test("a frame that is not understood is left out", () => {
  assert.equal(parseFrame("{"), null);
  assert.equal(parseFrame("null"), null);
  assert.equal(parseFrame('{"type":"surprise"}'), null);
  assert.deepEqual(parseFrame('{"type":"pong"}'), { type: "pong" });
});
