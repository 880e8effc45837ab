// Code colouring, loaded when the first block of code arrives.
import hljs from "highlight.js/lib/common";

const LONGEST = 20_000; // Characters; colouring more than this in every frame would be felt.

/** HTML of coloured code for `sanitise`, or null when the language is not known. */
export function highlighted(code: string, language: string): string | null {
  if (!hljs.getLanguage(language) || code.length > LONGEST) return null;
  return hljs.highlight(code, { language, ignoreIllegals: true }).value;
}
