// Knowledge bases: files on their way in pieces, states that change by themselves, and the cited passage in view.
import { all, find, h, must, readJson } from "./lib/dom.ts";
import { page, poll } from "./lib/poll.ts";
import { say, type Strings } from "./lib/text.ts";
import { showLocalTimes } from "./lib/times.ts";

const EVERY_MS = 2000;
const RETRY_MS = 2000;
const AT_ONCE = 2;

const strings = readJson<Strings>("knowledge-strings");

interface Begun {
  piece: number;
  piece_url: string;
  finish_url: string;
  drop_url: string;
}

interface Answer extends Partial<Begun> {
  received?: number;
  code?: string;
  message?: string;
  url?: string;
}

/** One file in the list under the form: sent in pieces, cancelled, or a question because the base has it already. */
class Sending {
  private readonly told = h("p", { class: "small", role: "status" }, say(strings, "waits"));
  private readonly meter = h("meter", { class: "meter", min: 0, max: 100, value: 0, "aria-label": "" });
  private readonly buttons = h("div", { class: "row" });
  private begun: Begun | null = null;
  private isCancelled = false;
  readonly row: HTMLLIElement;

  constructor(
    readonly file: File,
    private readonly form: HTMLFormElement,
    private readonly days: Record<string, string>,
  ) {
    this.meter.setAttribute("aria-label", file.name);
    const cancel = h("button", { type: "button", class: "btn small", onclick: () => this.cancel() }, say(strings, "cancel"));
    cancel.setAttribute("aria-label", say(strings, "cancel_file", { name: file.name }));
    this.buttons.append(cancel);
    this.row = h("li", {}, h("div", { class: "grow" }, h("strong", { class: "wrap" }, file.name), this.told, this.meter), this.buttons);
  }

  /** Whether it arrived. */
  async run(): Promise<boolean> {
    try {
      if (this.isCancelled) return this.end("", say(strings, "cancelled"));
      const most = Number(this.form.dataset.most);
      if (this.file.size > most * 1e6) return this.end("bad", say(strings, "too_large", { most }));
      const { folder, document: of } = this.form.dataset;
      const asked = { name: this.file.name, size: this.file.size, folder: folder ?? "", document: of ?? "" };
      const begun = await this.post(this.form.dataset.url ?? "", JSON.stringify(asked));
      if (!begun.piece_url) return this.end("bad", begun.message || say(strings, "broke_off"));
      this.begun = begun as Begun;
      await this.sendPieces(this.begun);
      if (this.isCancelled) return this.end("", say(strings, "cancelled"));
      return await this.finish(this.begun, false);
    } catch (error) {
      return this.end("bad", (error instanceof Error && error.message) || say(strings, "broke_off"));
    }
  }

  private async sendPieces({ piece, piece_url }: Begun): Promise<void> {
    let at = 0;
    while (at < this.file.size && !this.isCancelled) {
      const content = await this.file.slice(at, at + piece).arrayBuffer();
      const answer = await this.post(`${piece_url}?offset=${at}`, content);
      if (answer.received === undefined) throw new Error(answer.message);
      at = answer.received;
      const percent = Math.floor((100 * at) / this.file.size);
      this.meter.value = percent;
      this.told.textContent = say(strings, "sending", { percent });
    }
  }

  private async finish(begun: Begun, twice: boolean): Promise<boolean> {
    const answer = await this.post(begun.finish_url, JSON.stringify({ ...this.days, twice }));
    if (answer.code === "duplicate") return this.askTwice(begun, answer.message ?? "");
    if (!answer.url) return this.end("bad", answer.message || say(strings, "broke_off"));
    return this.end("ok", say(strings, "sent"), true);
  }

  /** The base has this file: whoever sends it says whether it shall be there twice. */
  private askTwice(begun: Begun, message: string): Promise<boolean> {
    this.told.textContent = message;
    this.told.setAttribute("role", "alert");
    return new Promise((resolve) => {
      const keep = h("button", { type: "button", class: "btn small", onclick: () => resolve(this.finish(begun, true)) }, say(strings, "keep_twice"));
      const leave = (): void => {
        void this.post(begun.drop_url, "{}");
        resolve(this.end("", message));
      };
      this.buttons.replaceChildren(keep, h("button", { type: "button", class: "btn small", onclick: leave }, say(strings, "leave_out")));
    });
  }

  private cancel(): void {
    this.isCancelled = true;
    if (this.begun) void this.post(this.begun.drop_url, "{}").catch(() => undefined);
    this.end("", say(strings, "cancelled"));
  }

  private end(tone: string, words: string, arrived = false): boolean {
    this.told.textContent = words;
    this.told.className = `small ${tone === "bad" ? "altered" : ""}`;
    this.meter.hidden = true;
    this.buttons.replaceChildren();
    return arrived;
  }

  /** Tries again for as long as the connection is away. */
  private async post(url: string, body: BodyInit): Promise<Answer> {
    const token = must<HTMLInputElement>("[name=csrfmiddlewaretoken]", this.form).value;
    for (;;) {
      let answer: Response;
      try {
        answer = await fetch(url, { method: "POST", body, headers: { "X-CSRFToken": token, "Content-Type": "application/octet-stream" } });
        if (answer.status >= 500) throw new Error(String(answer.status));
      } catch {
        if (this.isCancelled) return {};
        this.told.textContent = say(strings, "no_connection");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
      if (!answer.headers.get("Content-Type")?.startsWith("application/json")) return { message: say(strings, "broke_off") };
      return (await answer.json()) as Answer;
    }
  }
}

function setUpUpload(form: HTMLFormElement): void {
  const input = must<HTMLInputElement>("input[type=file]", form);
  const list = must("[data-upload-list]", form);
  const summary = must("[data-upload-summary]", form);
  const waiting: Sending[] = [];
  let going = 0;
  let count = 0;
  let sent = 0;

  function tell(): void {
    summary.hidden = count < 2;
    summary.textContent = say(strings, "all_sent", { sent, count });
  }

  async function work(): Promise<void> {
    going += 1;
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      if (await next.run()) sent += 1;
      tell();
    }
    going -= 1;
    // The list shows what came. What failed stays to be read.
    if (!going && sent === count) location.reload();
  }

  function add(files: Iterable<File>): void {
    const days: Record<string, string> = {};
    for (const [name, selector] of [["valid_from", "[data-valid-from]"], ["valid_until", "[data-valid-until]"]] as const) {
      const value = find<HTMLInputElement>(selector, form)?.value;
      if (value) days[name] = value;
    }
    for (const file of files) {
      const sending = new Sending(file, form, days);
      list.hidden = false;
      list.append(sending.row);
      waiting.push(sending);
      count += 1;
    }
    tell();
    while (going < AT_ONCE && waiting.length) void work();
  }

  input.addEventListener("change", () => {
    add([...(input.files ?? [])]);
    input.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"] as const) {
    form.addEventListener(kind, (event) => {
      event.preventDefault();
      form.classList.toggle("over", kind === "dragover");
      if (kind !== "drop") return;
      const dropped = [...(event.dataTransfer?.files ?? [])];
      add(input.multiple ? dropped : dropped.slice(0, 1));
    });
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("beforeunload", (event) => {
    if (going && sent < count) event.preventDefault();
  });
}

/** The server draws states; those that differ are replaced. */
function show(fresh: Document): void {
  for (const part of all("[data-fresh]", fresh)) {
    const old = document.getElementById(part.id);
    if (!old || old.textContent === part.textContent) continue;
    const made = document.importNode(part, true);
    old.replaceWith(made);
    showLocalTimes(made);
  }
}

for (const form of all<HTMLFormElement>("[data-upload]")) setUpUpload(form);
find("#cited")?.scrollIntoView({ block: "center" });
const fresh = find("#fresh");
if (fresh) poll<Document>(fresh.dataset.url ?? "", EVERY_MS, strings, show, page);
