// The same prompts for every engine: the last tokens of a text, so many of them.
import { loadTextModel } from "emberglass";

/** Of so many tokens, the shortest first. */
export const LENGTHS = [32, 128, 512, 1024, 2048];
/** Where decoding is timed too, after as many tokens. */
export const DECODED = [32, 512, 2048];
/** Prompts that a software adapter takes minutes for begin here. */
export const LONG = 512;

export interface Prompt {
  tokens: number;
  text: string;
}

/** 128 tokens of SmolLM2's tokenizer; `bench` in tools/reference/prompts.json. */
const RIVER =
  "A river is never finished. Rain falls on the hills, gathers in the grass, and runs down through stones that " +
  "it has been rounding for thousands of years. In the valley it slows, drops its sand, and bends away from its " +
  "own old bed. Farmers who live beside it learn to read the colour of the water: brown after a storm, green in " +
  "late summer, almost black under ice. They build their houses a little higher than their grandparents did, and " +
  "they still keep a boat in the barn. When the flood comes, it does not come like a wall, as visitors imagine, " +
  "but like a guest who arrives early and will";
/** What comes after a river must be plain to weights of every precision: it was said before. After the first one alone it is nearly so. */
const RIVERS = Array(19).fill(RIVER).join(" not leave for days.\n\n");
/** A quarter of a river could go on in many ways. */
const COUNT =
  "The children count the boats: one, two, three, four, five, six, seven, eight, nine, ten. Again: one, two, three, four,";

/** @throws Error when the model's tokenizer does not read the prompts as it should. */
export async function prompts(model: string, lengths: number[]): Promise<Prompt[]> {
  const loaded = await loadTextModel(model, { storage: "none", device: "cpu", threads: 1, contextLength: 64 });
  try {
    const [count, rivers] = await Promise.all([loaded.tokenize(COUNT), loaded.tokenize(RIVERS)]);
    return await Promise.all(
      lengths.map(async (tokens) => {
        const text = await loaded.detokenize((tokens <= count.length ? count : rivers).subarray(-tokens));
        const again = await loaded.countTokens(text);
        if (again !== tokens) throw new Error(`The prompt of ${tokens} tokens has ${again}.`);
        return { tokens, text };
      }),
    );
  } finally {
    await loaded.dispose();
  }
}
