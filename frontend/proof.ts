// While a check of the log runs: how far it is; then the page with what it found. Without it a link does the same.
import { must } from "./lib/dom.ts";

const EVERY_MS = 1500;
const section = must("[data-progress]");

async function look(): Promise<void> {
  try {
    const headers = { Accept: "application/json" };
    const answer = await fetch(section.dataset.progress ?? "", { headers, redirect: "error" });
    const told = (await answer.json()) as { done: number; total: number; running: boolean };
    if (!told.running) {
      location.reload();
      return;
    }
    const bar = must<HTMLProgressElement>("progress", section);
    bar.max = Math.max(told.total, 1);
    bar.value = told.done;
    must("[data-done]", section).textContent = told.done.toLocaleString(document.documentElement.lang);
    must("[data-total]", section).textContent = told.total.toLocaleString(document.documentElement.lang);
  } catch {
    // Asked again below: the server may only be starting anew.
  }
  setTimeout(() => void look(), EVERY_MS);
}

setTimeout(() => void look(), EVERY_MS);
