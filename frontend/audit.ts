// The audit's records work without this. With it: the keyboard goes through what was found, rows are ticked with Shift,
// a record opens at once for the reason that was stated, and slow searches and exports say so.
import { setUpCopying } from "./lib/copying.ts";
import { all, find, isTyping, must, readJson } from "./lib/dom.ts";
import { say, type Strings } from "./lib/text.ts";
import { setUpTicks } from "./lib/ticks.ts";
import { toast } from "./lib/toast.ts";

type Told = { state: string; done: number; total: number };

const SLOW_MS = 3000;
const PROGRESS_MS = 700;
const SILENT_MOST = 60; // Of so many questions in a row that nothing is told to, no answer is expected any more.
const strings = readJson<Strings>("audit-strings");

/** [data-item]: one of them is current; its link has the focus, so that Enter and screen readers know it, too. */
class Items {
  private readonly items = all("[data-item]");
  private current = -1;

  constructor() {
    this.items.forEach((item, index) => item.addEventListener("focusin", () => this.show(index)));
  }

  move(by: number): void {
    if (!this.items.length) return;
    const next = this.current < 0 ? 0 : Math.min(Math.max(this.current + by, 0), this.items.length - 1);
    const link = find<HTMLAnchorElement>("a.cover", this.items[next]);
    link?.focus({ preventScroll: true });
    this.items[next]?.scrollIntoView({ block: "nearest" });
  }

  open(): void {
    const item = this.items[this.current];
    if (item) find<HTMLAnchorElement>("a.cover", item)?.click();
  }

  tick(): void {
    const item = this.items[this.current];
    if (item) find<HTMLInputElement>(".tick input", item)?.click();
  }

  private show(index: number): void {
    this.current = index;
    this.items.forEach((item, i) => item.classList.toggle("current", i === index));
  }
}

/** A link to a record is followed by opening it, when its reason is stated already: one step instead of two. */
function openAtOnce(): void {
  const form = find<HTMLFormElement>("#open");
  if (!form) return;
  document.addEventListener("click", (event) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>("a[data-record-link]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    form.action = link.href;
    form.requestSubmit();
  });
}

function follow(selector: string): boolean {
  const link = find<HTMLAnchorElement>(selector);
  link?.click();
  return link !== null;
}

function setUpKeys(): void {
  const items = new Items();
  const keys: Record<string, () => unknown> = {
    j: () => items.move(1),
    k: () => items.move(-1),
    o: () => items.open(),
    x: () => items.tick(),
    n: () => follow("a[rel=next]"),
    p: () => follow("a[rel=prev]") || follow("[data-first-page]"),
    u: () => follow("[data-results-link]"),
    "/": () => find<HTMLInputElement>("#text, #user")?.select(),
  };
  document.addEventListener("keydown", (event) => {
    if (isTyping(event.target) && (event.target as HTMLInputElement).type !== "checkbox") return;
    if (event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

/** The arrows go through the results where one of them has the focus; elsewhere they scroll. */
function setUpArrows(): void {
  const links = all<HTMLAnchorElement>("[data-item] a.cover");
  links.forEach((link, index) =>
    link.addEventListener("keydown", (event) => {
      const to = { ArrowDown: links[index + 1], ArrowUp: links[index - 1] }[event.key];
      if (!to) return;
      event.preventDefault();
      to.focus();
    }),
  );
}

/** What is being searched for takes a moment: say so, and what would make it quicker when it takes longer. */
function tellOfSearching(): void {
  const count = find("[data-count]");
  const form = find<HTMLFormElement>("[data-search]");
  form?.addEventListener("submit", () => {
    find("[data-results]")?.setAttribute("aria-busy", "true");
    if (count) count.textContent = say(strings, "searching");
    setTimeout(() => count && (count.textContent = say(strings, "slow")), SLOW_MS);
  });
  window.addEventListener("pageshow", (event) => event.persisted && location.reload());
}

/** A download leaves the page as it is, so the page says what is going on, and the form can be sent again. */
function tellOfDownloads(): void {
  for (const form of all<HTMLFormElement>("[data-download]")) {
    form.addEventListener("submit", () => {
      toast(say(strings, "export_started"));
      const note = find("[data-download-note]", form);
      if (note) note.textContent = say(strings, "export_started");
      if (form.dataset.progress) new ExportProgress(form);
    });
  }
}

/** How far an export is, under a name that is made up here, until it is whole or stopped. */
class ExportProgress {
  private readonly place: HTMLElement;
  private readonly name = Array.from(crypto.getRandomValues(new Uint8Array(16)), (each) =>
    each.toString(16).padStart(2, "0"),
  ).join("");
  private silent = 0;

  constructor(private readonly form: HTMLFormElement) {
    this.place = must("[data-download-progress]", form);
    let field = find<HTMLInputElement>("[name=progress]", form);
    if (!field) {
      field = document.createElement("input");
      field.type = "hidden";
      field.name = "progress";
      form.append(field);
    }
    field.value = this.name;
    this.place.hidden = false;
    this.button().hidden = false;
    this.button().onclick = () => void this.stop();
    this.tell({ state: "finding", done: 0, total: 0 });
    setTimeout(() => void this.look(), PROGRESS_MS);
  }

  private button(): HTMLButtonElement {
    return must<HTMLButtonElement>("[data-stop-export]", this.place);
  }

  private tell(told: Told): boolean {
    const words = { finding: "finding", writing: "writing", done: "finished", stopped: "stopped" }[told.state];
    if (!words) return ++this.silent < SILENT_MOST;
    this.silent = 0;
    const shown = (count: number) => count.toLocaleString(document.documentElement.lang);
    const text = (this.place.dataset[words] ?? "").replace("{done}", shown(told.done)).replace("{total}", shown(told.total));
    must("[data-told]", this.place).textContent = text;
    const bar = must<HTMLProgressElement>("progress", this.place);
    bar.max = Math.max(told.total, 1);
    if (told.state === "done") bar.value = bar.max;
    else if (told.done && told.total) bar.value = told.done;
    else bar.removeAttribute("value");
    const isOver = told.state === "done" || told.state === "stopped";
    this.button().hidden = isOver;
    bar.hidden = isOver;
    return !isOver;
  }

  private async look(): Promise<void> {
    let goesOn = true;
    try {
      const headers = { Accept: "application/json" };
      const answer = await fetch(`${this.form.dataset.progress}?name=${this.name}`, { headers, redirect: "error" });
      if (answer.ok) goesOn = this.tell((await answer.json()) as Told);
    } catch {
      goesOn = ++this.silent < SILENT_MOST; // The server may only be starting anew.
    }
    if (goesOn) setTimeout(() => void this.look(), PROGRESS_MS);
  }

  private async stop(): Promise<void> {
    const token = must<HTMLInputElement>("input[name=csrfmiddlewaretoken]", this.form).value;
    const body = new URLSearchParams({ name: this.name });
    const headers = { "X-CSRFToken": token };
    await fetch(this.form.dataset.stop ?? "", { method: "POST", headers, body }).catch(() => null);
  }
}

for (const form of all<HTMLFormElement>("form:has([data-bulk])")) setUpTicks(form, strings);
for (const fold of all<HTMLDetailsElement>("details[data-facets]")) fold.open = matchMedia("(min-width: 1101px)").matches;
openAtOnce();
setUpKeys();
setUpArrows();
setUpCopying(strings);
tellOfSearching();
tellOfDownloads();
