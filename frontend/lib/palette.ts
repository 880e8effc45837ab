// Ctrl/Cmd-K: go to a page, to one of your own conversations, and for administrators to a person or a group.
import { all, find, h, icon, isTyping, must, readJson } from "./dom.ts";
import { best } from "./match.ts";
import { say, type Strings } from "./text.ts";

interface Entry {
  label: string;
  also?: string; // Further words by which it is found.
  url: string;
  icon: string;
}

interface Found {
  people: Entry[];
  groups: Entry[];
}

const SHOWN = 8;
const PAGES_SHOWN = 16; // All of them, before anything is typed.
const PATIENCE_MS = 200;
const NOBODY: Found = { people: [], groups: [] };

export function setUpPalette(strings: Strings): void {
  const dialog = find<HTMLDialogElement>("[data-palette]");
  if (dialog) new Palette(dialog, strings);
}

class Palette {
  private readonly input: HTMLInputElement;
  private readonly list: HTMLElement;
  private readonly none: HTMLElement;
  private readonly status: HTMLElement;
  private conversations: Entry[] = [];
  private found = NOBODY;
  private asking: ReturnType<typeof setTimeout> | undefined;
  private options: HTMLElement[] = [];
  private selected = 0;

  constructor(
    private readonly dialog: HTMLDialogElement,
    private readonly strings: Strings,
  ) {
    this.input = must<HTMLInputElement>("input", dialog);
    this.list = must(".palette-list", dialog);
    this.none = must(".palette-none", dialog);
    this.status = must("[data-palette-status]", dialog);
    this.input.addEventListener("input", () => {
      this.show();
      clearTimeout(this.asking);
      this.asking = setTimeout(() => void this.look(this.input.value.trim()), PATIENCE_MS);
    });
    this.input.addEventListener("keydown", (event) => this.onKey(event));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    for (const button of all("[data-palette-open]")) button.addEventListener("click", () => this.open());
    document.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() === "k" && (event.metaKey || event.ctrlKey) && !event.altKey && !event.shiftKey) {
        event.preventDefault();
        if (dialog.open) dialog.close();
        else this.open();
      }
    });
  }

  private open(): void {
    document.dispatchEvent(new Event("closedrawer"));
    this.input.value = "";
    this.found = NOBODY;
    this.show();
    this.dialog.showModal();
    void this.load();
  }

  private async load(): Promise<void> {
    const url = this.dialog.dataset.conversations;
    if (!url) return;
    try {
      const answer = await fetch(url, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      const body = (await answer.json()) as { conversations: { title: string; url: string }[] };
      this.conversations = body.conversations.map(({ title, url }) => ({ label: title, url, icon: "chat" }));
      if (this.dialog.open) this.show();
    } catch {
      // Pages can still be reached; the conversations come back with the connection.
    }
  }

  /** People and groups, which only the server knows; what comes late for other letters is dropped. */
  private async look(query: string): Promise<void> {
    const url = this.dialog.dataset.found;
    if (!url || query.length < 2) return;
    try {
      const answer = await fetch(`${url}?q=${encodeURIComponent(query)}`, { headers: { Accept: "application/json" } });
      if (!answer.ok || this.input.value.trim() !== query) return;
      const { people, groups } = (await answer.json()) as Found;
      this.found = {
        people: people.map(({ label, url }) => ({ label, url, icon: "person" })),
        groups: groups.map(({ label, url }) => ({ label, url, icon: "people" })),
      };
      this.show();
    } catch {
      // Pages can still be reached.
    }
  }

  private pages(): Entry[] {
    const links = all<HTMLAnchorElement>("[data-nav] a").map((link) => ({
      label: link.textContent?.trim() ?? "",
      url: link.href,
      icon: link.querySelector("use")?.getAttribute("href")?.split("#")[1] ?? "chevron",
    }));
    const tabs = find("#palette-areas") ? readJson<Entry[]>("palette-areas") : [];
    return [...links, ...tabs.map((tab) => ({ ...tab, icon: "people" }))];
  }

  private show(): void {
    const query = this.input.value.trim();
    const groups: [string, Entry[]][] = [
      ["pages", best(this.pages(), query, (entry) => `${entry.label} ${entry.also ?? ""}`, query ? SHOWN : PAGES_SHOWN)],
      ["people", best(this.found.people, query, (entry) => entry.label, SHOWN)],
      ["groups", best(this.found.groups, query, (entry) => entry.label, SHOWN)],
      ["conversations", best(this.conversations, query, (entry) => entry.label, SHOWN)],
    ];
    this.options = [];
    const items: HTMLElement[] = [];
    for (const [group, entries] of groups) {
      if (entries.length) items.push(h("li", { role: "presentation" }, say(this.strings, group)));
      for (const entry of entries) items.push(this.option(entry));
    }
    this.list.replaceChildren(...items);
    this.none.hidden = this.options.length > 0;
    this.none.textContent = say(this.strings, "palette_none", { text: query });
    this.status.textContent = query ? say(this.strings, "palette_found", { count: this.options.length }) : "";
    this.select(0);
  }

  private option(entry: Entry): HTMLElement {
    const item = h(
      "li",
      { role: "option", id: `palette-${this.options.length}`, "data-url": entry.url },
      icon(entry.icon),
      h("span", {}, entry.label),
    );
    const index = this.options.length;
    item.addEventListener("click", () => this.go(item));
    item.addEventListener("pointermove", () => this.selected !== index && this.select(index));
    this.options.push(item);
    return item;
  }

  private select(index: number): void {
    this.selected = index;
    this.options.forEach((option, i) => option.setAttribute("aria-selected", String(i === index)));
    const option = this.options[index];
    this.input.setAttribute("aria-activedescendant", option?.id ?? "");
    option?.scrollIntoView({ block: "nearest" });
  }

  private onKey(event: KeyboardEvent): void {
    const count = this.options.length;
    if (event.isComposing || !count) return;
    if (event.key === "ArrowDown") this.select((this.selected + 1) % count);
    else if (event.key === "ArrowUp") this.select((this.selected + count - 1) % count);
    else if (event.key === "Enter") {
      const option = this.options[this.selected];
      if (option) this.go(option);
    } else return;
    event.preventDefault();
  }

  private go(option: HTMLElement): void {
    this.dialog.close();
    location.assign(option.dataset.url ?? "");
  }
}

/** `?` and the menu's entry show the keys. */
export function setUpHelp(): void {
  const dialog = find<HTMLDialogElement>("[data-help]");
  if (!dialog) return;
  const open = (): void => {
    if (!document.querySelector("dialog[open]")) dialog.showModal();
  };
  for (const button of all("[data-help-open]")) button.addEventListener("click", open);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.addEventListener("keydown", (event) => {
    if (event.key === "?" && !isTyping(event.target) && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      open();
    }
  });
}

/** Apple's keyboards say ⌘ where others say Ctrl. */
export function nameModifierKeys(): void {
  if (!/Mac|iPhone|iPad/.test(navigator.platform)) return;
  for (const key of all("[data-mod]")) key.textContent = "⌘";
  for (const key of all("[data-mod-k]")) key.textContent = "⌘ K";
}
