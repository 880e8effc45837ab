// Formulas, loaded when the first one arrives. KaTeX builds elements itself, with nothing of the text as markup.
import katex from "katex";

/** Replace the TeX in `target` by its formula; TeX that cannot be read stays as it was written. */
export function renderFormula(target: HTMLElement, tex: string, display: boolean): void {
  try {
    katex.render(tex, target, { displayMode: display, throwOnError: true, trust: false, maxExpand: 200, maxSize: 20 });
  } catch {
    target.textContent = tex;
  }
}
