// Asking the server again and again: not while the page is hidden, and never two questions at once.
import { icon, must } from "./dom.ts";
import { clockTime } from "./times.ts";
import { say, type Strings } from "./text.ts";

const PATIENCE_MS = 10_000;

async function json<T>(url: string): Promise<T> {
  const headers = { Accept: "application/json" };
  const answer = await fetch(url, { headers, redirect: "error", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(String(answer.status));
  return (await answer.json()) as T;
}

/** A page, parsed without running anything, where a string of markup would need trust. */
export function page(url: string): Promise<Document> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.timeout = PATIENCE_MS;
    request.onload = () => {
      const found = request.status === 200 && request.responseURL.endsWith(url) ? request.responseXML : null;
      if (found) resolve(found);
      else reject(new Error(String(request.status)));
    };
    request.onerror = request.ontimeout = () => reject(new Error("away"));
    request.send();
  });
}

/** Calls `show` with what `ask` finds (fresh JSON) every `everyMs`; the chip [data-live] says live, paused or stale. */
export function poll<T>(
  url: string,
  everyMs: number,
  strings: Strings,
  show: (data: T) => void,
  ask: (url: string) => Promise<T> = json,
): void {
  const chip = must("[data-live]");
  let freshAt = Date.now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let shown = "";

  function tell(key: "live" | "paused" | "stale", tone: string, shape: string): void {
    const words = say(strings, key, { time: clockTime(freshAt) });
    if (words === shown) return;
    shown = words;
    chip.className = `chip live ${tone}`;
    chip.replaceChildren(icon(shape), words);
  }

  async function once(): Promise<void> {
    try {
      show(await ask(url));
      freshAt = Date.now();
      tell("live", "ok", "s-ok");
    } catch {
      if (!document.hidden) tell("stale", "warn", "s-warn");
    }
    schedule(everyMs);
  }

  function schedule(ms: number): void {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(() => void once(), ms);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      tell("paused", "", "s-off");
    } else schedule(0);
  });
  tell("live", "ok", "s-ok");
  schedule(everyMs);
}
