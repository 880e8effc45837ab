// The triage page works without this. With it: one key for each thing to do, and reasons that are written often.
import { all, find, isTyping } from "./lib/dom.ts";

const form = find<HTMLFormElement>("form[data-decide]");
const reason = form && find<HTMLTextAreaElement>("textarea", form);
let chosen: HTMLButtonElement | null = null;

/** Decide so: at once when there is a reason; else ask for it first, and then on Ctrl or Cmd with Enter. */
function choose(button: HTMLButtonElement): void {
  if (!form || !reason) return;
  chosen = button;
  for (const other of all<HTMLButtonElement>("[data-outcome]", form)) other.classList.toggle("primary", other === button);
  if (reason.value.trim()) form.requestSubmit(button);
  else reason.focus();
}

function act(key: string): boolean {
  const outcome = find<HTMLButtonElement>(`[data-outcome="${key}"]`);
  if (outcome) {
    choose(outcome);
    return true;
  }
  const field = find<HTMLTextAreaElement>(`[data-focus-key="${key}"]`);
  const control = find(`[data-key="${key}"]`);
  field?.focus();
  control?.click();
  return field !== null || control !== null;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target === reason) {
    const button = chosen ?? form?.querySelector<HTMLButtonElement>('button[value="approve"]');
    if (button) form?.requestSubmit(button);
    return;
  }
  if (event.key === "Escape" && isTyping(event.target)) (event.target as HTMLElement).blur();
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || find("dialog[open]")) return;
  if (/^[a-z]$/.test(event.key) && act(event.key)) event.preventDefault();
});

for (const preset of all<HTMLButtonElement>("[data-preset]")) {
  preset.addEventListener("click", () => {
    if (!reason) return;
    reason.value = preset.textContent ?? "";
    reason.focus();
  });
}
