// Which titles a few typed letters mean, best first.

/** Higher is better; 0 when not every word of the query is in the text. */
export function score(text: string, query: string): number {
  const haystack = text.toLowerCase();
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  let total = 1;
  for (const word of words) {
    const at = haystack.indexOf(word);
    if (at < 0) return 0;
    const startsWord = at === 0 || /\s|[-_/]/.test(haystack[at - 1] ?? "");
    total += at === 0 ? 3 : startsWord ? 2 : 1;
  }
  return total;
}

export function best<T>(items: T[], query: string, textOf: (item: T) => string, limit: number): T[] {
  return items
    .map((item, index) => ({ item, index, points: score(textOf(item), query) }))
    .filter(({ points }) => points > 0)
    .sort((a, b) => b.points - a.points || a.index - b.index)
    .slice(0, limit)
    .map(({ item }) => item);
}
