// Model text to DOM. The text is untrusted: raw HTML in it is off, the result is sanitized, and no
// string ever reaches innerHTML. Images are left out: fetching one would tell a stranger's server.
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";
import { el } from "./dom.js";

const markdown = new MarkdownIt({ html: false, linkify: false, breaks: true }).disable("image");

// Column alignment comes as inline style, which the page's security policy refuses: use a class.
markdown.renderer.rules.th_open = markdown.renderer.rules.td_open = (tokens, index, options, _env, self) => {
  const token = tokens[index];
  const align = /text-align:\s*(\w+)/.exec(String(token?.attrGet("style") ?? ""))?.[1];
  if (token) token.attrs = align ? [["class", `align-${align}`]] : null;
  return self.renderToken(tokens, index, options);
};

const ALLOWED = {
  ALLOWED_TAGS: [
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "blockquote",
    "ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td",
  ],
  ALLOWED_ATTR: ["href", "class", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  RETURN_DOM_FRAGMENT: true,
} as const;

export function renderMarkdown(text: string): DocumentFragment {
  const fragment = DOMPurify.sanitize(markdown.render(text), {
    ...ALLOWED,
    ALLOWED_TAGS: [...ALLOWED.ALLOWED_TAGS],
    ALLOWED_ATTR: [...ALLOWED.ALLOWED_ATTR],
  });
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const table of fragment.querySelectorAll("table")) {
    const scroller = el("div", { class: "table-scroll", tabindex: 0 });
    table.replaceWith(scroller);
    scroller.append(table);
  }
  for (const pre of fragment.querySelectorAll("pre")) frameCode(pre);
  return fragment;
}

/** Gives a code block its language and a copy button; clicks are handled by `copyCodeOnClick`. */
function frameCode(pre: HTMLPreElement): void {
  const language = /language-([\w+#.-]+)/.exec(pre.firstElementChild?.className ?? "")?.[1] ?? "";
  pre.tabIndex = 0;
  const frame = el(
    "div",
    { class: "code" },
    el("div", { class: "code-bar" }, el("span", {}, language), el("button", { type: "button", class: "code-copy" }, "Copy")),
  );
  pre.replaceWith(frame);
  frame.append(pre);
}

/**
 * Puts new content into `target`, leaving the blocks that have not changed alone: while text streams
 * in, a selection or a focused copy button in an earlier block stays.
 */
export function patchChildren(target: HTMLElement, fragment: DocumentFragment): void {
  let old = target.firstChild;
  let fresh = fragment.firstChild;
  while (old && fresh?.isEqualNode(old)) {
    old = old.nextSibling;
    fresh = fresh.nextSibling;
  }
  while (old) {
    const gone: ChildNode = old;
    old = old.nextSibling;
    gone.remove();
  }
  while (fresh) {
    const next: ChildNode | null = fresh.nextSibling;
    target.append(fresh);
    fresh = next;
  }
}
