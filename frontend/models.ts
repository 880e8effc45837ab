// The registry's pages: model cards as Markdown, the progress of an import, and uploads in pieces that go on where
// they broke off.
import { ProseRenderer } from "./chat/prose.ts";
import { find, icon, must, readJson } from "./lib/dom.ts";
import { poll } from "./lib/poll.ts";
import { say, type Strings } from "./lib/text.ts";

const EVERY_MS = 1000;
const RETRY_MS = 2000;

interface State {
  state: string;
  tone: string;
  icon: string;
  label: string;
  step: string;
  done: number;
  total: number;
  percent: number;
}

const strings = readJson<Strings>("models-strings");

function showCard(): void {
  const target = find("[data-markdown]");
  if (!target) return;
  target.replaceChildren();
  new ProseRenderer(strings).render(target, readJson<string>("markdown-source"));
}

function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) {
    count /= 1000;
    at += 1;
  }
  return `${count.toLocaleString(document.documentElement.lang, { maximumFractionDigits: 1 })} ${units[at]}`;
}

function showBytes(done: number, total: number): void {
  must<HTMLMeterElement>("[data-import-meter]").value = total ? Math.min(100, (100 * done) / total) : 0;
  must("[data-import-bytes]").textContent = total ? `${bytes(done)} / ${bytes(total)}` : "";
}

/** What comes with another state, as its buttons and why it failed, the server draws. */
function show(state: State): void {
  const card = must("[data-import]");
  if (state.state !== card.dataset.state) {
    location.reload();
    return;
  }
  if (state.state === "receiving") return; // Of which the upload itself knows more.
  const look = must("[data-import-look] .chip");
  if (look.textContent !== state.label) {
    look.className = `chip ${state.tone}`;
    look.replaceChildren(icon(state.icon), state.label);
  }
  must("[data-import-step]").textContent = state.step;
  showBytes(state.done, state.total);
}

// --- Uploads ---

async function digest(content: ArrayBuffer): Promise<string> {
  if (!window.isSecureContext) throw new Error(say(strings, "upload_insecure"));
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return [...found].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Upload {
  /** Until everything is there: leaving the page would interrupt it. */
  isGoing = true;
  private readonly token: string;

  constructor(private readonly form: HTMLFormElement) {
    this.token = must<HTMLInputElement>("[name=csrfmiddlewaretoken]", form).value;
  }

  async send(files: File[]): Promise<void> {
    const sizes = Object.fromEntries(files.map((file) => [file.name, file.size]));
    const headers = { "Content-Type": "application/json" };
    const answer = await this.post(this.form.dataset.filesUrl ?? "", JSON.stringify(sizes), headers);
    const found = (await answer.json()) as { received: Record<string, number>; chunk: number; message?: string };
    if (!answer.ok) throw new Error(found.message ?? "");
    const total = files.reduce((sum, file) => sum + file.size, 0);
    for (const file of files) {
      let at = found.received[file.name] ?? 0;
      while (at < file.size) {
        at = await this.piece(file, at, found.chunk);
        found.received[file.name] = at;
        showBytes(Object.values(found.received).reduce((sum, each) => sum + each, 0), total);
      }
    }
    this.isGoing = false;
    this.form.action = this.form.dataset.finishUrl ?? "";
    this.form.submit();
  }

  /** Sends what begins at `at`; where the file goes on. Tries again for as long as the connection is away. */
  private async piece(file: File, at: number, size: number): Promise<number> {
    const content = await file.slice(at, at + size).arrayBuffer();
    const headers = { "Content-Type": "application/octet-stream", "X-Chunk-SHA256": await digest(content) };
    const query = new URLSearchParams({ name: file.name, offset: String(at) }).toString();
    for (;;) {
      let answer: Response;
      try {
        answer = await this.post(`${this.form.dataset.chunkUrl ?? ""}?${query}`, content, headers);
      } catch {
        must("[data-import-step]").textContent = say(strings, "upload_waiting");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
      must("[data-import-step]").textContent = say(strings, "uploading", { name: file.name });
      const found = (await answer.json()) as { received?: number; code?: string; message?: string };
      if (found.received !== undefined) return found.received;
      if (found.code !== "chunk_damaged") throw new Error(found.message ?? "");
    }
  }

  private async post(url: string, body: BodyInit, headers: Record<string, string>): Promise<Response> {
    const answer = await fetch(url, { method: "POST", body, headers: { ...headers, "X-CSRFToken": this.token } });
    // What is not ours to answer, as a proxy's error, is a connection that is away.
    if (answer.status >= 500) throw new Error(String(answer.status));
    return answer;
  }
}

function setUpUpload(): void {
  const form = find<HTMLFormElement>("[data-upload]");
  if (!form) return;
  const input = must<HTMLInputElement>("input[type=file]", form);
  const problem = must("[data-upload-error]", form);
  let upload: Upload | null = null;
  input.addEventListener("change", () => {
    if (!input.files?.length) return;
    problem.hidden = true;
    input.disabled = true;
    upload = new Upload(form);
    upload.send([...input.files]).catch((error: unknown) => {
      upload = null;
      problem.textContent = (error instanceof Error && error.message) || say(strings, "upload_failed");
      problem.hidden = false;
      input.disabled = false;
      input.value = "";
    });
  });
  addEventListener("beforeunload", (event) => {
    if (upload?.isGoing) event.preventDefault();
  });
}

showCard();
setUpUpload();
const source = find("#import-state");
if (source) poll<State>(source.dataset.url ?? "", EVERY_MS, strings, show);
