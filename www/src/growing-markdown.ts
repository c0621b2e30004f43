// Draws Markdown that grows at its end. A block that can no longer change keeps its DOM nodes; only the last block is
// drawn anew. What one drawing takes is bounded: after a block that is too long nothing more is drawn.
import { el } from "./dom.js";
import { type Drawing, LONGEST_BLOCK, wholeCharacters } from "./drawing.js";
import { type Block, outline, type References, renderMarkdown } from "./markdown.js";
import { patchFrom } from "./patch.js";

/** The last block is drawn again and again while it grows, so it must not have many elements, as a large table has. */
const MOST_ELEMENTS = 3000;
/** All blocks of a text together. */
const WHOLE = { characters: 300_000, elements: 10_000 };

export class GrowingMarkdown implements Drawing {
  readonly #target: HTMLElement;
  /** What is drawn for good. */
  #finished = { characters: 0, elements: 0, nodes: 0 };
  #references: References = {};
  #isComplete = false;
  drawn = 0;
  isCut = false;

  constructor(target: HTMLElement) {
    this.#target = target;
  }

  draw(text: string, isComplete: boolean): boolean {
    if (isComplete && !this.#isComplete) this.#complete(text);
    if (this.isCut) return false;
    const start = this.#finished.characters;
    const part = wholeCharacters(text, start, start + LONGEST_BLOCK);
    const reachesEnd = start + part.length === text.length;
    const shown = reachesEnd && !isComplete ? withoutUnderline(part) : part;
    const blocks = outline(shown);

    // A block is finished if another one begins after it, in a line that is complete.
    const lastLine = shown.lastIndexOf("\n") + 1;
    const finished = reachesEnd && isComplete ? blocks.length : Math.max(0, blocks.findLastIndex(({ at }) => at < lastLine));
    const fitting = thatFit(blocks);
    const isTooLong = fitting === 0 ? blocks.length > 0 : finished === 0 && !reachesEnd;
    if (isTooLong) {
      this.isCut = true;
      this.#put([], outline(withFewElements(shown)));
      return false;
    }
    const forGood = Math.min(finished, fitting);
    this.#put(blocks.slice(0, forGood), reachesEnd ? blocks.slice(forGood, fitting) : []);
    const { characters, elements } = this.#finished;
    this.isCut = characters < text.length && (characters >= WHOLE.characters || elements >= WHOLE.elements);
    return !this.isCut && forGood > 0 && (!reachesEnd || fitting < blocks.length);
  }

  /** Puts `finished` blocks and `open` ones behind what is drawn for good. */
  #put(finished: Block[], open: Block[]): void {
    const fragment = rendered(finished, this.#references);
    const nodes = fragment.childNodes.length;
    // Definitions in blocks that still change must not stay.
    fragment.append(rendered(open, Object.create(this.#references) as References));
    patchFrom(this.#target, this.#finished.nodes, fragment);
    const size = (blocks: Block[]) => blocks.reduce((sum, { text }) => sum + text.length, 0);
    this.#finished.nodes += nodes;
    this.#finished.characters += size(finished);
    this.#finished.elements += finished.reduce((sum, { elements }) => sum + elements, 0);
    this.drawn = this.#finished.characters + size(open);
  }

  /** A link may use a definition that follows it. If there are any, all is drawn again with them. */
  #complete(text: string): void {
    this.#isComplete = true;
    const head = text.slice(0, WHOLE.characters);
    if (!/^[ >]{0,9}\[[^\]\n]{1,999}\]:/m.test(head)) return;
    this.#references = {};
    outline(head, this.#references);
    this.#finished = { characters: 0, elements: 0, nodes: 0 };
    this.isCut = false;
  }
}

/** How many blocks there is room for in one drawing. */
function thatFit(blocks: Block[]): number {
  let elements = 0;
  const first = blocks.findIndex((block) => (elements += block.elements) > MOST_ELEMENTS);
  return first < 0 ? blocks.length : first;
}

/** As many of the first lines as fit. */
function withFewElements(text: string): string {
  if (thatFit(outline(text)) > 0) return text;
  const lines = text.split("\n");
  const fit = (count: number) => thatFit(outline(lines.slice(0, count).join("\n"))) > 0;
  // One line always fits. Doubling finds the limit with short texts.
  let fits = 1;
  let tooMany = 2;
  for (; tooMany < lines.length && fit(tooMany); tooMany *= 2) fits = tooMany;
  tooMany = Math.min(tooMany, lines.length);
  while (tooMany - fits > 1) {
    const middle = (fits + tooMany) >> 1;
    if (fit(middle)) fits = middle;
    else tooMany = middle;
  }
  return lines.slice(0, fits).join("\n");
}

/** Without a last line of hyphens: it makes a heading of the line above, and may only be the beginning of a list. */
function withoutUnderline(text: string): string {
  return text.replace(/\n {0,3}(?:-+|=+) *$/, "\n");
}

/** What is nested too deep for Markdown is shown as it is. */
function rendered(blocks: Block[], references: References): DocumentFragment {
  const fragment = document.createDocumentFragment();
  let markdown = "";
  const flush = () => {
    if (markdown !== "") fragment.append(renderMarkdown(markdown, references));
    markdown = "";
  };
  for (const { text, isTooDeep } of blocks) {
    if (!isTooDeep) {
      markdown += text;
      continue;
    }
    flush();
    fragment.append(el("p", { class: "plain" }, text.trimEnd()));
  }
  flush();
  return fragment;
}
