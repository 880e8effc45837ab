import { find, h } from "./dom.ts";

/** A short message that goes by itself; read out by screen readers. */
export function toast(text: string): void {
  let shelf = find(".toasts");
  if (!shelf) {
    shelf = h("div", { class: "toasts", role: "status" });
    document.body.append(shelf);
  }
  const note = h("div", { class: "toast" }, text);
  shelf.append(note);
  setTimeout(() => note.remove(), 4000);
}
