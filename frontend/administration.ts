// The administration's pages work without this. With it: ticking rows, questions as dialogs, copying, and a word
// before what was typed is lost.
import { all, find, h, must, readJson } from "./lib/dom.ts";
import { setUpCopying } from "./lib/copying.ts";
import type { Strings } from "./lib/text.ts";
import { setUpTicks } from "./lib/ticks.ts";
import { showLocalTimes } from "./lib/times.ts";

const strings = readJson<Strings>("administration-strings");

/** The question of another page. XMLHttpRequest parses it without running anything, where a string would need trust. */
function fetchQuestion(method: string, url: string, body: FormData | null): Promise<HTMLElement | null> {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.responseType = "document";
    request.timeout = 10_000;
    request.onload = () => resolve(request.responseXML?.querySelector<HTMLElement>("[data-confirm]") ?? null);
    request.onerror = request.ontimeout = () => resolve(null);
    request.send(body);
  });
}

function openDialog(question: HTMLElement): void {
  const content = document.importNode(question, true);
  content.className = "";
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "confirm-title" }, content);
  dialog.addEventListener("click", (event) => {
    if (event.target !== dialog && !(event.target as Element).closest("[data-dialog-close]")) return;
    event.preventDefault();
    dialog.close();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  showLocalTimes(dialog);
  dialog.showModal();
  find("input:not([type=hidden]), select, textarea", content)?.focus();
}

/** Links and forms with [data-dialog] lead to a page that asks; what it asks is asked here instead. */
function setUpDialogs(): void {
  document.addEventListener("click", (event) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>("a[data-dialog]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    void fetchQuestion("GET", link.href, null).then((question) => (question ? openDialog(question) : location.assign(link.href)));
  });
  for (const form of all<HTMLFormElement>("form[data-dialog]")) {
    form.addEventListener("submit", (event) => {
      const button = (event as SubmitEvent).submitter;
      event.preventDefault();
      // Not form.action: a button of that name would stand in its place.
      void fetchQuestion("POST", form.getAttribute("action") ?? "", new FormData(form, button)).then((question) => {
        if (question) openDialog(question);
        else resend(form, button);
      });
    });
  }
}

/** Send the form as the browser would have: whatever is wrong is told by the page that comes. */
function resend(form: HTMLFormElement, button: HTMLElement | null): void {
  if (button instanceof HTMLButtonElement) form.append(h("input", { type: "hidden", name: button.name, value: button.value }));
  form.submit();
}

/** form[data-guard]: leaving with changes that were not saved asks first. */
function setUpGuards(): void {
  const changed = new Set<HTMLFormElement>();
  for (const form of all<HTMLFormElement>("form[data-guard]")) {
    if (form.dataset.guard === "changed") changed.add(form); // The server sent back what was not saved.
    form.addEventListener("input", () => changed.add(form));
    form.addEventListener("reset", () => changed.delete(form));
    form.addEventListener("submit", () => changed.delete(form));
  }
  window.addEventListener("beforeunload", (event) => {
    if (changed.size) event.preventDefault();
  });
}

/** input[list=people-found]: suggests people by what is typed. The palette's dialog knows where to ask. */
function setUpSuggestions(): void {
  const list = find<HTMLDataListElement>("#people-found");
  const url = find("[data-found]")?.dataset.found;
  if (!list || !url) return;
  for (const input of all<HTMLInputElement>("input[list=people-found]")) {
    let waiting: ReturnType<typeof setTimeout> | undefined;
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(async () => {
        const words = input.value.trim();
        if (words.length < 2) return;
        const answer = await fetch(`${url}?q=${encodeURIComponent(words)}`).catch(() => null);
        if (!answer?.ok) return; // The address can still be typed.
        const { people } = (await answer.json()) as { people: { label: string; email: string }[] };
        list.replaceChildren(...people.map(({ label, email }) => h("option", { value: email }, label)));
      }, 200);
    });
  }
}

/** [data-duties]: ticking permissions of both duties says at once that no role may join them. */
function setUpDuties(form: HTMLElement): void {
  const hint = must("[data-duties-hint]", form);
  const boxes = all<HTMLInputElement>("input[data-duty]", form);
  const show = (): void => {
    const duties = new Set(boxes.filter((box) => box.checked).map((box) => box.dataset.duty));
    hint.hidden = duties.size < 2;
  };
  form.addEventListener("input", show);
  show();
}

for (const form of all<HTMLFormElement>("form:has([data-bulk])")) setUpTicks(form, strings);
setUpDialogs();
setUpGuards();
setUpCopying(strings);
setUpSuggestions();
for (const form of all("[data-duties]")) setUpDuties(form);
