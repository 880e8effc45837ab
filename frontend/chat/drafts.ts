// What was written but not yet taken by the server, kept in this tab so that neither a reload nor an error loses it.
// Signing out clears it.

import type { RouteClass } from "./protocol.ts";

export interface Outgoing {
  client_id: string;
  text: string;
  route: string | null;
  route_class: RouteClass | null;
  knowledge: string[];
}

const PREFIX = "custos:";

export class Drafts {
  constructor(
    private readonly owner: string,
    private conversation: string | null,
  ) {}

  moveTo(conversation: string): void {
    const text = this.text;
    const outgoing = this.outgoing;
    this.text = "";
    this.outgoing = null;
    this.conversation = conversation;
    this.text = text;
    this.outgoing = outgoing;
  }

  get text(): string {
    return this.read("draft") ?? "";
  }

  set text(value: string) {
    this.write("draft", value || null);
  }

  /** The question that was sent but not yet accepted. */
  get outgoing(): Outgoing | null {
    const kept = this.read("outgoing");
    return kept ? (JSON.parse(kept) as Outgoing) : null;
  }

  set outgoing(value: Outgoing | null) {
    this.write("outgoing", value && JSON.stringify(value));
  }

  /** The knowledge bases that were last asked, for the next conversation in this tab. */
  get knowledge(): string[] {
    const kept = this.read("knowledge");
    return kept ? (JSON.parse(kept) as string[]) : [];
  }

  set knowledge(ids: string[]) {
    this.write("knowledge", JSON.stringify(ids));
  }

  private key(kind: string): string {
    return `${PREFIX}${kind}:${this.owner}:${kind === "knowledge" ? "" : (this.conversation ?? "new")}`;
  }

  private read(kind: string): string | null {
    try {
      return sessionStorage.getItem(this.key(kind));
    } catch {
      return null; // Storage is off or full: the page works, only a reload forgets.
    }
  }

  private write(kind: string, value: string | null): void {
    try {
      if (value === null) sessionStorage.removeItem(this.key(kind));
      else sessionStorage.setItem(this.key(kind), value);
    } catch {
      // As above.
    }
  }
}

export function forgetDrafts(): void {
  try {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
  } catch {
    // Nothing was kept.
  }
}
