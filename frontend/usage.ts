// The usage page: a chart for each way of adding up. The tables behind them are in the page already.
import { must, readJson } from "./lib/dom.ts";
import { number, say, type Strings } from "./lib/text.ts";
import { onThemeChange } from "./lib/theme.ts";
import { Chart } from "./overview/chart.ts";

interface Usage {
  labels: string[];
  tokens: number[];
  written: number[];
}

const strings = readJson<Strings>("usage-strings");
const charts: Chart[] = [];

for (const [by, { labels, tokens, written }] of Object.entries(readJson<Record<string, Usage>>("usage-data"))) {
  if (!labels.length) continue;
  const series = [
    { label: say(strings, "tokens"), color: "--c1", swatch: "s1", bars: 0.7 },
    { label: say(strings, "written"), color: "--c3", swatch: "s3", bars: 0.3 },
  ];
  const flat = by !== "day";
  const chart = new Chart(must(`[data-chart="${by}"]`), must(`[data-legend="${by}"]`), series, (value) => number(value), 10, true, {
    labels,
    flat,
  });
  chart.show([labels.map((_label, index) => index), tokens, written]);
  charts.push(chart);
}
onThemeChange(() => charts.forEach((chart) => chart.draw()));
