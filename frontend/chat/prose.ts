// Markdown on the page: renders a growing text, keeping every block that did not change, so that a selection, a
// scrolled table or a focused button in an earlier paragraph survives the next word.
import { h, icon, must } from "../lib/dom.ts";
import { say, type Strings } from "../lib/text.ts";
import { toast } from "../lib/toast.ts";
import { createMarkdown } from "./markdown.ts";
import { createSanitiser, type Sanitiser } from "./sanitise.ts";

type Highlighter = typeof import("./highlight.ts");
type Formulas = typeof import("./formula.ts");

export class ProseRenderer {
  private readonly markdown: (text: string, passages?: number) => string;
  private readonly sanitiser: Sanitiser = createSanitiser(window);
  private readonly rendered = new WeakMap<HTMLElement, Node[]>();
  private highlighter: Highlighter | null = null;
  private formulas: Formulas | null = null;
  private loadingHighlighter: Promise<void> | null = null;
  private loadingFormulas: Promise<void> | null = null;

  constructor(private readonly strings: Strings) {
    this.markdown = createMarkdown((name) => say(strings, "image", { name }));
  }

  /** Make `target` show `text`. cited: what shows a passage; passages: how many there are. */
  render(target: HTMLElement, text: string, passages = 0, cited: (number: number) => void = () => undefined): void {
    const fresh = [...this.sanitiser.answer(this.markdown(text, passages)).childNodes].filter((node) => node.nodeType === 1);
    const before = this.rendered.get(target) ?? [];
    let same = 0;
    while (same < fresh.length && before[same]?.isEqualNode(fresh[same] ?? null)) same += 1;
    while (target.childNodes.length > same) target.lastChild?.remove();
    // The copies stay as sanitised; what goes on the page is decorated, and so never compares equal.
    this.rendered.set(target, [...before.slice(0, same), ...fresh.slice(same).map((node) => node.cloneNode(true))]);
    for (const node of fresh.slice(same)) target.append(this.decorated(node as HTMLElement, cited));
  }

  private decorated(block: HTMLElement, cited: (number: number) => void): HTMLElement {
    const holder = h("div", {}, block);
    for (const pre of holder.querySelectorAll("pre")) pre.replaceWith(this.codeBlock(pre));
    for (const table of holder.querySelectorAll("table")) {
      const wrap = h("div", { class: "table-wrap", tabindex: 0 });
      table.replaceWith(wrap);
      wrap.append(table);
    }
    for (const span of holder.querySelectorAll<HTMLElement>(".math-inline, .math-display")) this.formula(span);
    for (const span of holder.querySelectorAll(".cite")) span.replaceWith(this.citation(Number(span.textContent), cited));
    for (const span of holder.querySelectorAll<HTMLElement>(".unsupported")) {
      const words = say(this.strings, "unsupported");
      span.title = words;
      span.append(h("span", { class: "visually-hidden" }, ` ${words}`));
    }
    return holder.firstElementChild as HTMLElement;
  }

  private citation(number: number, cited: (number: number) => void): HTMLElement {
    const label = say(this.strings, "passage", { number });
    const button = h("button", { type: "button", class: "cite", "aria-label": label, title: label }, String(number));
    button.addEventListener("click", () => cited(number));
    return button;
  }

  private codeBlock(pre: HTMLElement): HTMLElement {
    const code = pre.querySelector("code") ?? pre;
    const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
    const copy = h(
      "button",
      { type: "button", class: "icon-btn tiny", title: this.strings.copy_code, "aria-label": this.strings.copy_code },
      icon("copy"),
    );
    copy.addEventListener("click", () => void copyText(code.textContent ?? "", copy, this.strings));
    const label = h("span", {}, language || say(this.strings, "code"));
    const block = h("div", { class: "codeblock" }, h("div", { class: "codeblock-head" }, label, copy));
    block.append(h("pre", { tabindex: 0 }, code === pre ? (pre.textContent ?? "") : code));
    if (language) this.highlight(code as HTMLElement, language);
    return block;
  }

  private highlight(code: HTMLElement, language: string): void {
    if (this.highlighter) {
      const html = this.highlighter.highlighted(code.textContent ?? "", language);
      if (html !== null) code.replaceChildren(this.sanitiser.highlighted(html));
      return;
    }
    this.loadingHighlighter ??= import("./highlight.ts").then((module) => void (this.highlighter = module));
    void this.loadingHighlighter.then(() => code.isConnected && this.highlight(code, language)).catch(() => undefined);
  }

  private formula(span: HTMLElement): void {
    const tex = span.textContent ?? "";
    const display = span.className === "math-display";
    if (this.formulas) return this.formulas.renderFormula(span, tex, display);
    this.loadingFormulas ??= this.loadFormulas();
    void this.loadingFormulas
      .then(() => span.isConnected && this.formulas?.renderFormula(span, tex, display))
      .catch(() => undefined);
  }

  private async loadFormulas(): Promise<void> {
    const href = must<HTMLScriptElement>("#chat-script").dataset.mathStyle ?? "";
    const style = h("link", { rel: "stylesheet", href });
    const [module] = await Promise.all([
      import("./formula.ts"),
      new Promise((resolve, reject) => {
        style.addEventListener("load", resolve);
        style.addEventListener("error", reject);
        document.head.append(style);
      }),
    ]);
    this.formulas = module;
  }
}

/** Copy, and say so on the button for a moment. */
export async function copyText(text: string, button: HTMLElement, strings: Strings): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    toast(say(strings, "copy_failed"));
    return;
  }
  button.replaceChildren(icon("check"));
  toast(say(strings, "copied"));
  setTimeout(() => button.replaceChildren(icon("copy")), 1500);
}
