// The frames of the chat's websocket and the data the page starts from. The server's side is console/chat/.

export type Status = "generating" | "completed" | "stopped" | "interrupted" | "failed" | "timed_out" | "refused";

export type RouteClass = "precise" | "fast";

/** A model that can be asked, and the classes that can be asked for beside it. */
export interface Route {
  name: string;
  label: string;
  classes: RouteClass[];
}

/** Who answered, and why they. */
export interface Answering {
  deployment: string;
  reason: string;
  route_class: RouteClass | "";
}

export interface Meta extends Partial<Answering> {
  model?: string | null;
  ttft_ms?: number | null;
  tokens_per_s?: number | null;
  prompt_tokens?: number | null;
  completion_tokens?: number | null;
}

/** A piece of a document. start, end: characters of the document's text. */
export interface Passage {
  number: number;
  base: string;
  document: string;
  name: string;
  version_id: string;
  version: number;
  is_superseded: boolean;
  start: number;
  end: number;
  page: number | null;
  headings: string[];
  text: string;
}

/** A sentence of the answer (its characters) and the numbers of the passages it rests on, with the words that say it. */
export interface Support {
  start: number;
  end: number;
  passages: number[];
  spans: ([number, number] | null)[];
}

/** What was found in documents for an answer; see console/grounding.py. */
export interface Sources {
  searched: string;
  at: string | null;
  confidence: number;
  is_enough: boolean;
  used: number;
  passages: Passage[];
  support: Support[];
}

export interface ConversationName {
  id: string;
  title: string;
}

export interface HistoryMessage {
  id: string;
  role: "user" | "assistant";
  text: string;
  reasoning: string;
  status: string;
  created: string;
  generation: string | null;
  active: boolean;
  answers: string | null;
  error?: string;
  knowledge: string[]; // Of a question: the bases it was asked of.
  sources: Sources | null; // Of an answer.
  meta: Meta;
}

/** That a limit of a day, a month or storage is nearly ("warning") or quite ("full") used up. */
export interface Quota {
  level: "warning" | "full";
  percent: number;
  message: string;
}

export interface ChatData {
  tenant: { slug: string; name: string };
  conversation: ConversationName | null;
  conversations: (ConversationName & { updated: string })[];
  messages: HistoryMessage[];
  routes: Route[];
  knowledge: { id: string; name: string }[];
  limits: { text_bytes: number; bases: number };
  quota: Quota | null;
}

export type ClientFrame =
  | { type: "ask"; client_id: string; conversation: string | null; text: string; route: string | null; route_class: RouteClass | null; knowledge: string[] }
  | { type: "regenerate"; client_id: string; conversation: string; answer: string; without_documents?: boolean; route_class?: RouteClass | null }
  | { type: "stop"; generation: string }
  | { type: "resume"; generation: string; after: number }
  | { type: "ping" };

export interface Exchange {
  conversation: ConversationName;
  question: { id: string; text: string };
  answer: { id: string };
  generation: string;
  regenerated: string | null;
  sources: Sources | null;
}

export interface Delta {
  type: "delta";
  generation: string;
  seq: number;
  text: string;
  reasoning?: string; // What a reasoning model thinks before it answers.
}

export interface Done {
  type: "done";
  generation: string;
  seq: number;
  status: Status;
  finish_reason: string;
  usage: { prompt_tokens: number | null; completion_tokens: number | null };
  timings: { ttft_ms: number | null; tokens_per_s: number | null };
  error: { code: string; message: string } | null;
  sources: Sources | null;
  answering: Answering;
}

export interface ErrorFrame {
  type: "error";
  code: string;
  message: string;
  client_id?: string;
  generation?: string;
}

export type ServerFrame =
  | { type: "hello"; tenant: string; limits: { text_bytes: number } }
  | ({ type: "accepted"; client_id: string } & Exchange)
  | ({ type: "started" } & Exchange)
  | Delta
  | Done
  | ErrorFrame
  | { type: "title"; conversation: string; title: string }
  | { type: "quota"; quota: Quota | null }
  | { type: "pong" };

const KNOWN = new Set(["hello", "accepted", "started", "delta", "done", "error", "title", "quota", "pong"]);

/** A frame from the server, or null for one that this page is too old to know. */
export function parseFrame(text: string): ServerFrame | null {
  try {
    const value = JSON.parse(text) as { type?: unknown };
    return typeof value?.type === "string" && KNOWN.has(value.type) ? (value as ServerFrame) : null;
  } catch {
    return null;
  }
}
