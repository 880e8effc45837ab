// Where questions are written: grows with the text, counts bytes near the limit, and never sends half a word of
// Chinese, Japanese or Korean: the Enter that ends a composition belongs to the input method.
import { find, must } from "../lib/dom.ts";
import { number, say, utf8Bytes, type Strings } from "../lib/text.ts";
import type { Route, RouteClass } from "./protocol.ts";

interface Hooks {
  send(text: string): void;
  stop(): void;
  changed(text: string): void;
}

const WARN_FROM = 0.8;

export class Composer {
  private readonly form: HTMLFormElement;
  private readonly input: HTMLTextAreaElement;
  private readonly sendButton: HTMLButtonElement;
  private readonly stopButton: HTMLButtonElement;
  private readonly size: HTMLElement;
  private readonly error: HTMLElement;
  private busy = false;
  private blocked = false;
  private composedAt = 0;
  limit: number;

  constructor(
    root: HTMLElement,
    private readonly strings: Strings,
    private readonly hooks: Hooks,
    limit: number,
  ) {
    this.limit = limit;
    this.form = must<HTMLFormElement>("[data-composer]", root);
    this.input = must<HTMLTextAreaElement>("textarea", this.form);
    this.sendButton = must<HTMLButtonElement>("[data-send]", this.form);
    this.stopButton = must<HTMLButtonElement>("[data-stop]", this.form);
    this.size = must("[data-size]", this.form);
    this.error = must("[data-error]", root);
    this.input.addEventListener("input", () => this.onInput());
    this.input.addEventListener("keydown", (event) => this.onKey(event));
    this.input.addEventListener("compositionend", (event) => (this.composedAt = event.timeStamp));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.stopButton.addEventListener("click", () => this.hooks.stop());
  }

  get text(): string {
    return this.input.value;
  }

  setText(text: string): void {
    this.input.value = text;
    this.onInput();
  }

  focus(): void {
    this.input.focus({ preventScroll: true });
  }

  /** busy: nothing can be sent just now. stoppable: because an answer is being written, so offer to stop it. */
  setBusy(busy: boolean, stoppable: boolean): void {
    const hadFocus = document.activeElement === this.stopButton;
    this.busy = busy;
    this.stopButton.hidden = !stoppable;
    this.sendButton.hidden = stoppable;
    this.update();
    if (hadFocus && !stoppable) this.focus();
  }

  /** Nothing can be sent any more, whatever the connection does. */
  setBlocked(blocked: boolean): void {
    this.blocked = blocked;
    this.update();
  }

  showError(message: string): void {
    must("p", this.error).textContent = message;
    this.error.hidden = message === "";
  }

  private onInput(): void {
    this.hooks.changed(this.text);
    if (!this.error.hidden) this.showError("");
    this.grow();
    this.update();
  }

  private grow(): void {
    if (CSS.supports("field-sizing", "content")) return;
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
  }

  private update(): void {
    const bytes = utf8Bytes(this.text);
    const over = bytes - this.limit;
    this.input.setAttribute("aria-invalid", String(over > 0));
    this.size.classList.toggle("over", over > 0);
    if (over > 0) {
      this.size.textContent = say(this.strings, "too_long", { over: number(over), limit: number(this.limit) });
    } else if (bytes > this.limit * WARN_FROM) {
      this.size.textContent = say(this.strings, "bytes_left", { count: number(-over) });
    } else {
      this.size.textContent = "";
    }
    this.sendButton.disabled = this.blocked || this.busy || over > 0 || this.text.trim() === "";
  }

  private onKey(event: KeyboardEvent): void {
    if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
    // Safari reports the Enter that ends a composition just after the composition itself.
    const composing = event.isComposing || event.keyCode === 229 || event.timeStamp - this.composedAt < 50;
    if (composing) return;
    event.preventDefault();
    this.submit();
  }

  private submit(): void {
    if (this.sendButton.disabled) return;
    this.hooks.send(this.text);
  }
}

/** The choice of model, shown only when there is one, and of its class where it has some. */
export function setUpRoutes(routes: Route[]): () => { route: string | null; route_class: RouteClass | null } {
  const select = find<HTMLSelectElement>("[data-route]");
  const classes = find<HTMLSelectElement>("[data-route-class]");
  if (!select || !classes) return () => ({ route: null, route_class: null });
  for (const { name, label } of routes) select.add(new Option(label, name));
  select.hidden = routes.length < 2;
  const offered = (): RouteClass[] => routes.find(({ name }) => name === select.value)?.classes ?? [];
  const draw = (): void => {
    for (const option of classes.options) option.hidden = option.disabled = option.value !== "" && !isOffered(option.value);
    if (!isOffered(classes.value)) classes.value = "";
    classes.hidden = offered().length === 0;
  };
  const isOffered = (value: string): boolean => offered().some((name) => name === value);
  select.addEventListener("change", draw);
  draw();
  return () => ({
    route: select.hidden ? null : select.value,
    route_class: offered().find((name) => name === classes.value) ?? null,
  });
}
