// The last word on what reaches the page. Every rendering, however small, goes through here.
import createDOMPurify, { type Config, type WindowLike } from "dompurify";

const ANSWER: Config & { RETURN_DOM_FRAGMENT: true } = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "span",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["class", "href", "start", "title"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const HIGHLIGHTED: typeof ANSWER = { ...ANSWER, ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"] };

/** Classes that our own renderer writes; an answer must not borrow the look of anything else on the page. */
const CLASSES = /^(?:language-[\w+#.-]+|align-(?:left|right|center)|math-(?:inline|display)|image-link|cite|unsupported|hljs-[\w-]+|\w+_)$/;

export interface Sanitiser {
  answer(html: string): DocumentFragment;
  highlighted(html: string): DocumentFragment;
}

export function createSanitiser(window: WindowLike): Sanitiser {
  const purify = createDOMPurify(window);
  purify.addHook("afterSanitizeAttributes", (node) => {
    const names = (node.getAttribute("class") ?? "").split(/\s+/).filter((name) => CLASSES.test(name));
    if (names.length) node.setAttribute("class", names.join(" "));
    else node.removeAttribute("class");
    if (node.nodeName === "A") {
      node.setAttribute("rel", "noopener noreferrer");
      node.setAttribute("target", "_blank");
    }
  });
  return {
    answer: (html) => purify.sanitize(html, ANSWER),
    highlighted: (html) => purify.sanitize(html, HIGHLIGHTED),
  };
}
