// Deployments: what changes by itself, fresh every two seconds. The server draws it; parts that differ are replaced.
import { all, find, must, readJson } from "./lib/dom.ts";
import { page, poll } from "./lib/poll.ts";
import type { Strings } from "./lib/text.ts";
import { showLocalTimes } from "./lib/times.ts";

const EVERY_MS = 2000;

/** As the server drew each part: in the page itself times stand in the reader's zone. */
const drawn = new Map<string, string>();

function show(fresh: Document): void {
  for (const part of all("[data-fresh]", fresh)) {
    const old = document.getElementById(part.id);
    if (!old || drawn.get(part.id) === part.outerHTML) continue;
    drawn.set(part.id, part.outerHTML);
    const made = document.importNode(part, true);
    for (const each of all<HTMLDetailsElement>("details[id]", made)) {
      each.open = find<HTMLDetailsElement>(`#${CSS.escape(each.id)}`, old)?.open ?? each.open;
    }
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    old.replaceWith(made);
    showLocalTimes(made);
    if (focused) twin(focused, made)?.focus({ preventScroll: true });
  }
}

/** What stands now where somebody's focus was. */
function twin(focused: Element, made: ParentNode): HTMLElement | null {
  if (focused.id) return find(`#${CSS.escape(focused.id)}`, made);
  const href = focused.getAttribute("href");
  return href === null ? null : find(`a[href="${CSS.escape(href)}"]`, made);
}

const strings = readJson<Strings>("deployments-strings");
poll<Document>(must("#deployments-script").dataset.url ?? "", EVERY_MS, strings, show, page);
