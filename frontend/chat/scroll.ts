// Keeps the newest words in view, until the reader scrolls up to read.

const NEAR = 40;

export class Follower {
  private following = true;
  private lastTop = 0;

  constructor(
    private readonly area: HTMLElement,
    private readonly jump: HTMLElement,
  ) {
    area.addEventListener("scroll", () => this.onScroll(), { passive: true });
    area.addEventListener("wheel", (event) => event.deltaY < 0 && this.leave(), { passive: true });
    jump.querySelector("button")?.addEventListener("click", () => this.follow());
    new ResizeObserver(() => this.keep()).observe(area);
  }

  /** After the thread grew. */
  keep(): void {
    if (this.following) {
      this.area.scrollTop = this.area.scrollHeight;
      this.lastTop = this.area.scrollTop;
    }
    this.jump.hidden = this.following || this.distance() < NEAR;
  }

  /** Go to the end and stay there. */
  follow(): void {
    this.following = true;
    this.keep();
  }

  private onScroll(): void {
    const top = this.area.scrollTop;
    const atEnd = this.distance() < NEAR;
    // Our own scrolling leaves `lastTop` behind it, so what differs from it is the reader's, or a shorter thread.
    if (top > this.lastTop && atEnd) this.following = true;
    else if (top < this.lastTop && !atEnd) this.following = false;
    this.lastTop = top;
    this.jump.hidden = this.following || atEnd;
  }

  private leave(): void {
    if (this.area.scrollHeight > this.area.clientHeight) this.following = false;
  }

  private distance(): number {
    return this.area.scrollHeight - this.area.clientHeight - this.area.scrollTop;
  }
}
