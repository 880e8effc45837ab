// The sidebar on narrow screens: a drawer that takes the focus and gives it back.
import { find, must } from "./dom.ts";

export function setUpDrawer(): void {
  const opener = find<HTMLButtonElement>("[data-drawer]");
  if (!opener) return;
  const sidebar = must("#sidebar");
  const main = must("#main");

  function set(open: boolean): void {
    document.body.classList.toggle("nav-open", open);
    opener?.setAttribute("aria-expanded", String(open));
    main.inert = open;
    if (open) sidebar.querySelector<HTMLElement>("a, button, summary")?.focus();
    else opener?.focus();
  }

  const isOpen = (): boolean => document.body.classList.contains("nav-open");
  opener.addEventListener("click", () => set(!isOpen()));
  must("[data-drawer-close]").addEventListener("click", () => set(false));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isOpen() && !event.defaultPrevented) {
      event.preventDefault();
      set(false);
    }
  });
  document.addEventListener("closedrawer", () => isOpen() && set(false));
  matchMedia("(min-width: 861px)").addEventListener("change", () => isOpen() && set(false));
}
