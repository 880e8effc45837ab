// The thread on the page: one element per turn, changed in place, drawn at most once a frame.
import { h, icon, iconButton } from "../lib/dom.ts";
import { duration, number, say, type Strings } from "../lib/text.ts";
import { annotated } from "./citations.ts";
import { copyText, type ProseRenderer } from "./prose.ts";
import type { Passage, RouteClass } from "./protocol.ts";
import { SourcesView } from "./sources.ts";
import type { Answer, Store, Turn } from "./store.ts";
import { partsOf } from "./think.ts";

/** How to answer again. */
export interface How {
  withoutDocuments?: boolean;
  routeClass?: RouteClass | null;
}

interface Actions {
  regenerate(answer: Answer, how?: How): void;
  /** Whether a class can be asked for beside a route. */
  isOffered(route: string, routeClass: RouteClass): boolean;
  /** The address of a document's text at this place. */
  sourceUrl(passage: Passage, span: [number, number] | null): string;
  /** Called after the page changed, so that the reader's place can be kept. */
  drawn(): void;
}

/** The parts of an answer's element that change. */
interface AnswerView {
  root: HTMLElement;
  thinking: HTMLDetailsElement;
  thinkingLabel: HTMLElement;
  reasoning: HTMLElement;
  prose: HTMLElement;
  sources: SourcesView;
  waiting: HTMLElement;
  note: HTMLElement;
  foot: HTMLElement;
}

interface TurnView {
  root: HTMLElement;
  question: HTMLElement;
  answers: Map<string, AnswerView>;
}

/** Of the time, drawing may take at most one part in this many: a long answer is drawn less often, not slower. */
const SHARE = 4;

export class Thread {
  private readonly turns = new Map<Turn, TurnView>();
  private readonly stale = new Set<Turn>();
  private frame = 0;
  private notBefore = 0;

  constructor(
    private readonly root: HTMLElement,
    private readonly store: Store,
    private readonly prose: ProseRenderer,
    private readonly strings: Strings,
    private readonly actions: Actions,
  ) {}

  drawAll(): void {
    for (const turn of this.store.turns) this.changed(turn);
  }

  /** The turn will be drawn with the next frame. */
  changed(turn: Turn): void {
    this.stale.add(turn);
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  remove(turn: Turn): void {
    this.turns.get(turn)?.root.remove();
    this.turns.delete(turn);
    this.stale.delete(turn);
  }

  private draw(): void {
    const start = performance.now();
    if (start < this.notBefore) {
      this.frame = requestAnimationFrame(() => this.draw());
      return;
    }
    this.frame = 0;
    for (const turn of this.stale) this.drawTurn(turn);
    this.stale.clear();
    this.actions.drawn();
    const took = performance.now() - start;
    this.notBefore = took < 4 ? 0 : start + took * SHARE;
  }

  private drawTurn(turn: Turn): void {
    const view = this.turns.get(turn) ?? this.createTurn(turn);
    view.question.classList.toggle("unsent", turn.questionId === null);
    const answer = turn.answers[turn.shown];
    for (const [id, { root }] of view.answers) root.hidden = id !== answer?.id;
    if (!answer) return;
    let answerView = view.answers.get(answer.id);
    if (!answerView) {
      answerView = this.createAnswer(answer);
      view.answers.set(answer.id, answerView);
      view.root.append(answerView.root);
    }
    this.drawAnswer(turn, answer, answerView);
  }

  private createTurn(turn: Turn): TurnView {
    const question = h(
      "article",
      { class: "message question" },
      h("h2", { class: "visually-hidden" }, say(this.strings, "you")),
      h("div", { class: "bubble" }, turn.text),
      h("p", { class: "unsent-note" }, say(this.strings, "not_sent")),
    );
    const root = h("div", { class: "stack" }, question);
    const view = { root, question, answers: new Map<string, AnswerView>() };
    this.turns.set(turn, view);
    this.root.append(root);
    return view;
  }

  private createAnswer(answer: Answer): AnswerView {
    const sources = new SourcesView(this.strings, {
      urlOf: (passage, span) => this.actions.sourceUrl(passage, span),
      withoutDocuments: () => this.actions.regenerate(answer, { withoutDocuments: true }),
    });
    const thinkingLabel = h("span");
    const chevron = icon("chevron");
    chevron.classList.add("turn");
    const reasoning = h("div", { class: "prose" });
    const thinking = h("details", { class: "think" }, h("summary", {}, chevron, thinkingLabel), reasoning);
    const prose = h("div", { class: "prose" });
    const waiting = h("p", { class: "waiting" }, say(this.strings, "waiting"));
    const note = h("div", { class: "message-note" });
    const foot = h("div", { class: "message-foot" });
    const heading = h("h2", { class: "visually-hidden" }, say(this.strings, "assistant"));
    const root = h("article", { class: "message answer" }, heading, sources.root, thinking, waiting, prose, note, foot);
    return { root, thinking, thinkingLabel, reasoning, prose, sources, waiting, note, foot };
  }

  private drawAnswer(turn: Turn, answer: Answer, view: AnswerView): void {
    const growing = answer.status === "generating";
    const said = { ...answer, text: annotated(answer.text, answer.sources) };
    const { reasoning, answer: text, thinking } = partsOf(said, growing);
    view.root.classList.toggle("streaming", growing);
    view.waiting.hidden = !growing || reasoning !== null || text !== "";
    view.thinking.hidden = !reasoning;
    view.thinkingLabel.textContent = say(this.strings, thinking ? "reasoning_now" : "reasoning");
    if (reasoning) this.prose.render(view.reasoning, reasoning);
    view.sources.draw(answer.sources);
    const cited = (number: number): void => view.sources.show(number);
    this.prose.render(view.prose, text, answer.sources?.used ?? 0, cited);
    this.drawNote(answer, view.note);
    if (growing) view.foot.replaceChildren();
    else this.drawFoot(turn, answer, partsOf(answer, growing).answer, view.foot);
  }

  /** What became of an answer that is not whole, and what to do about it. */
  private drawNote(answer: Answer, note: HTMLElement): void {
    const words = this.wordsOn(answer);
    note.hidden = words === "";
    if (note.hidden) return;
    note.classList.toggle("bad", answer.status !== "stopped" && answer.status !== "completed");
    const retry = h("button", { type: "button", class: "btn small" }, icon("again"), say(this.strings, "try_again"));
    retry.addEventListener("click", () => this.actions.regenerate(answer));
    note.replaceChildren(icon(answer.status === "stopped" ? "stop" : "info"), h("p", {}, words), retry);
  }

  private wordsOn({ status, error, finishReason }: Answer): string {
    if (status === "stopped") return `${say(this.strings, status)} ${error}`.trim();
    if (error) return error; // The server's words about a failure say more than the general ones.
    if (status === "completed") return finishReason === "length" ? say(this.strings, "length") : "";
    return status === "generating" ? "" : say(this.strings, status);
  }

  private drawFoot(turn: Turn, answer: Answer, text: string, foot: HTMLElement): void {
    const copy = iconButton("copy", say(this.strings, "copy"), () => void copyText(text, copy, this.strings));
    const again = iconButton("again", say(this.strings, "regenerate"), () => this.actions.regenerate(answer));
    const buttons = [...(text ? [copy] : []), again, ...this.precisely(answer)];
    foot.replaceChildren(...(turn.answers.length > 1 ? [this.versions(turn)] : []), ...buttons, this.meta(answer));
  }

  /** An answer of the fast class can be asked of the precise one. */
  private precisely(answer: Answer): HTMLElement[] {
    const { model, route_class } = answer.meta;
    if (route_class !== "fast" || !this.actions.isOffered(model ?? "", "precise")) return [];
    const how = { routeClass: "precise" } as const;
    const label = say(this.strings, "ask_precise");
    return [h("button", { type: "button", class: "btn small", onclick: () => this.actions.regenerate(answer, how) }, label)];
  }

  private versions(turn: Turn): HTMLElement {
    const count = turn.answers.length;
    const step = (by: number, label: string, name: string): HTMLButtonElement => {
      const button = iconButton(name, say(this.strings, label), () => this.show(turn, turn.shown + by, label));
      button.disabled = turn.shown + by < 0 || turn.shown + by >= count;
      button.dataset.step = label;
      return button;
    };
    const label = say(this.strings, "version", { number: turn.shown + 1, count });
    const place = h("span", { title: label }, h("span", { "aria-hidden": "true" }, `${turn.shown + 1}/${count}`));
    place.append(h("span", { class: "visually-hidden" }, label));
    return h("span", { class: "versions" }, step(-1, "earlier", "left"), place, step(1, "later", "chevron"));
  }

  private show(turn: Turn, index: number, pressed: string): void {
    turn.shown = index;
    this.drawTurn(turn);
    this.actions.drawn();
    const answer = turn.answers[index];
    const foot = answer && this.turns.get(turn)?.answers.get(answer.id)?.foot;
    const button = foot?.querySelector<HTMLButtonElement>(`[data-step="${pressed}"]:enabled`);
    (button ?? foot?.querySelector<HTMLButtonElement>("[data-step]:enabled"))?.focus();
  }

  private meta({ meta }: Answer): HTMLElement {
    const parts: string[] = [];
    if (meta.model) parts.push(meta.model);
    if (meta.deployment && meta.deployment !== meta.model) parts.push(meta.deployment);
    if (meta.reason) parts.push(say(this.strings, "chosen", { reason: meta.reason }));
    if (meta.ttft_ms != null) parts.push(say(this.strings, "ttft", { value: duration(meta.ttft_ms) }));
    if (meta.tokens_per_s != null) parts.push(say(this.strings, "speed", { value: number(meta.tokens_per_s, 1) }));
    if (meta.completion_tokens) parts.push(say(this.strings, "tokens", { count: number(meta.completion_tokens) }));
    return h("span", { class: "message-meta" }, ...parts.map((part) => h("span", {}, part)));
  }
}
