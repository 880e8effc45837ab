// The theme is a cookie, so that the server paints the first frame in it.
import { all } from "./dom.ts";
import { keepCookie } from "./cookies.ts";

const COOKIE = "custos_theme";

export function setUpTheme(): void {
  for (const button of all("[data-theme-choice]")) {
    button.addEventListener("click", () => choose(button.dataset.themeChoice ?? "system"));
  }
}

function choose(theme: string): void {
  keepCookie(COOKIE, theme === "system" ? "" : theme);
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  for (const button of all("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === theme));
  }
  document.dispatchEvent(new Event("themechange"));
}

/** Calls back when colours change, by choice or because the system did. */
export function onThemeChange(callback: () => void): void {
  document.addEventListener("themechange", callback);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback);
}
