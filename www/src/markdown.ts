// Model text to DOM. The text is untrusted: raw HTML in it is off, the result is sanitized, and no
// string ever reaches innerHTML. Images are left out: fetching one would tell a stranger's server.
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";
import { el } from "./dom.js";
import { breakLongRuns } from "./long-runs.js";

/** Levels of lists and quotes, two for a list and its item. The parser drops what is nested deeper. */
const MOST_NESTED = 30;

const OPTIONS = { html: false, linkify: false, breaks: true, maxNesting: MOST_NESTED } as const;
const markdown = new MarkdownIt(OPTIONS).disable("image");
/** Finds the blocks of a text and looks no further into them. */
const outliner = new MarkdownIt(OPTIONS);
outliner.core.ruler.enableOnly(["normalize", "block"]);

/** Where a link may lead. Others stay the text that the model wrote: an address within this page means nothing here. */
const LINKED = /^(?:https?:|mailto:)/i;
markdown.validateLink = (address) => LINKED.test(address);

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
  ALLOWED_URI_REGEXP: LINKED,
  RETURN_DOM_FRAGMENT: true,
} as const;

/** Definitions of links, `[label]: address`, by label. */
export type References = Record<string, { href: string; title: string }>;

/** A block at the top level of a text, with the blank lines behind it. */
export interface Block {
  text: string;
  /** Where it begins in the whole text. */
  at: number;
  /** Elements it becomes, not counting those within a line. */
  elements: number;
  /** Nested too deep for the parser. */
  isTooDeep: boolean;
}

/** The top-level blocks of a text, in order. The definitions of links in it are added to `references`. */
export function outline(text: string, references: References = {}): Block[] {
  const blocks: (Block & { line: number })[] = [];
  for (const { type, level, nesting, map, hidden } of outliner.parse(text, { references })) {
    if (level === 0 && nesting >= 0) blocks.push({ text: "", at: 0, line: map?.[0] ?? 0, elements: 0, isTooDeep: false });
    const block = blocks.at(-1);
    if (!block || nesting < 0) continue;
    if (type !== "inline" && !hidden) block.elements++;
    block.isTooDeep ||= level >= MOST_NESTED - 1;
  }
  // Line numbers to offsets; the first block also has what stands before it.
  let [line, at] = [0, 0];
  for (const block of blocks.slice(1)) {
    for (; line < block.line; line++) at = text.indexOf("\n", at) + 1;
    block.at = at;
  }
  blocks.forEach((block, index) => (block.text = text.slice(block.at, blocks[index + 1]?.at)));
  return blocks;
}

/** A link may use one of `references`, or one of the text's own, which are added to them. */
export function renderMarkdown(text: string, references: References = {}): DocumentFragment {
  const fragment = DOMPurify.sanitize(markdown.render(text, { references }), {
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
  breakLongRuns(fragment);
  for (const pre of fragment.querySelectorAll("pre")) frameCode(pre);
  // Hebrew and Arabic are written from the right, with their lists and tables.
  for (const block of fragment.children) block.setAttribute("dir", "auto");
  return fragment;
}

/** What is read aloud: the text as Markdown shows it, without its marks. */
export function spokenMarkdown(text: string): string {
  const fragment = renderMarkdown(text);
  for (const bar of fragment.querySelectorAll(".code-bar")) bar.remove();
  return (fragment.textContent ?? "").trim();
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
