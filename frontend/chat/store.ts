// What the thread holds, and how the server's frames change it. Knows nothing of the page or the socket.
//
// Deltas of one answer are numbered 1, 2, 3 … and may arrive twice, after a reconnection or in a second tab.
// Only the next number is taken: a smaller one was seen, a larger one means that something is missing and must
// be asked for again. So no character is lost and none is repeated.
import type { Delta, Done, Exchange, HistoryMessage, Meta, Sources, Status } from "./protocol.ts";

export interface Answer {
  id: string;
  generation: string | null;
  text: string;
  reasoning: string;
  seq: number; // The last number taken.
  status: Status;
  finishReason: string;
  error: string; // What the server said went wrong, for people.
  sources: Sources | null; // What was found in documents for it.
  meta: Meta;
}

export interface Turn {
  key: string; // Stable while the question has no id from the server yet.
  questionId: string | null;
  text: string;
  answers: Answer[];
  shown: number; // Which of the answers is on screen.
}

export type Taken = "new" | "seen" | "gap" | "unknown";

export class Store {
  readonly turns: Turn[] = [];
  private readonly byGeneration = new Map<string, Answer>();

  /** Begin with what the server has of a conversation. */
  load(messages: HistoryMessage[]): void {
    const byQuestion = new Map<string, Turn>();
    for (const message of messages) {
      if (message.role === "user") {
        const turn = newTurn(message.id, message.id, message.text);
        byQuestion.set(message.id, turn);
        this.turns.push(turn);
      } else {
        const turn = byQuestion.get(message.answers ?? "");
        if (turn) this.addAnswer(turn, answerOf(message));
      }
    }
  }

  /** A question on its way to the server, shown at once. */
  addPending(clientId: string, text: string): Turn {
    const turn = newTurn(clientId, null, text);
    this.turns.push(turn);
    return turn;
  }

  dropPending(clientId: string): Turn | null {
    const index = this.turns.findIndex((turn) => turn.key === clientId && turn.questionId === null);
    return index < 0 ? null : (this.turns.splice(index, 1)[0] ?? null);
  }

  /** An answer was begun, here (with the question's client id) or in another tab. Repeating it changes nothing. */
  begin(exchange: Exchange, clientId: string | null): { turn: Turn; answer: Answer } {
    const turn = this.turnFor(exchange, clientId);
    const known = turn.answers.find((answer) => answer.id === exchange.answer.id);
    if (known) return { turn, answer: known };
    const answer: Answer = {
      id: exchange.answer.id,
      generation: exchange.generation,
      text: "",
      reasoning: "",
      seq: 0,
      status: "generating",
      finishReason: "",
      error: "",
      sources: exchange.sources,
      meta: {},
    };
    this.addAnswer(turn, answer);
    return { turn, answer };
  }

  take(delta: Delta): Taken {
    const answer = this.byGeneration.get(delta.generation);
    if (!answer || answer.status !== "generating") return "unknown";
    if (delta.seq <= answer.seq) return "seen";
    if (delta.seq > answer.seq + 1) return "gap";
    answer.seq = delta.seq;
    answer.text += delta.text;
    answer.reasoning += delta.reasoning ?? "";
    return "new";
  }

  /** The end marker carries the number after the last delta. */
  finish(done: Done): Taken {
    const answer = this.byGeneration.get(done.generation);
    if (!answer) return "unknown";
    if (answer.status !== "generating") return "seen";
    if (done.seq > answer.seq + 1) return "gap";
    answer.status = done.status;
    answer.finishReason = done.finish_reason;
    answer.error = done.error?.message ?? "";
    answer.sources = done.sources ?? answer.sources;
    answer.meta = { ...answer.meta, ...done.answering, ...done.timings, ...done.usage };
    return "new";
  }

  /** Nothing more can come of a generation; what there is stays. */
  lose(generation: string, message: string): void {
    const answer = this.byGeneration.get(generation);
    if (answer?.status !== "generating") return;
    answer.status = "interrupted";
    answer.error = message;
  }

  answerOf(generation: string): Answer | null {
    return this.byGeneration.get(generation) ?? null;
  }

  turnOf(answer: Answer): Turn | null {
    return this.turns.find((turn) => turn.answers.includes(answer)) ?? null;
  }

  running(): Answer[] {
    return [...this.byGeneration.values()].filter((answer) => answer.status === "generating");
  }

  private turnFor(exchange: Exchange, clientId: string | null): Turn {
    const { id, text } = exchange.question;
    const known = this.turns.find((turn) => turn.questionId === id);
    if (known) return known;
    const pending = this.turns.find((turn) => turn.questionId === null && turn.key === clientId);
    if (pending) {
      pending.questionId = id;
      return pending;
    }
    const turn = newTurn(id, id, text);
    this.turns.push(turn);
    return turn;
  }

  private addAnswer(turn: Turn, answer: Answer): void {
    turn.answers.push(answer);
    turn.shown = turn.answers.length - 1;
    if (answer.generation) this.byGeneration.set(answer.generation, answer);
  }
}

function newTurn(key: string, questionId: string | null, text: string): Turn {
  return { key, questionId, text, answers: [], shown: 0 };
}

function answerOf(message: HistoryMessage): Answer {
  return {
    id: message.id,
    generation: message.generation,
    // What is still being written comes by the socket, from its first character.
    text: message.active ? "" : message.text,
    reasoning: message.active ? "" : message.reasoning,
    seq: 0,
    status: message.active ? "generating" : (message.status as Status),
    finishReason: "",
    error: "",
    sources: message.sources,
    meta: message.meta,
  };
}
