// The chat page: ties the store, the socket and the page together.
import { Composer, setUpRoutes } from "./chat/composer.ts";
import { Conversations } from "./chat/conversations.ts";
import { Drafts } from "./chat/drafts.ts";
import { ProseRenderer } from "./chat/prose.ts";
import type { ChatData, ErrorFrame, Exchange, Passage, Quota, RouteClass, ServerFrame } from "./chat/protocol.ts";
import { KnowledgePicker } from "./chat/knowledge.ts";
import { Follower } from "./chat/scroll.ts";
import { ChatSocket, type Connection } from "./chat/socket.ts";
import { Store, type Answer } from "./chat/store.ts";
import { partsOf } from "./chat/think.ts";
import { Thread, type How } from "./chat/thread.ts";
import { icon, isTyping, must, readJson } from "./lib/dom.ts";
import { say, type Strings } from "./lib/text.ts";

const RESUME_AGAIN_MS = 2000;
const ANNOUNCED = 300; // Characters of an answer that a screen reader is told when it is complete.

class ChatPage {
  private readonly root = must("[data-chat]");
  private readonly data = readJson<ChatData>("chat-data");
  private readonly strings = readJson<Strings>("chat-strings");
  private readonly store = new Store();
  private readonly drafts: Drafts;
  private readonly thread: Thread;
  private readonly follower: Follower;
  private readonly composer: Composer;
  private readonly conversations: Conversations;
  private readonly socket: ChatSocket;
  private readonly route: ReturnType<typeof setUpRoutes>;
  private readonly knowledge: KnowledgePicker;
  private conversation: string | null;
  private regenerating: { client_id: string; answer: string; without_documents: boolean; route_class: RouteClass | null } | null = null;
  private readonly resuming = new Map<string, number>(); // Generation → the seq after which it was asked for again.

  constructor() {
    const { conversation, knowledge, messages, routes, limits, quota, tenant } = this.data;
    this.conversation = conversation?.id ?? null;
    this.drafts = new Drafts(`${tenant.slug}:${this.root.dataset.person ?? ""}`, this.conversation);
    this.follower = new Follower(must("[data-scroll]"), must("[data-jump]"));
    this.thread = new Thread(must("[data-thread]"), this.store, new ProseRenderer(this.strings), this.strings, {
      regenerate: (answer, how) => this.regenerate(answer, how),
      isOffered: (route, routeClass) => routes.some(({ name, classes }) => name === route && classes.includes(routeClass)),
      sourceUrl: (passage, span) => this.sourceUrl(passage, span),
      drawn: () => this.follower.keep(),
    });
    this.composer = new Composer(
      this.root,
      this.strings,
      {
        send: (text) => this.ask(text),
        stop: () => this.stop(),
        changed: (text) => (this.drafts.text = text),
      },
      limits.text_bytes,
    );
    this.conversations = new Conversations(
      this.root.dataset.url ?? "",
      this.data.conversations,
      this.conversation,
      this.strings,
      (id, title) => this.setTitle(id, title),
    );
    this.route = setUpRoutes(routes);
    this.knowledge = new KnowledgePicker(knowledge, this.strings, limits.bases, (ids) => (this.drafts.knowledge = ids));
    const asked = messages.filter(({ role }) => role === "user").at(-1);
    this.knowledge.set(asked ? asked.knowledge : this.drafts.knowledge);
    this.socket = new ChatSocket(this.root.dataset.socket ?? "", {
      onFrame: (frame) => this.onFrame(frame),
      onReady: () => this.sendWhatIsOwed(),
      onConnection: (connection) => this.showConnection(connection),
    });
    this.store.load(messages);
    this.showQuota(quota);
    this.restore();
    this.listen();
    this.thread.drawAll();
    this.socket.connect();
  }

  private restore(): void {
    if (this.drafts.text) this.composer.setText(this.drafts.text);
    const outgoing = this.drafts.outgoing;
    if (outgoing) this.store.addPending(outgoing.client_id, outgoing.text);
    this.refresh();
  }

  private listen(): void {
    document.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if (event.key === "Escape" && !event.isComposing) this.stop();
      else if (event.key === "/" && !isTyping(event.target)) {
        event.preventDefault();
        this.composer.focus();
      }
    });
  }

  // --- What the person does ---------------------------------------------------------------------

  private ask(text: string): void {
    if (this.isBusy()) return;
    const outgoing = { client_id: crypto.randomUUID(), text, ...this.route(), knowledge: this.knowledge.ids };
    this.drafts.outgoing = outgoing;
    const turn = this.store.addPending(outgoing.client_id, text);
    this.composer.setText("");
    this.thread.changed(turn);
    this.follower.follow();
    this.refresh();
    this.sendOutgoing();
  }

  private regenerate(answer: Answer, { withoutDocuments = false, routeClass = null }: How = {}): void {
    if (this.isBusy() || !this.conversation) return;
    this.regenerating = {
      client_id: crypto.randomUUID(),
      answer: answer.id,
      without_documents: withoutDocuments,
      route_class: routeClass,
    };
    this.composer.showError("");
    this.refresh();
    this.sendRegenerate();
  }

  private stop(): void {
    for (const { generation } of this.store.running()) {
      if (generation) this.socket.send({ type: "stop", generation });
    }
  }

  private sourceUrl({ document, version_id, start, end }: Passage, span: [number, number] | null): string {
    const place = this.root.dataset.source?.replace(/[0-9a-f-]{36}/, document) ?? "";
    const [from, to] = span ?? [start, end];
    return place && `${place}?version=${version_id}&start=${from}&end=${to}`;
  }

  // --- What goes to the server ------------------------------------------------------------------

  /** After every (re)connection. Asking twice is harmless: the server knows a client_id it has seen. */
  private sendWhatIsOwed(): void {
    this.resuming.clear();
    this.sendOutgoing();
    this.sendRegenerate();
    for (const answer of this.store.running()) this.resume(answer);
  }

  private sendOutgoing(): void {
    const outgoing = this.drafts.outgoing;
    if (outgoing) this.socket.send({ type: "ask", conversation: this.conversation, ...outgoing });
  }

  private sendRegenerate(): void {
    if (this.regenerating && this.conversation) {
      this.socket.send({ type: "regenerate", conversation: this.conversation, ...this.regenerating });
    }
  }

  private resume(answer: Answer): void {
    if (!answer.generation || this.resuming.get(answer.generation) === answer.seq) return;
    this.resuming.set(answer.generation, answer.seq);
    this.socket.send({ type: "resume", generation: answer.generation, after: answer.seq });
  }

  // --- What comes from the server ---------------------------------------------------------------

  private onFrame(frame: ServerFrame): void {
    switch (frame.type) {
      case "hello":
        this.composer.limit = frame.limits.text_bytes;
        break;
      case "accepted":
        this.onAccepted(frame, frame.client_id);
        break;
      case "started":
        this.onStarted(frame);
        break;
      case "delta": {
        const taken = this.store.take(frame);
        if (taken !== "seen" && taken !== "unknown") this.onAnswerChanged(frame.generation, taken === "gap");
        break;
      }
      case "done": {
        const taken = this.store.finish(frame);
        if (taken === "seen" || taken === "unknown") break;
        this.onAnswerChanged(frame.generation, taken === "gap");
        if (taken === "new") this.announceEnd(frame.generation);
        break;
      }
      case "error":
        this.onError(frame);
        break;
      case "title":
        this.setTitle(frame.conversation, frame.title);
        break;
      case "quota":
        this.showQuota(frame.quota);
        break;
      case "pong":
        break;
    }
  }

  private onAccepted(exchange: Exchange, clientId: string): void {
    const { id, title } = exchange.conversation;
    if (this.conversation === null) this.enter(exchange.conversation);
    if (id !== this.conversation) return;
    if (this.drafts.outgoing?.client_id === clientId) this.drafts.outgoing = null;
    if (this.regenerating?.client_id === clientId) this.regenerating = null;
    const { turn } = this.store.begin(exchange, clientId);
    this.conversations.touch({ id, title });
    this.thread.changed(turn);
    this.announce("announce_started");
    this.follower.follow();
    this.refresh();
  }

  /** Another tab began an answer; when it belongs here, follow it. */
  private onStarted(exchange: Exchange): void {
    this.conversations.touch(exchange.conversation);
    if (exchange.conversation.id !== this.conversation) return;
    const { turn, answer } = this.store.begin(exchange, null);
    this.thread.changed(turn);
    this.resume(answer);
    this.refresh();
  }

  private onAnswerChanged(generation: string, gap: boolean): void {
    const answer = this.store.answerOf(generation);
    if (!answer) return;
    if (gap) return this.resume(answer);
    const turn = this.store.turnOf(answer);
    if (turn) this.thread.changed(turn);
    if (answer.status !== "generating") this.refresh();
  }

  private onError(frame: ErrorFrame): void {
    if (frame.client_id) this.giveBack(frame.client_id);
    const answer = frame.generation ? this.store.answerOf(frame.generation) : null;
    if (answer?.status === "generating") return this.onLostAnswer(answer, frame);
    this.composer.showError(frame.message);
  }

  private onLostAnswer(answer: Answer, frame: ErrorFrame): void {
    if (frame.code === "not_found") {
      this.store.lose(frame.generation ?? "", frame.message);
      this.onAnswerChanged(frame.generation ?? "", false);
      return;
    }
    this.composer.showError(frame.message);
    setTimeout(() => {
      this.resuming.delete(frame.generation ?? "");
      if (answer.status === "generating" && this.socket.isReady) this.resume(answer);
    }, RESUME_AGAIN_MS);
  }

  /** What could not be sent goes back to where it was written. */
  private giveBack(clientId: string): void {
    if (this.regenerating?.client_id === clientId) this.regenerating = null;
    const outgoing = this.drafts.outgoing;
    if (outgoing?.client_id === clientId) {
      this.drafts.outgoing = null;
      const turn = this.store.dropPending(clientId);
      if (turn) this.thread.remove(turn);
      const written = this.composer.text.trim();
      this.composer.setText(written ? `${outgoing.text}\n\n${written}` : outgoing.text);
    }
    this.refresh();
  }

  // --- What the page shows -----------------------------------------------------------------------

  /** The first question of a new conversation was accepted. */
  private enter({ id, title }: { id: string; title: string }): void {
    this.conversation = id;
    this.drafts.moveTo(id);
    history.replaceState(null, "", this.conversations.urlOf(id));
    this.conversations.setCurrent(id);
    this.conversations.touch({ id, title });
    this.setTitle(id, title);
  }

  private setTitle(id: string, title: string): void {
    this.conversations.setTitle(id, title);
    if (id !== this.conversation) return;
    must("[data-title]").textContent = title;
    document.title = `${title} · Custos`;
  }

  private isBusy(): boolean {
    return this.store.running().length > 0 || this.drafts.outgoing !== null || this.regenerating !== null;
  }

  private refresh(): void {
    must("[data-welcome]").hidden = this.store.turns.length > 0;
    this.composer.setBusy(this.isBusy(), this.store.running().length > 0);
  }

  private showQuota(quota: Quota | null): void {
    const banner = must("[data-quota]");
    banner.hidden = quota === null;
    const words = must("[data-quota] p");
    // A screen reader is told once, not after every answer.
    if (quota && words.textContent !== quota.message) words.textContent = quota.message;
  }

  private showConnection(connection: Connection): void {
    const chip = must("[data-connection]");
    const tone = { connecting: "busy", online: "ok", offline: "warn", signed_out: "bad", gone: "bad" }[connection.state];
    const shape = { connecting: "s-busy", online: "s-ok", offline: "s-warn", signed_out: "s-bad", gone: "s-bad" };
    const seconds = connection.state === "offline" ? connection.seconds : 0;
    this.root.classList.toggle("unconnected", connection.state !== "online");
    chip.className = `chip ${tone}`;
    chip.replaceChildren(icon(shape[connection.state]), say(this.strings, connection.state, { seconds }));
    if (connection.state === "signed_out" || connection.state === "gone") this.closeFor(connection.state);
  }

  private closeFor(state: "signed_out" | "gone"): void {
    this.composer.setBlocked(true);
    this.composer.showError(say(this.strings, state));
    if (state === "gone") return;
    const back = new URLSearchParams({ next: location.pathname });
    const link = document.createElement("a");
    link.href = `${this.root.dataset.signin ?? "/"}?${back.toString()}`;
    link.textContent = say(this.strings, "sign_in");
    must("[data-error] p").append(" ", link);
  }

  private announce(key: string, values: Record<string, string> = {}): void {
    must("[data-announce]").textContent = say(this.strings, key, values);
  }

  private announceEnd(generation: string): void {
    const answer = this.store.answerOf(generation);
    if (!answer) return;
    if (answer.status === "stopped") this.announce("announce_stopped");
    else if (answer.status !== "completed") this.announce("announce_failed");
    else this.announce("announce_done", { text: partsOf(answer, false).answer.slice(0, ANNOUNCED) });
  }
}

new ChatPage();
