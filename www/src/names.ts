// Text that comes from files and addresses: it may try to pass for text of the page.
import { el } from "./dom.js";

/** Longer names are cut. */
const LONGEST = 80;

/**
 * Control characters, among them those that turn the writing direction. The two that join letters stay: names in Persian
 * and in emoji need them.
 */
const CONTROLS = "(?![\\n\\u200c\\u200d])[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]";
/** Letters that show nothing and are no spaces. */
const BLANKS = "[\\u034f\\u115f\\u1160\\u2800\\u3164\\uffa0]";
/** Marks above and below one letter, after the first four: more reach into the lines around. */
const PILED_MARKS = "(?<=\\p{M}{4})\\p{M}";
const UNSEEN = new RegExp(`${CONTROLS}|${BLANKS}|${PILED_MARKS}`, "gu");

/** The text with each of these characters by its number. */
export function visible(text: string): string {
  return text.replace(UNSEEN, (character) => {
    const number = character.codePointAt(0) ?? 0;
    return `[U+${number.toString(16).toUpperCase().padStart(4, "0")}]`;
  });
}

/** A name as plain text on one line, for attributes and announcements. */
export function plainName(name: string): string {
  // By characters, since half of one is none.
  const shown = [...(name.trim() === "" ? "[blank]" : visible(name.replaceAll("\n", " ")))];
  if (shown.length > LONGEST) shown.splice(LONGEST - 20, shown.length - LONGEST + 1, "…");
  return shown.join("");
}

/** A name, apart from the text around it: its letters change no direction outside. */
export function nameElement(name: string): HTMLElement {
  return el("bdi", { class: "name" }, plainName(name));
}

/** A file's name without its ending, and without what a name on a disk cannot have. */
export function stem(name: string): string {
  const bare = visible(name).replace(/\.[^.]*$/, "").replace(/[\\/:*?"<>|[\]\s]+/g, "-");
  // A leading dot hides a file; Windows takes no dot at the end.
  const trimmed = [...bare].slice(0, 60).join("").replace(/^[.-]+|[.-]+$/g, "");
  return trimmed === "" ? "picture" : trimmed;
}
