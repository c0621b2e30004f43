// Long runs of text without a space. Where letters are kerned or joined, a browser shapes the rest of a run anew for every
// line: 25,000 times the letter A took Chromium 5 s. A <wbr> now and then ends that; it shows nothing and is not copied.
import { el } from "./dom.js";

/** About a line. */
const LONG_RUN = /\S{100}(?=\S)/u;
const UP_TO_LONG_RUN = /[^]*?\S{100}(?=\S)|[^]+/gu;

/** The text, with places to break its long runs. */
export function brokenText(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  const pieces = LONG_RUN.test(text) ? (text.match(UP_TO_LONG_RUN) ?? []) : [text];
  for (const piece of pieces) {
    if (fragment.firstChild) fragment.append(el("wbr"));
    fragment.append(piece);
  }
  return fragment;
}

/** The same for all texts in `root` but those in `pre`, whose lines are not broken. */
export function breakLongRuns(root: Node): void {
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const long: Text[] = [];
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    if (node instanceof Text && LONG_RUN.test(node.data) && !node.parentElement?.closest("pre")) long.push(node);
  }
  for (const text of long) text.replaceWith(brokenText(text.data));
}
