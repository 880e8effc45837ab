// The monitoring page: processes, cards, charts and the tables behind them, asked for again and again.
import { all, find, h, icon, must, readJson } from "./lib/dom.ts";
import { poll } from "./lib/poll.ts";
import { number, say, type Strings } from "./lib/text.ts";
import { onThemeChange } from "./lib/theme.ts";
import { localTime, utcTitle } from "./lib/times.ts";
import { Chart } from "./overview/chart.ts";

type Unit = "per_second" | "seconds" | "share" | "count" | "bytes" | "cores" | "state";

interface Shown {
  name: string;
  unit: Unit;
  series: string[];
  labels: string[];
}

interface Figures {
  state: string;
  step_s: number;
  times: number[];
  values: Record<string, (number | null)[]>;
  now: Record<string, number | null>;
  parts: { name: string; ok: boolean; detail: string }[];
  firing: number;
}

const STYLES = [
  { color: "--c1", swatch: "s1" },
  { color: "--c2", swatch: "s2", dash: [6, 4] },
  { color: "--c3", swatch: "s3", dash: [2, 3] },
];
// The least that an axis reaches up to, so that noise near nothing does not look like much.
const TOPS: Record<Unit, number> = { per_second: 1, seconds: 0.1, share: 0.1, count: 4, bytes: 1e8, cores: 0.5, state: 1 };

const script = must("#monitoring-script");
const strings = readJson<Strings>("monitoring-strings");
const shown = readJson<Shown[]>("monitoring-charts");
let figures = readJson<Figures>("monitoring-data");

function quantity(value: number | null | undefined, unit: Unit): string {
  if (value == null) return "–";
  switch (unit) {
    case "share":
      return `${number(100 * value, 1)} %`;
    case "seconds":
      return value < 1 ? `${number(1000 * value, 1)} ms` : `${number(value, 2)} s`;
    case "bytes":
      return value < 2 ** 30 ? `${number(value / 2 ** 20, 0)} MB` : `${number(value / 2 ** 30, 1)} GB`;
    case "per_second":
      return `${number(value, 2)}/s`;
    default:
      return number(value, 2);
  }
}

function spanUrl(since: number): string {
  return `${script.dataset.span}?since=${since}&seconds=${figures.step_s}`;
}

const charts = shown.map((each) => {
  const target = must(`[data-chart="${each.name}"]`);
  const series = each.labels.map((label, index) => ({ label, ...STYLES[index % STYLES.length]! }));
  const chart = new Chart(target, must(`[data-legend="${each.name}"]`), series, (value) => quantity(value, each.unit), TOPS[each.unit], each.unit === "count");
  target.addEventListener("click", () => {
    const since = figures.times[chart.pointed() ?? -1];
    if (since !== undefined) location.assign(spanUrl(since));
  });
  return chart;
});

function drawTable({ name, unit, series }: Shown): void {
  const body = must(`[data-rows="${name}"]`);
  const rows = figures.times.map((time, index) => {
    const iso = new Date(time * 1000).toISOString();
    const when = h("time", { datetime: iso, title: utcTitle(iso) }, localTime(iso));
    const cells = series.map((each) => h("td", { class: "num" }, quantity(figures.values[each]?.[index], unit)));
    return h("tr", {}, h("td", { class: "nowrap" }, h("a", { href: spanUrl(time) }, when)), ...cells);
  });
  body.replaceChildren(...rows.toReversed());
}

/** Tables nobody looks at, and one that somebody is in, stay as they are. */
function drawTables(): void {
  for (const each of shown) {
    const details = must(`[data-rows="${each.name}"]`).closest("details");
    if (details?.open && !details.contains(document.activeElement)) drawTable(each);
  }
}

function showParts(): void {
  for (const { name, ok, detail } of figures.parts) {
    const card = find(`[data-part="${name}"]`);
    if (!card) continue;
    const chip = must(".chip", card);
    const words = say(strings, ok ? "ok" : "bad");
    if (chip.textContent !== words) {
      chip.className = `chip ${ok ? "ok" : "bad"}`;
      chip.replaceChildren(icon(ok ? "s-ok" : "s-bad"), words);
    }
    must("[data-detail]", card).textContent = detail;
  }
}

function show(fresh: Figures): void {
  figures = fresh;
  for (const notice of all("[data-state]")) notice.hidden = notice.dataset.state !== figures.state;
  must("[data-firing]").hidden = figures.firing === 0;
  for (const card of all("[data-card]")) card.textContent = quantity(figures.now[card.dataset.card ?? ""], card.dataset.unit as Unit);
  showParts();
  shown.forEach(({ series }, index) => charts[index]?.show([figures.times, ...series.map((name) => figures.values[name] ?? [])]));
  drawTables();
}

for (const details of all<HTMLDetailsElement>("details.table-behind")) details.addEventListener("toggle", drawTables);
show(figures);
onThemeChange(() => charts.forEach((chart) => chart.draw()));
poll<Figures>(script.dataset.url ?? "", 1000 * Number(script.dataset.every), strings, show);
