// Translated words and numbers in the page's language.

export type Strings = Record<string, string>;

/** A translated text with its `{names}` filled in; an unknown key shows itself, so that it is noticed. */
export function say(strings: Strings, key: string, values: Record<string, string | number> = {}): string {
  return (strings[key] ?? key).replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** With at most `digits` after the point; small figures keep two significant digits instead of becoming 0. */
export function number(value: number, digits = 0): string {
  if (digits > 0 && Math.abs(value) < 1) {
    return new Intl.NumberFormat(document.documentElement.lang, { maximumSignificantDigits: 2 }).format(value);
  }
  return new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: digits }).format(value);
}

/** Milliseconds as people read them: 312 ms, 1.24 s. */
export function duration(ms: number): string {
  return ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000, 2)} s`;
}

export function utf8Bytes(text: string): number {
  return new TextEncoder().encode(text).length;
}
