// One engine at work: loaded afresh, warmed up, and timed on the same prompts as all others.
import { LONG, type Prompt } from "./prompt.js";

/** An engine that has loaded the model. */
export interface Contestant {
  /** What computes, in the engine's own words. */
  device: string;
  threads: number;
  /** Continues a prompt greedily, with nothing of it in the cache before. */
  generate(prompt: string, tokens: number): Promise<Run>;
  /** What it holds and costs, as far as it tells; asked after the work. */
  holdings(): Holdings;
  dispose(): Promise<void>;
}

export interface Run {
  promptTokens: number;
  text: string;
  /** From the request to the first token. */
  firstTokenMs: number;
  decodeTokensPerSecond: number;
  traffic?: Traffic;
}

/** For each decoded token. */
export interface Traffic {
  dispatches: number;
  submits: number;
  readbacks: number;
  weightBytes?: number;
}

export interface Holdings {
  /** The most wasm memory of all threads together, in bytes. */
  wasmBytes?: number;
  gpuBytes?: number;
  /** Weights that every token of a prompt is multiplied with. */
  layerParameters?: number;
}

export interface Engine {
  id: string;
  label: string;
  /** The row that its figures are held against. */
  rival?: string;
  gpu: boolean;
  /** On a software adapter, where long prompts take minutes. */
  slow: boolean;
  load(model: string, context: number): Promise<Contestant>;
  /** Bytes of the engine's own code as it travels, compressed. */
  runtimeBytes(): Promise<number>;
}

/** What is asked of an engine. */
export interface Work {
  /** Absolute address of the GGUF file. */
  model: string;
  prompts: Prompt[];
  /** Tokens to generate after prompts where decoding is timed, and after the others. */
  tokens: { decoded: number; others: number };
  decoded: number[];
  /** Timed passes at most; the median counts. */
  passes: number;
  /** Load twice: the second time the browser may have the file. */
  twice: boolean;
}

export interface Point {
  promptTokens: number;
  passes: number;
  prefillTokensPerSecond: number;
  firstTokenMs: number;
  decodeTokensPerSecond: number | undefined;
  /** Greedy. */
  text: string;
  traffic?: Traffic;
}

export interface Figures extends Holdings {
  device: string;
  threads: number;
  loadSeconds: number;
  loadAgainSeconds?: number;
  runtimeBytes: number;
  points: Point[];
}

/** No more passes are begun after so long. */
const ENOUGH_MS = 10_000;

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

export async function measure(engine: Engine, work: Work): Promise<Figures> {
  const longest = Math.max(...work.prompts.map(({ tokens }) => tokens));
  // A short context is what a visitor with short prompts would have.
  const context = longest < LONG ? 512 : longest + 64;
  const load = async (): Promise<[Contestant, number]> => {
    const start = performance.now();
    const contestant = await engine.load(work.model, context);
    return [contestant, (performance.now() - start) / 1000];
  };
  let [contestant, loadSeconds] = await load();
  let loadAgainSeconds: number | undefined;
  if (work.twice) {
    await contestant.dispose();
    [contestant, loadAgainSeconds] = await load();
  }
  try {
    await contestant.generate(work.prompts[0]!.text, 2);
    const points = [];
    for (const prompt of work.prompts) points.push(await measurePoint(contestant, prompt, work));
    return {
      device: contestant.device,
      threads: contestant.threads,
      loadSeconds,
      ...(loadAgainSeconds === undefined ? {} : { loadAgainSeconds }),
      runtimeBytes: await engine.runtimeBytes(),
      points,
      ...contestant.holdings(),
    };
  } finally {
    await contestant.dispose();
  }
}

async function measurePoint(contestant: Contestant, { tokens, text }: Prompt, work: Work): Promise<Point> {
  const decoded = work.decoded.includes(tokens);
  const wanted = decoded ? work.tokens.decoded : work.tokens.others;
  const runs: Run[] = [];
  const start = performance.now();
  while (runs.length < work.passes && (runs.length === 0 || performance.now() - start < ENOUGH_MS)) {
    runs.push(await contestant.generate(text, wanted));
  }
  const last = runs.at(-1)!;
  const firstTokenMs = median(runs.map((run) => run.firstTokenMs));
  return {
    promptTokens: last.promptTokens,
    passes: runs.length,
    // By the same clock for all: to the first token, whatever an engine counts as its prefill.
    prefillTokensPerSecond: (last.promptTokens / firstTokenMs) * 1000,
    firstTokenMs,
    decodeTokensPerSecond: decoded ? median(runs.map((run) => run.decodeTokensPerSecond)) : undefined,
    text: last.text,
    ...(last.traffic ? { traffic: last.traffic } : {}),
  };
}
