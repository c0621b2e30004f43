// Figures of a row that computed something else do not count.
import type { Figures } from "./contest.js";
import type { Row } from "./report.js";

/** Engines may round differently and part at a near tie, but they begin alike. */
const SAME_CHARACTERS = 8;

/** Compares all rows with the first that has figures; those of a wrong one are taken away. */
export function check(rows: Row[], lengths: Map<string, number[]>): void {
  const reference = rows.find(({ figures }) => figures)?.figures;
  for (const row of rows) {
    if (!row.figures || !reference) continue;
    const wrong = difference(row, row.figures, reference, lengths.get(row.id) ?? []);
    if (wrong !== undefined) {
      row.failure = wrong;
      delete row.figures;
    }
  }
}

function difference(row: Row, figures: Figures, reference: Figures, lengths: number[]): string | undefined {
  for (const [i, tokens] of lengths.entries()) {
    const { promptTokens, text } = figures.points[i]!;
    if (promptTokens !== tokens) return `failed: the prompt of ${tokens} tokens had ${promptTokens}`;
    const expected = reference.points.find((point) => point.promptTokens === tokens)?.text;
    // Only where the first row left the long prompts out.
    if (expected === undefined) continue;
    // One may have been asked for more.
    const length = Math.min(text.length, expected.length);
    const alike = sameCharacters(text, expected);
    if (alike < SAME_CHARACTERS) {
      return `failed: after ${tokens} tokens its text begins “${text.slice(0, 20)}”, the first row's “${expected.slice(0, 20)}”`;
    }
    if (alike < length) row.alike = Math.min(alike, row.alike ?? alike);
  }
  return undefined;
}

function sameCharacters(a: string, b: string): number {
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  return same;
}
