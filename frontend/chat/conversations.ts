// The person's conversations in the sidebar: filter, rename, delete.
import { find, h, icon, must } from "../lib/dom.ts";
import { best } from "../lib/match.ts";
import { say, type Strings } from "../lib/text.ts";
import { toast } from "../lib/toast.ts";
import type { ConversationName } from "./protocol.ts";

const FILTER_FROM = 8;

export class Conversations {
  private readonly list = must("[data-conversations]");
  private readonly none = must("[data-conversations-none]");
  private readonly filter = must<HTMLInputElement>("[data-filter]");
  private readonly dialog = must<HTMLDialogElement>("[data-delete]");
  private renaming: string | null = null;

  constructor(
    private readonly url: string,
    private items: ConversationName[],
    private current: string | null,
    private readonly strings: Strings,
    private readonly onTitle: (id: string, title: string) => void,
  ) {
    this.filter.addEventListener("input", () => this.draw());
    this.draw();
  }

  urlOf(id: string): string {
    return `${this.url}${id}/`;
  }

  /** A conversation got something new: it goes to the top. */
  touch({ id, title }: ConversationName): void {
    if (this.items[0]?.id === id && this.items[0].title === title) return;
    this.items = [{ id, title }, ...this.items.filter((item) => item.id !== id)];
    this.draw();
  }

  setTitle(id: string, title: string): void {
    const item = this.items.find((candidate) => candidate.id === id);
    if (!item || item.title === title) return;
    item.title = title;
    this.draw();
  }

  setCurrent(id: string): void {
    this.current = id;
    this.draw();
  }

  private draw(): void {
    if (this.renaming) return;
    this.filter.hidden = this.items.length < FILTER_FROM;
    const query = this.filter.value.trim();
    const shown = query ? best(this.items, query, (item) => item.title, 200) : this.items;
    this.list.replaceChildren(...shown.map((item) => this.row(item)));
    this.none.hidden = shown.length > 0;
    this.none.textContent = say(this.strings, query ? "none_found" : "none_yet");
  }

  private row(item: ConversationName): HTMLElement {
    const link = h("a", { href: this.urlOf(item.id), title: item.title }, item.title);
    if (item.id === this.current) link.setAttribute("aria-current", "page");
    const rename = h("button", { type: "button", class: "menu-item" }, icon("edit"), say(this.strings, "rename"));
    const remove = h("button", { type: "button", class: "menu-item danger" }, icon("trash"), say(this.strings, "delete"));
    const menu = h(
      "details",
      { class: "menu", "data-menu": true },
      h("summary", { class: "icon-btn tiny", "aria-label": say(this.strings, "options", { title: item.title }) }, icon("more")),
      h("div", { class: "menu-panel" }, rename, remove),
    );
    const row = h("li", { class: "conversation" }, link, menu);
    rename.addEventListener("click", () => this.rename(item, row));
    remove.addEventListener("click", () => {
      menu.open = false;
      this.askToDelete(item);
    });
    return row;
  }

  private rename(item: ConversationName, row: HTMLElement): void {
    const input = h("input", {
      class: "input conversations-filter",
      value: item.title,
      maxlength: 120,
      "aria-label": say(this.strings, "title_label"),
    });
    const form = h("form", {}, input);
    this.renaming = item.id;
    row.replaceChildren(form);
    input.select();
    const finish = (): void => {
      this.renaming = null;
      this.draw();
    };
    const save = async (): Promise<void> => {
      if (this.renaming !== item.id) return;
      const title = input.value.trim();
      finish();
      if (title && title !== item.title) await this.saveTitle(item, title);
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void save().then(() => this.focusRow(item.id));
    });
    input.addEventListener("blur", () => void save());
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      finish();
      this.focusRow(item.id);
    });
  }

  private focusRow(id: string): void {
    find(`[data-conversations] a[href="${this.urlOf(id)}"]`)?.focus();
  }

  private async saveTitle(item: ConversationName, title: string): Promise<void> {
    const answer = await this.post(`${this.urlOf(item.id)}rename`, { title });
    if (!answer) return toast(say(this.strings, "rename_failed"));
    const body = (await answer.json()) as { title?: string; error?: { message: string } };
    if (!answer.ok || body.title === undefined) {
      return toast(body.error?.message ?? say(this.strings, "rename_failed"));
    }
    this.setTitle(item.id, body.title);
    this.onTitle(item.id, body.title);
  }

  private askToDelete(item: ConversationName): void {
    must("[data-delete-name]", this.dialog).textContent = item.title;
    this.dialog.returnValue = "";
    this.dialog.onclose = () => this.dialog.returnValue === "delete" && void this.remove(item);
    this.dialog.showModal();
  }

  private async remove(item: ConversationName): Promise<void> {
    const answer = await this.post(`${this.urlOf(item.id)}delete`, {});
    if (!answer?.ok && answer?.status !== 404) return toast(say(this.strings, "delete_failed"));
    if (item.id === this.current) return location.assign(this.url);
    this.items = this.items.filter(({ id }) => id !== item.id);
    this.draw();
  }

  /** Null when the server could not be reached. */
  private async post(url: string, values: Record<string, string>): Promise<Response | null> {
    const token = must<HTMLInputElement>("input[name=csrfmiddlewaretoken]").value;
    try {
      return await fetch(url, { method: "POST", headers: { "X-CSRFToken": token }, body: new URLSearchParams(values) });
    } catch {
      return null;
    }
  }
}
