// LaTeX in Markdown: \( \), \[ \], $ $ and $$ $$. The TeX goes out as text in a span; KaTeX turns it into a formula
// later. A dollar sign is only a delimiter where it cannot be money: "$5 and $10" stays as it is.
import type { MarkdownIt, StateBlock, StateInline } from "markdown-it";

const PAIRS: [open: string, close: string, display: boolean][] = [
  ["\\(", "\\)", false],
  ["\\[", "\\]", true],
  ["$$", "$$", true],
  ["$", "$", false],
];

function inline(state: StateInline, silent: boolean): boolean {
  const pair = PAIRS.find(([open]) => state.src.startsWith(open, state.pos));
  if (!pair) return false;
  const [open, close, display] = pair;
  const start = state.pos + open.length;
  const end = closing(state.src, start, close);
  if (end < 0 || end > state.posMax - close.length) return false;
  const tex = state.src.slice(start, end);
  if (!tex.trim() || (open === "$" && looksLikeMoney(state.src, start, end))) return false;
  if (!silent) {
    const token = state.push("math", display ? "display" : "inline", 0);
    token.content = tex;
  }
  state.pos = end + close.length;
  return true;
}

function closing(text: string, from: number, close: string): number {
  for (let at = text.indexOf(close, from); at >= 0; at = text.indexOf(close, at + 1)) {
    if (close.startsWith("\\") || text[at - 1] !== "\\") return at;
  }
  return -1;
}

function looksLikeMoney(text: string, start: number, end: number): boolean {
  const spaceInside = /\s/.test(text[start] ?? " ") || /\s/.test(text[end - 1] ?? " ");
  return spaceInside || /[\d$]/.test(text[end + 1] ?? "") || text.slice(start, end).includes("\n\n");
}

/** A formula on lines of its own. Left alone until its end has arrived, so that half a formula is plain text. */
function block(state: StateBlock, startLine: number, endLine: number, silent: boolean): boolean {
  const first = lineOf(state, startLine);
  const pair = PAIRS.find(([open, , display]) => display && first.startsWith(open));
  if (!pair) return false;
  const [open, close] = pair;
  let tex = first.slice(open.length);
  let line = startLine;
  while (!tex.trimEnd().endsWith(close)) {
    line += 1;
    if (line >= endLine) return false;
    const next = lineOf(state, line);
    if (!next.trim()) return false;
    tex += `\n${next}`;
  }
  tex = tex.trimEnd().slice(0, -close.length);
  if (!tex.trim() || tex.includes(close)) return false;
  if (silent) return true;
  const token = state.push("math", "display", 0);
  token.block = true;
  token.content = tex;
  state.line = line + 1;
  return true;
}

function lineOf(state: StateBlock, line: number): string {
  return state.src.slice((state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0), state.eMarks[line]);
}

export function math(md: MarkdownIt): void {
  md.inline.ruler.before("escape", "math", inline);
  md.block.ruler.before("fence", "math", block, { alt: ["paragraph", "reference", "blockquote", "list"] });
  md.renderer.rules.math = (tokens, index) => {
    const token = tokens[index];
    const tex = md.utils.escapeHtml(token?.content ?? "");
    const span = `<span class="math-${token?.tag === "display" ? "display" : "inline"}">${tex}</span>`;
    return token?.block ? `<p>${span}</p>` : span;
  };
}
