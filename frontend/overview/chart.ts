// One uPlot chart in the page's colours. Series differ by colour and by line, so that colour is never the only sign.
import uPlot from "uplot";

import { h } from "../lib/dom.ts";
import { clockTime } from "../lib/times.ts";

export interface Series {
  label: string;
  color: string; // A custom property of the stylesheet, such as "--c1".
  swatch: string; // The class of its sample in the legend.
  dash?: number[];
  bars?: number; // The bars' share of their place's width.
}

/** Charts over named places instead of times: the x values are 0, 1, 2 … and `labels` says what each is.
 * flat: bars lie on their side, so that long names have room. */
export interface Places {
  labels: string[];
  flat?: boolean;
}

const NAME_WIDTH = 220; // The most, in pixels, that names beside bars take.
const COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000, 1_000_000];

/** The colour that a custom property has now; canvases cannot read `light-dark()` themselves. */
function colorOf(property: string): string {
  const probe = h("span", { hidden: true });
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

export class Chart {
  private plot: uPlot | null = null;
  private data: uPlot.AlignedData = [[]];

  /** Values are in the unit that `format` writes; null leaves a gap. top: the least that the axis reaches up to;
   * whole: the values are counts; places: what the x values stand for, when they are no times. */
  constructor(
    private readonly target: HTMLElement,
    private readonly legend: HTMLElement,
    private readonly series: Series[],
    private readonly format: (value: number) => string,
    private readonly top: number,
    private readonly whole = false,
    private readonly places: Places | null = null,
  ) {
    new ResizeObserver(() => this.resize()).observe(target);
  }

  show(data: uPlot.AlignedData): void {
    this.data = data;
    if (this.plot) this.plot.setData(data);
    else this.draw();
    this.showLegend(this.plot?.cursor.idx ?? null);
  }

  /** Which of the x values the pointer is at. */
  pointed(): number | null {
    return this.plot?.cursor.idx ?? null;
  }

  /** Anew, in the colours of now. */
  draw(): void {
    this.plot?.destroy();
    this.plot = new uPlot(this.options(), this.data, this.target);
  }

  private size(): { width: number; height: number } {
    return { width: Math.max(this.target.clientWidth, 120), height: this.target.clientHeight };
  }

  private resize(): void {
    this.plot?.setSize(this.size());
  }

  private options(): uPlot.Options {
    return {
      ...this.size(),
      padding: [8, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false }, points: this.places ? { show: false } : { size: 7 } },
      hooks: { setCursor: [(plot) => this.showLegend(plot.cursor.idx ?? null)] },
      scales: this.scales(),
      axes: this.axes(),
      series: [{}, ...this.series.map((each) => this.line(each))],
    };
  }

  private scales(): uPlot.Scales {
    const y: uPlot.Scale = { range: (_plot, _min, max) => [0, Math.max((max ?? 0) * 1.1, this.top)] };
    if (!this.places) return { y };
    const last = this.places.labels.length - 0.5;
    const x: uPlot.Scale = { time: false, range: () => [-0.5, last] };
    if (!this.places.flat) return { x, y };
    return { x: { ...x, ori: 1, dir: -1 }, y: { ...y, ori: 0, dir: 1 } };
  }

  private axes(): uPlot.Axis[] {
    const grid = { stroke: colorOf("--line"), width: 1 };
    const axis: uPlot.Axis = { stroke: colorOf("--ink-3"), grid, ticks: { show: false }, font: "11px system-ui" };
    const along: uPlot.Axis = { ...axis, grid: { show: false }, size: 28, space: 70 };
    const values: uPlot.Axis = {
      ...axis,
      ...(this.whole ? { incrs: COUNTS } : {}),
      size: 58,
      space: 36,
      values: (_plot, splits) => splits.map((value) => this.format(value)),
    };
    if (!this.places) return [{ ...along, values: (_plot, times) => times.map(hourAndMinute) }, values];
    const { labels, flat } = this.places;
    const width = Math.min(NAME_WIDTH, Math.floor(this.size().width * 0.35));
    const named = (splits: number[]): string[] => splits.map((split) => shortened(labels[split] ?? "", flat ? (width - 20) / 6.8 : 99));
    if (!flat) return [{ ...along, incrs: COUNTS, values: (_plot, splits) => named(splits) }, values];
    const every = labels.map((_label, index) => index);
    return [
      { ...along, side: 3, size: width, splits: () => every, values: (_plot, splits) => named(splits) },
      { ...values, side: 2, size: 28, space: 70 },
    ];
  }

  private line({ color, dash, bars, label }: Series): uPlot.Series {
    const stroke = colorOf(color);
    const paths = bars ? uPlot.paths.bars?.({ size: [bars, 40 * bars] }) : undefined;
    return {
      label,
      stroke,
      width: bars ? 0 : 2,
      points: { show: !bars, size: 5, fill: stroke, filter: (plot, index) => lonely(plot.data[index] ?? []) },
      ...(dash ? { dash } : {}),
      ...(bars ? { fill: stroke } : {}),
      ...(paths ? { paths } : {}),
    };
  }

  /** The values under the pointer, or the newest there are; of places only what the series are. */
  private showLegend(index: number | null): void {
    const items = this.series.map(({ label, swatch }, number) => {
      const values = this.data[number + 1] ?? [];
      const swatchShown = h("span", { class: `swatch ${swatch}` });
      if (index === null && this.places) return h("span", {}, swatchShown, label);
      const value = index === null ? lastOf(values) : values[index];
      const shown = value == null ? "–" : this.format(value);
      return h("span", {}, swatchShown, `${label} ${shown}`);
    });
    const place = index === null ? undefined : this.places?.labels[index];
    this.legend.replaceChildren(...(place ? [h("span", {}, place)] : []), ...items);
  }
}

function shortened(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, Math.max(most - 1, 1))}…` : text;
}

function lastOf(values: ArrayLike<number | null | undefined>): number | null {
  for (let i = values.length - 1; i >= 0; i--) {
    const value = values[i];
    if (value != null) return value;
  }
  return null;
}

/** The places of values without a neighbour, which no line would show. */
function lonely(values: ArrayLike<number | null | undefined>): number[] {
  const places: number[] = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] != null && values[i - 1] == null && values[i + 1] == null) places.push(i);
  }
  return places;
}

function hourAndMinute(seconds: number): string {
  return clockTime(seconds * 1000).slice(0, 5);
}
