// <time data-local>: shown in the reader's zone; UTC stays in the title.

const two = (value: number): string => String(value).padStart(2, "0");

/** Written the same way in every language, so that columns line up and no month is taken for a day. */
export function localTime(iso: string): string {
  const time = new Date(iso);
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${clockTime(time)}`;
}

export function clockTime(when: number | Date): string {
  const time = new Date(when);
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

export function utcTitle(iso: string): string {
  return `${new Date(iso).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** How much of a time is shown, by what the server asks for. */
const LENGTHS: Record<string, number> = { days: "2026-01-01".length, minutes: "2026-01-01 00:00".length };

export function showLocalTimes(root: ParentNode = document): void {
  for (const time of root.querySelectorAll<HTMLTimeElement>("time[data-local]")) {
    const shown = localTime(time.dateTime);
    time.textContent = shown.slice(0, LENGTHS[time.dataset.local ?? ""]);
  }
}
