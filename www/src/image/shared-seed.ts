// The link to a sample: a seed and a variety in the page's address. Whoever made the link wrote them, so they are checked.

/** What the page draws from. */
export interface Draw {
  seed: number;
  variety: number;
}

export const MOST_SEED = 999_999_999;
export const VARIETY = { most: 1.5, usual: 0.8 };

/** The draw that the address asks for. `refused` says which part cannot be used. */
export function requestedDraw(query: string): Partial<Draw> & { refused?: string } {
  const asked = new URLSearchParams(query);
  const read = (name: string, most: number, pattern: RegExp) => {
    const text = asked.get(name);
    if (text === null || text === "") return undefined;
    const value = pattern.test(text) ? Number(text) : NaN;
    return value <= most ? value : text.slice(0, 40);
  };
  const seed = read("seed", MOST_SEED, /^\d{1,9}$/);
  // In steps, as the slider has them.
  const variety = read("variety", VARIETY.most, /^\d(\.\d[05]?)?$/);
  const refuse = (what: string, text: string, range: string) => ({
    refused: `The address asks for the ${what} ${JSON.stringify(text)}. It has to be ${range}.`,
  });
  if (typeof seed === "string") return refuse("seed", seed, `a whole number from 0 to ${MOST_SEED}`);
  if (typeof variety === "string") return refuse("variety", variety, `a number from 0 to ${VARIETY.most} in steps of 0.05`);
  return { ...(seed === undefined ? {} : { seed }), ...(variety === undefined ? {} : { variety }) };
}

/** The address under which this page begins with that sample. */
export function linkTo({ seed, variety }: Draw): string {
  const link = new URL(location.href);
  link.hash = "";
  link.search = new URLSearchParams({ seed: String(seed), variety: String(variety) }).toString();
  return link.href;
}
