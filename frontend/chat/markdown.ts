// Markdown to HTML text, for `sanitise` and nothing else. Raw HTML is never passed through; images become links;
// headings start below the page's own; table alignment is a class, for the content policy forbids style attributes.
import MarkdownIt from "markdown-it";

import { citations } from "./citations.ts";
import { math } from "./math-syntax.ts";

/** passages: up to which number [1] is a citation. imageText: the words shown in place of an image, e.g. `(name) => "Image (not loaded): " + name`. */
export function createMarkdown(imageText: (name: string) => string): (text: string, passages?: number) => string {
  const md = new MarkdownIt({ html: false, linkify: true, breaks: false, typographer: false });
  md.validateLink = (url) => /^(https?:|mailto:)/i.test(url.trim());
  md.use(math);
  md.use(citations);
  md.core.ruler.push("custos", (state) => {
    for (const token of state.tokens) {
      if (token.type === "heading_open" || token.type === "heading_close") {
        token.tag = `h${Math.min(Number(token.tag.slice(1)) + 2, 6)}`;
      }
      const align = /text-align:(\w+)/.exec(String(token.attrGet("style") ?? ""))?.[1];
      if (align) {
        token.attrs = (token.attrs ?? []).filter(([name]) => name !== "style");
        token.attrSet("class", `align-${align}`);
      }
    }
  });
  md.renderer.rules.image = (tokens, index) => {
    const token = tokens[index];
    const name = token?.content || String(token?.attrGet("src") ?? "");
    const href = md.utils.escapeHtml(String(token?.attrGet("src") ?? ""));
    return `<a class="image-link" href="${href}">${md.utils.escapeHtml(imageText(name))}</a>`;
  };
  return (text, passages = 0) => md.render(text, { passages });
}
