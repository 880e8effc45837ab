// The chat's websocket: connects, notices when it is dead, and comes back with growing pauses.
import { parseFrame, type ClientFrame, type ServerFrame } from "./protocol.ts";

export type Connection =
  | { state: "connecting" }
  | { state: "online" }
  | { state: "offline"; seconds: number }
  | { state: "signed_out" }
  | { state: "gone" };

interface Hooks {
  onFrame(frame: ServerFrame): void;
  /** The server said hello: send what is owed. */
  onReady(): void;
  onConnection(connection: Connection): void;
}

const PAUSES_S = [0.5, 1, 2, 4, 8, 15];
const PING_MS = 20_000;
const SILENCE_MS = 10_000;
const SIGNED_OUT = 4401;
const NOT_FOUND = 4404;

/** How long to wait before try `failures` + 1, in seconds; spread out so that tabs do not return all at once. */
export function pause(failures: number, random: number = Math.random()): number {
  const base = PAUSES_S[Math.min(failures, PAUSES_S.length - 1)] ?? 15;
  return base * (0.75 + random / 2);
}

export class ChatSocket {
  private socket: WebSocket | null = null;
  private ready = false;
  private failures = 0;
  private retryAt = 0;
  private timer: ReturnType<typeof setInterval> | null = null;
  private lastHeard = 0;
  private pinged = 0;

  constructor(
    private readonly path: string,
    private readonly hooks: Hooks,
  ) {
    window.addEventListener("online", () => this.retryNow());
    window.addEventListener("offline", () => this.socket?.close());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.retryNow());
  }

  get isReady(): boolean {
    return this.ready;
  }

  connect(): void {
    this.stopTimer();
    this.hooks.onConnection({ state: "connecting" });
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${this.path}`);
    this.socket = socket;
    socket.addEventListener("message", (event: MessageEvent<unknown>) => this.onMessage(socket, event.data));
    socket.addEventListener("close", (event) => socket === this.socket && this.onClose(event.code));
  }

  /** False when there is no connection; the caller keeps what it wanted to say. */
  send(frame: ClientFrame): boolean {
    if (!this.ready || this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  private onMessage(socket: WebSocket, data: unknown): void {
    if (socket !== this.socket || typeof data !== "string") return;
    this.lastHeard = Date.now();
    const frame = parseFrame(data);
    if (!frame) return;
    this.hooks.onFrame(frame);
    if (frame.type === "hello") {
      this.ready = true;
      this.failures = 0;
      this.hooks.onConnection({ state: "online" });
      this.timer = setInterval(() => this.watch(), 5000);
      this.hooks.onReady();
    }
  }

  private watch(): void {
    const now = Date.now();
    if (this.pinged > this.lastHeard && now - this.pinged > SILENCE_MS) {
      this.drop();
    } else if (now - Math.max(this.lastHeard, this.pinged) > PING_MS) {
      this.pinged = now;
      this.send({ type: "ping" });
    }
  }

  /** A connection that no longer answers: do not wait for the network to notice. */
  private drop(): void {
    this.socket?.close();
    this.onClose(1006);
  }

  private onClose(code: number): void {
    this.socket = null;
    this.ready = false;
    this.stopTimer();
    if (code === SIGNED_OUT) return this.hooks.onConnection({ state: "signed_out" });
    if (code === NOT_FOUND) return this.hooks.onConnection({ state: "gone" });
    this.retryAt = Date.now() + pause(this.failures++) * 1000;
    this.countDown();
    this.timer = setInterval(() => this.countDown(), 500);
  }

  private countDown(): void {
    const left = this.retryAt - Date.now();
    if (left <= 0) this.connect();
    else this.hooks.onConnection({ state: "offline", seconds: Math.ceil(left / 1000) });
  }

  private retryNow(): void {
    if (!this.socket && this.retryAt) this.connect();
  }

  private stopTimer(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }
}
