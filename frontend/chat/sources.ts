// The passages that an answer was given, above it: the best one first, each with its place in the document.
import { h, icon } from "../lib/dom.ts";
import { say, type Strings } from "../lib/text.ts";
import type { Passage, Sources } from "./protocol.ts";

const SNIPPET = 160; // Characters of a passage that is not opened.

interface Actions {
  /** The address of a document's text at this place; "" where there is none. */
  urlOf(passage: Passage, span: [number, number] | null): string;
  withoutDocuments(): void;
}

export class SourcesView {
  readonly root = h("section", { class: "sources", hidden: true });
  private drawn: Sources | null = null;
  private cards = new Map<number, HTMLDetailsElement>();

  constructor(
    private readonly strings: Strings,
    private readonly actions: Actions,
  ) {}

  draw(sources: Sources | null): void {
    if (sources === this.drawn) return;
    const open = new Set([...this.cards].filter(([, card]) => card.open).map(([number]) => number));
    this.drawn = sources;
    this.cards.clear();
    this.root.hidden = sources === null;
    this.root.replaceChildren();
    if (sources) this.fill(sources, open);
  }

  /** Bring a passage into view, opened. */
  show(number: number): void {
    const card = this.cards.get(number);
    if (!card) return;
    card.open = true;
    card.querySelector("summary")?.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }

  private fill(sources: Sources, open: Set<number>): void {
    const { passages } = sources;
    const key = !passages.length ? "sources_none" : sources.is_enough ? "sources" : "sources_nearest";
    this.root.append(h("h3", {}, icon("book"), say(this.strings, key)));
    if (sources.at) this.root.append(h("p", { class: "small muted" }, say(this.strings, "sources_as_of", { day: sources.at })));
    for (const passage of passages) {
      const card = this.card(passage, spansIn(sources, passage));
      card.open = open.has(passage.number);
      this.cards.set(passage.number, card);
      this.root.append(card);
    }
    if (!sources.is_enough) {
      const ask = h("button", { type: "button", class: "btn small" }, icon("again"), say(this.strings, "without_documents"));
      ask.addEventListener("click", () => this.actions.withoutDocuments());
      this.root.append(ask);
    }
  }

  private card(passage: Passage, spans: [number, number][]): HTMLDetailsElement {
    const place = [...passage.headings];
    if (passage.page) place.push(say(this.strings, "page", { page: passage.page }));
    const name = h("span", { class: "source-name" }, passage.name);
    const where = h("span", { class: "source-place muted" }, place.join(" › "));
    const snippet = h("span", { class: "source-snippet muted" }, Array.from(passage.text).slice(0, SNIPPET).join(""));
    const title = h("span", { class: "source-title" }, h("span", {}, name, " ", where), snippet);
    const summary = h("summary", {}, h("span", { class: "cite" }, String(passage.number)), title);
    if (passage.is_superseded) summary.append(h("span", { class: "chip warn" }, say(this.strings, "superseded")));
    const card = h("details", { class: "source" }, summary, h("blockquote", {}, ...marked(passage.text, spans, passage.start)));
    const url = this.actions.urlOf(passage, spans[0] ?? null);
    if (url) card.append(h("a", { href: url, class: "small" }, say(this.strings, "open_source")));
    return card;
  }
}

/** The places of a passage that the answer rests on, as characters of the document's text. */
function spansIn(sources: Sources, { number }: Passage): [number, number][] {
  const found: [number, number][] = [];
  for (const { passages, spans } of sources.support) {
    const span = spans[passages.indexOf(number)];
    if (span) found.push(span);
  }
  return found.sort((one, other) => one[0] - other[0]);
}

function marked(text: string, spans: [number, number][], offset: number): (Node | string)[] {
  const characters = Array.from(text);
  const pieces: (Node | string)[] = [];
  let at = 0;
  for (const [start, end] of spans) {
    const [from, to] = [start - offset, end - offset];
    if (from < at || to > characters.length) continue;
    pieces.push(characters.slice(at, from).join(""), h("mark", {}, characters.slice(from, to).join("")));
    at = to;
  }
  return [...pieces, characters.slice(at).join("")];
}
