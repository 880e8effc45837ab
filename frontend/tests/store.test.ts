import assert from "node:assert/strict";
import { test } from "node:test";

import type { Done, Exchange, HistoryMessage } from "../chat/protocol.ts";
import { Store } from "../chat/store.ts";

const EXCHANGE: Exchange = {
  conversation: { id: "c", title: "t" },
  question: { id: "q", text: "Why?" },
  answer: { id: "a" },
  generation: "g",
  regenerated: null,
  sources: null,
};

function delta(seq: number, text: string) {
  return { type: "delta", generation: "g", seq, text } as const;
}

function done(seq: number, status: Done["status"] = "completed"): Done {
  return {
    type: "done",
    generation: "g",
    seq,
    status,
    finish_reason: "stop",
    usage: { prompt_tokens: 1, completion_tokens: 2 },
    timings: { ttft_ms: 10, tokens_per_s: 5 },
    error: null,
    sources: null,
    answering: { deployment: "d", reason: "", route_class: "" },
  };
}

function begun(): Store {
  const store = new Store();
  store.addPending("client", "Why?");
  store.begin(EXCHANGE, "client");
  return store;
}

/** Small, and the same in every run. */
function randomNumbers(seed: number): () => number {
  return () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
}

test("deltas that come twice are taken once", () => {
  const store = begun();
  assert.equal(store.take(delta(1, "Be")), "new");
  assert.equal(store.take(delta(1, "Be")), "seen");
  assert.equal(store.take(delta(2, "cause")), "new");
  assert.equal(store.take(delta(1, "Be")), "seen");
  assert.equal(store.answerOf("g")?.text, "Because");
});

test("reasoning grows beside the text, each piece once", () => {
  const store = begun();
  store.take({ ...delta(1, ""), reasoning: "Hm" });
  store.take({ ...delta(2, "Be"), reasoning: "!" });
  store.take({ ...delta(2, "Be"), reasoning: "!" });
  store.take(delta(3, "cause"));
  assert.deepEqual([store.answerOf("g")?.reasoning, store.answerOf("g")?.text], ["Hm!", "Because"]);
});

test("a delta after a hole is not taken, nor an end after a hole", () => {
  const store = begun();
  store.take(delta(1, "Be"));
  assert.equal(store.take(delta(3, "!")), "gap");
  assert.equal(store.finish(done(4)), "gap");
  assert.equal(store.answerOf("g")?.status, "generating");
  store.take(delta(2, "cause"));
  store.take(delta(3, "!"));
  assert.equal(store.finish(done(4)), "new");
  assert.equal(store.answerOf("g")?.text, "Because!");
});

test("whatever is replayed, dropped or reordered, the text is exact once everything was seen", () => {
  const random = randomNumbers(7);
  const pieces = Array.from({ length: 60 }, (_, i) => `${i},`);
  for (let round = 0; round < 50; round++) {
    const store = begun();
    const answer = store.answerOf("g");
    assert.ok(answer);
    while (answer.seq < pieces.length) {
      // A connection delivers from wherever the store is, sometimes again from the start, and breaks off anywhere.
      let seq = random() < 0.3 ? 1 : answer.seq + 1;
      for (; seq <= pieces.length && random() > 0.1; seq++) {
        if (random() > 0.05) store.take(delta(seq, pieces[seq - 1] ?? ""));
      }
    }
    assert.equal(answer.text, pieces.join(""));
  }
});

test("a question accepted twice stays one question with one answer", () => {
  const store = begun();
  store.take(delta(1, "Be"));
  store.begin(EXCHANGE, "client");
  assert.equal(store.turns.length, 1);
  assert.equal(store.turns[0]?.answers.length, 1);
  assert.equal(store.answerOf("g")?.text, "Be");
});

test("answering again keeps the earlier answer and shows the new one", () => {
  const store = begun();
  store.finish(done(1));
  store.begin({ ...EXCHANGE, answer: { id: "b" }, generation: "h", regenerated: "a" }, "other");
  assert.deepEqual(store.turns.map((turn) => turn.answers.map(({ id }) => id)), [["a", "b"]]);
  assert.equal(store.turns[0]?.shown, 1);
});

test("what is still being written starts from nothing after a reload", () => {
  const base = { reasoning: "", created: "", meta: {}, generation: null, knowledge: [], sources: null };
  const messages: HistoryMessage[] = [
    { ...base, id: "q", role: "user", text: "Why?", status: "completed", active: false, answers: null },
    { ...base, id: "a", role: "assistant", text: "", status: "generating", active: true, answers: "q", generation: "g" },
  ];
  const store = new Store();
  store.load(messages);
  assert.equal(store.running().length, 1);
  assert.equal(store.take(delta(1, "Because")), "new");
  assert.equal(store.finish(done(2, "stopped")), "new");
  assert.equal(store.take(delta(2, "late")), "unknown");
  assert.equal(store.answerOf("g")?.text, "Because");
});

test("a question that could not be sent can be taken back", () => {
  const store = new Store();
  store.addPending("client", "Why?");
  assert.equal(store.dropPending("client")?.text, "Why?");
  assert.equal(store.turns.length, 0);
  assert.equal(store.dropPending("client"), null);
});
