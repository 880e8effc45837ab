// The overview: cards, charts and tables, fresh every two seconds.
import { h, icon, must, readJson } from "./lib/dom.ts";
import { poll } from "./lib/poll.ts";
import { duration, number, say, type Strings } from "./lib/text.ts";
import { onThemeChange } from "./lib/theme.ts";
import { localTime, utcTitle } from "./lib/times.ts";
import { Chart, type Series } from "./overview/chart.ts";
import type { Figures, Overview, Recent } from "./overview/figures.ts";

const EVERY_MS = 2000;

const strings = readJson<Strings>("overview-strings");

function ms(value: number | null): string {
  return value === null ? "–" : duration(value);
}

function count(value: number | null, digits = 0): string {
  return value === null ? "–" : number(value, digits);
}

function chart(name: string, series: Series[], format: (value: number) => string, top: number, whole = false): Chart {
  return new Chart(must(`[data-chart="${name}"]`), must(`[data-legend="${name}"]`), series, format, top, whole);
}

const charts = {
  ttft: chart(
    "ttft",
    [
      { label: say(strings, "p50"), color: "--c1", swatch: "s1" },
      { label: say(strings, "p95"), color: "--c2", swatch: "s2", dash: [6, 4] },
    ],
    duration,
    100,
  ),
  tokens: chart("tokens", [{ label: say(strings, "tokens_per_s"), color: "--c3", swatch: "s3" }], (value) => number(value, 1), 1),
  requests: chart(
    "requests",
    [
      { label: say(strings, "requests"), color: "--c1", swatch: "s1", bars: 0.7 },
      { label: say(strings, "errors"), color: "--c2", swatch: "s2", bars: 0.3 },
    ],
    (value) => number(value),
    1,
    true,
  ),
};

function set(name: string, text: string): void {
  must(`[data-figure="${name}"]`).textContent = text;
}

function showCards(totals: Figures): void {
  set("requests", count(totals.requests));
  set("refused_note", say(strings, "refused_note", { count: count(totals.refused) }));
  set("ttft_p50_ms", ms(totals.ttft_p50_ms));
  set("ttft_p95_note", say(strings, "ttft_p95_note", { value: ms(totals.ttft_p95_ms) }));
  set("speed", totals.itl_p50_ms ? number(1000 / totals.itl_p50_ms, 1) : "–");
  set("tokens_note", say(strings, "tokens_note", { count: count(totals.completion_tokens) }));
  set("errors", count(totals.errors));
  set("running", count(totals.running));
  const rate = must('[data-figure="error_rate"]');
  rate.className = `chip ${totals.errors ? "bad" : "ok"}`;
  const words = totals.errors ? `${number((100 * totals.errors) / totals.requests, 1)} %` : say(strings, "none");
  rate.replaceChildren(icon(totals.errors ? "s-warn" : "s-ok"), words);
}

function showCharts({ buckets }: Overview): void {
  const times = buckets.map(({ start }) => Date.parse(start) / 1000);
  charts.ttft.show([times, buckets.map((b) => b.ttft_p50_ms), buckets.map((b) => b.ttft_p95_ms)]);
  charts.tokens.show([times, buckets.map((b) => b.tokens_per_s)]);
  charts.requests.show([times, buckets.map((b) => b.requests), buckets.map((b) => b.errors)]);
}

function time(iso: string): HTMLElement {
  return h("td", { class: "nowrap" }, h("time", { datetime: iso, title: utcTitle(iso) }, localTime(iso)));
}

function num(text: string): HTMLElement {
  return h("td", { class: "num" }, text);
}

function showTables({ buckets, recent }: Overview): void {
  must("[data-buckets]").replaceChildren(
    ...buckets.toReversed().map((b) =>
      h("tr", {}, time(b.start), num(count(b.requests)), num(count(b.errors)), num(ms(b.ttft_p50_ms)), num(ms(b.ttft_p95_ms)), num(count(b.tokens_per_s, 1))),
    ),
  );
  must("[data-recent]").replaceChildren(...recent.map(recentRow));
  must("[data-recent-none]").hidden = recent.length > 0;
  must("[data-recent-some]").hidden = recent.length === 0;
}

function recentRow(each: Recent): HTMLElement {
  const state = h("span", { class: `chip ${each.state.tone}` }, icon(each.state.icon), each.state.label);
  return h(
    "tr",
    {},
    time(each.time),
    h("td", {}, each.user),
    h("td", {}, each.channel_label),
    h("td", {}, each.model),
    h("td", {}, state),
    num(ms(each.ttft_ms)),
    num(count(each.tokens)),
    num(count(each.tokens_per_s, 1)),
  );
}

function show(overview: Overview): void {
  showCards(overview.totals);
  showCharts(overview);
  showTables(overview);
}

show(readJson<Overview>("overview-data"));
onThemeChange(() => Object.values(charts).forEach((each) => each.draw()));
poll<Overview>(must("#overview-script").dataset.url ?? "", EVERY_MS, strings, show);
