// Which passage says what: marks in an answer's text, and how Markdown turns them into something to press.
//
// The model writes [1]. What the server found the sentences to rest on comes when the answer is complete, as places in the
// text, and then replaces that, with a private character that an answer's own text is cleared of.
import type { MarkdownIt, StateInline } from "markdown-it";

import type { Sources } from "./protocol.ts";

const OURS = "\uE000";
const UNSUPPORTED = "?";
const WRITTEN = /\s?\[\d{1,2}\]/g;
const MARK = /^\[(?:(\d{1,2})|\uE000(\d{1,2}|\?))\](?!\()/;

/** The text of an answer with the marks of what its sentences rest on. */
export function annotated(text: string, sources: Sources | null): string {
  const clean = text.replaceAll(OURS, " ");
  if (!sources?.support.length) return clean;
  const characters = Array.from(clean); // As the server counts them.
  let result = "";
  let at = 0;
  for (const { start, end, passages } of sources.support) {
    if (start < at || end > characters.length) continue;
    result += characters.slice(at, start).join("");
    const sentence = characters.slice(start, end).join("");
    result += isInCode(result) ? sentence : sentence.replace(WRITTEN, "") + marksOf(passages);
    at = end;
  }
  return result + characters.slice(at).join("");
}

function isInCode(before: string): boolean {
  return (before.match(/^ {0,3}(?:```|~~~)/gm)?.length ?? 0) % 2 === 1;
}

function marksOf(passages: number[]): string {
  const names = passages.length ? passages.map(String) : [UNSUPPORTED];
  return names.map((name) => `[${OURS}${name}]`).join("");
}

/** [1] and marks become `<span class="cite">1</span>`, up to the number of passages that `env.passages` says. */
export function citations(md: MarkdownIt): void {
  md.inline.ruler.before("link", "citation", (state: StateInline, silent: boolean) => {
    const most = Number((state.env as { passages?: number }).passages ?? 0);
    const match = most ? MARK.exec(state.src.slice(state.pos, state.pos + 6)) : null;
    const name = match?.[1] ?? match?.[2];
    if (!match || !name || (name !== UNSUPPORTED && (Number(name) < 1 || Number(name) > most))) return false;
    if (!silent) state.push("citation", "", 0).content = name;
    state.pos += match[0].length;
    return true;
  });
  md.renderer.rules.citation = (tokens, index) => {
    const name = tokens[index]?.content ?? "";
    return name === UNSUPPORTED ? '<span class="unsupported">?</span>' : `<span class="cite">${Number(name)}</span>`;
  };
}
