// The platform page: the health of every part, fresh every five seconds.
import { find, icon, must, readJson } from "./lib/dom.ts";
import { poll } from "./lib/poll.ts";
import { number, say, type Strings } from "./lib/text.ts";

const EVERY_MS = 5000;

interface State {
  parts: { name: string; ok: boolean; detail: string }[];
  inference: {
    model: string;
    state: string;
    running: number;
    waiting: number;
    capacity: { running: number; waiting: number };
  } | null;
}

const strings = readJson<Strings>("platform-strings");

function set(name: string, value: string | number | undefined): void {
  const text = typeof value === "number" ? number(value) : value;
  must(`[data-inference="${name}"]`).textContent = text || "–";
}

function show({ parts, inference }: State): void {
  for (const { name, ok, detail } of parts) {
    const card = find(`[data-part="${name}"]`);
    if (!card) continue;
    const chip = must(".chip", card);
    const words = say(strings, ok ? "ok" : "bad");
    if (chip.textContent !== words) {
      chip.className = `chip ${ok ? "ok" : "bad"}`;
      chip.replaceChildren(icon(ok ? "s-ok" : "s-bad"), words);
    }
    must("[data-detail]", card).textContent = detail;
  }
  set("model", inference?.model);
  set("state", inference?.state);
  set("running", inference?.running);
  set("waiting", inference?.waiting);
  set("capacity_running", inference?.capacity.running);
  set("capacity_waiting", inference?.capacity.waiting);
}

poll<State>(must("#platform-script").dataset.url ?? "", EVERY_MS, strings, show);
