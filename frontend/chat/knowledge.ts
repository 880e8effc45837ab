// Which knowledge bases the next question is asked of.
import { find, h, must } from "../lib/dom.ts";
import { say, type Strings } from "../lib/text.ts";

export interface BaseName {
  id: string;
  name: string;
}

export class KnowledgePicker {
  private readonly chosen = new Set<string>();

  constructor(
    private readonly bases: BaseName[],
    private readonly strings: Strings,
    private readonly most: number,
    private readonly changed: (ids: string[]) => void,
  ) {
    const root = find("[data-knowledge]");
    if (!root || !bases.length) return;
    root.hidden = false;
    const list = must("ul", root);
    for (const { id, name } of bases) {
      const box = h("input", { type: "checkbox", value: id });
      box.addEventListener("change", () => this.choose(box));
      list.append(h("li", {}, h("label", { class: "check" }, box, h("span", {}, name))));
    }
  }

  get ids(): string[] {
    return this.bases.filter(({ id }) => this.chosen.has(id)).map(({ id }) => id);
  }

  /** Those of these that can still be asked. */
  set(ids: string[]): void {
    this.chosen.clear();
    for (const { id } of this.bases) if (ids.includes(id) && this.chosen.size < this.most) this.chosen.add(id);
    this.draw();
  }

  private choose(box: HTMLInputElement): void {
    if (box.checked && this.chosen.size < this.most) this.chosen.add(box.value);
    else this.chosen.delete(box.value);
    this.draw();
    this.changed(this.ids);
  }

  private draw(): void {
    const root = find("[data-knowledge]");
    if (!root) return;
    for (const box of root.querySelectorAll<HTMLInputElement>("input")) {
      box.checked = this.chosen.has(box.value);
      box.disabled = !box.checked && this.chosen.size >= this.most;
    }
    const [only] = this.bases.filter(({ id }) => this.chosen.has(id));
    const count = this.chosen.size;
    const words = say(this.strings, count ? "knowledge_some" : "knowledge_none", { count });
    must("[data-knowledge-label]", root).textContent = count === 1 ? (only?.name ?? words) : words;
    root.classList.toggle("chosen", count > 0);
  }
}
