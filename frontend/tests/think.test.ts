import assert from "node:assert/strict";
import { test } from "node:test";

import { partsOf, splitThinking } from "../chat/think.ts";

test("reasoning is taken out of a finished answer", () => {
  const parts = splitThinking("<think>\nFirst this.\n</think>\n\nThe answer.", false);
  assert.deepEqual(parts, { reasoning: "First this.", answer: "The answer.", thinking: false });
});

test("an answer without reasoning is left alone", () => {
  assert.deepEqual(splitThinking("Just this.", true), { reasoning: null, answer: "Just this.", thinking: false });
  assert.equal(splitThinking("Use the `<think>` tag.", false).reasoning, null);
});

test("a closing tag on its own ends reasoning that the template opened", () => {
  const parts = splitThinking("First this.\n</think>\nThe answer.", false);
  assert.deepEqual(parts, { reasoning: "First this.", answer: "The answer.", thinking: false });
});

test("empty reasoning is not shown", () => {
  assert.equal(splitThinking("<think>\n\n</think>\nYes.", false).reasoning, null);
});

test("no part of a tag is ever shown while a text grows by single characters", () => {
  const whole = "<think>One < two.</think>The answer.";
  for (let length = 0; length <= whole.length; length++) {
    const { reasoning, answer } = splitThinking(whole.slice(0, length), true);
    assert.ok(!/<\/?th/.test((reasoning ?? "") + answer), `after ${length} characters: ${reasoning} | ${answer}`);
  }
  assert.equal(splitThinking(whole, true).answer, "The answer.");
});

test("reasoning that was cut off stays visible", () => {
  assert.deepEqual(splitThinking("<think>First", false), { reasoning: "First", answer: "", thinking: false });
});

test("reasoning that came apart from the answer is told apart without tags", () => {
  const said = { reasoning: "First this.\n", text: "\n\nUse `</think>`." };
  assert.deepEqual(partsOf(said, false), { reasoning: "First this.", answer: "Use `</think>`.", thinking: false });
  assert.equal(partsOf({ ...said, text: "\n" }, true).thinking, true);
  assert.equal(partsOf({ ...said, text: "" }, false).thinking, false);
  assert.equal(partsOf({ reasoning: "", text: "<think>Tagged.</think>Yes." }, false).reasoning, "Tagged.");
});
