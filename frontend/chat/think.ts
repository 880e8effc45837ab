// What a reasoning model thinks before it answers is shown folded. Most services send it apart from the answer; the text
// of others holds it as `<think>…</think>`.

export interface Parts {
  reasoning: string | null;
  answer: string;
  thinking: boolean; // The reasoning is still being written.
}

const OPEN = "<think>";
const CLOSE = "</think>";

/** An answer's parts, wherever its reasoning came from. */
export function partsOf({ text, reasoning }: { text: string; reasoning: string }, growing: boolean): Parts {
  if (!reasoning) return splitThinking(text, growing);
  return { reasoning: reasoning.trim() || null, answer: text.trimStart(), thinking: growing && !text.trim() };
}

/** Split a text, finished or still growing. A tag that has only half arrived is held back, never shown. */
export function splitThinking(text: string, growing: boolean): Parts {
  const start = text.trimStart();
  if (start.startsWith(OPEN)) {
    const inner = start.slice(OPEN.length);
    const end = inner.indexOf(CLOSE);
    if (end >= 0) return parts(inner.slice(0, end), inner.slice(end + CLOSE.length));
    return { reasoning: (growing ? withoutPartial(inner, CLOSE) : inner).trim(), answer: "", thinking: growing };
  }
  // Some chat templates write the opening tag themselves, so that only the closing one arrives.
  const alone = /^<\/think>[ \t]*$/m.exec(text);
  if (alone) return parts(text.slice(0, alone.index), text.slice(alone.index + CLOSE.length));
  if (growing && start && OPEN.startsWith(start)) return { reasoning: null, answer: "", thinking: true };
  return { reasoning: null, answer: text, thinking: false };
}

function parts(reasoning: string, answer: string): Parts {
  return { reasoning: reasoning.trim() || null, answer: answer.trimStart(), thinking: false };
}

/** The text without an unfinished `tag` at its end. */
function withoutPartial(text: string, tag: string): string {
  for (let length = Math.min(tag.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(tag.slice(0, length))) return text.slice(0, -length);
  }
  return text;
}
