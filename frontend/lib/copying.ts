import { all, must } from "./dom.ts";
import { say, type Strings } from "./text.ts";
import { toast } from "./toast.ts";

/** [data-copy="selector"]: the text of that element, or the value of that input, to the clipboard. */
export function setUpCopying(strings: Strings): void {
  for (const button of all<HTMLButtonElement>("[data-copy]")) {
    button.addEventListener("click", () => {
      const source = must(button.dataset.copy ?? "");
      const text = source instanceof HTMLInputElement || source instanceof HTMLTextAreaElement ? source.value : source.textContent;
      navigator.clipboard
        .writeText(text ?? "")
        .then(() => toast(say(strings, "copied")))
        .catch(() => toast(say(strings, "copy_failed")));
    });
  }
  for (const input of all<HTMLInputElement>(".secret input")) input.addEventListener("focus", () => input.select());
}
