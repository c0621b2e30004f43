// What draws a text that grows at its end, in parts of bounded size.
import { brokenText } from "./long-runs.js";
import { patchFrom } from "./patch.js";

/** Characters of the longest block that is drawn. Nobody reads a longer one, and its layout takes long. */
export const LONGEST_BLOCK = 50_000;

export interface Drawing {
  /**
   * Draws the next part of `text`, which begins with the text of all calls before. `isComplete` says that the text grows
   * no more.
   *
   * @returns whether there is more to draw.
   */
  draw(text: string, isComplete: boolean): boolean;
  /** How many characters of the text are drawn. */
  readonly drawn: number;
  /** The text is too long: no more of it will be drawn. */
  readonly isCut: boolean;
}

/** A slice of a text that does not end within a character of two code units. */
export function wholeCharacters(text: string, from: number, to: number): string {
  const splits = to < text.length && /[\ud800-\udbff]/.test(text[to - 1] ?? "");
  return text.slice(from, splits ? to - 1 : to);
}

/** Plain text, as it is. */
export class GrowingText implements Drawing {
  readonly #target: HTMLElement;
  drawn = 0;
  isCut = false;

  constructor(target: HTMLElement) {
    this.#target = target;
  }

  draw(text: string): boolean {
    if (this.isCut) return false;
    const shown = wholeCharacters(text, 0, LONGEST_BLOCK);
    patchFrom(this.#target, 0, brokenText(shown));
    this.drawn = shown.length;
    this.isCut = shown.length < text.length;
    return false;
  }
}
