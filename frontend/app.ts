// What every page has: theme, menus, drawer, palette, help, local times, and forms that are sent once.
import { forgetDrafts } from "./chat/drafts.ts";
import { find, readJson } from "./lib/dom.ts";
import { setUpDrawer } from "./lib/drawer.ts";
import { setUpMenus } from "./lib/menus.ts";
import { nameModifierKeys, setUpHelp, setUpPalette } from "./lib/palette.ts";
import type { Strings } from "./lib/text.ts";
import { setUpTheme } from "./lib/theme.ts";
import { showLocalTimes } from "./lib/times.ts";
import { nameZone } from "./lib/zone.ts";

/** A second click on a slow form's button must not send it again. */
function sendFormsOnce(): void {
  document.addEventListener("submit", (event) => {
    const form = event.target as HTMLFormElement;
    if (form.method === "dialog" || event.defaultPrevented) return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
    // A file comes down and the page stays, so nothing else tells when another may be asked for.
    if ("download" in form.dataset) setTimeout(() => delete form.dataset.sent, 2000);
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll<HTMLFormElement>("form[data-sent]")) delete form.dataset.sent;
  });
}

/** The tab of this page in sight, where the tabs are wider than the screen. */
function showCurrentTab(): void {
  const tab = find(".tabs [aria-current]");
  const bar = tab?.closest(".tabs");
  if (tab && bar) bar.scrollLeft = tab.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2;
}

setUpTheme();
setUpMenus();
setUpDrawer();
setUpHelp();
nameModifierKeys();
showLocalTimes();
nameZone();
sendFormsOnce();
showCurrentTab();
find("[data-signout]")?.addEventListener("submit", forgetDrafts);
if (find("#shared-strings")) setUpPalette(readJson<Strings>("shared-strings"));
