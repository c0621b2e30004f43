// transformers.js on ONNX Runtime Web. No package of the site: library, runtime and model are in the folder onnx/ beside
// the page where somebody has put them (tools/bench-onnx/README.md).
import type { Figures, Work } from "./engines.js";
import { PROMPT } from "./prompt.js";

/** The part of transformers.js 4.3.1 that is used. */
interface Library {
  env: {
    allowRemoteModels: boolean;
    allowLocalModels: boolean;
    localModelPath: string;
    useBrowserCache: boolean;
    useWasmCache: boolean;
    backends: { onnx: { wasm: { numThreads: number; wasmPaths: { mjs: string; wasm: string } } } };
  };
  AutoTokenizer: { from_pretrained(name: string): Promise<Tokenizer> };
  AutoModelForCausalLM: { from_pretrained(name: string, options: { device: Device; dtype: Dtype }): Promise<Model> };
}

interface Tokenizer {
  (text: string): { input_ids: { dims: number[] } };
  decode(ids: number[], options: { skip_special_tokens: boolean }): string;
}

interface Model {
  generate(options: object): Promise<unknown>;
  dispose(): Promise<unknown>;
}

export type Device = "webgpu" | "wasm";
export type Dtype = "q4" | "q8" | "int8";

const FOLDER = new URL("onnx/", document.baseURI);

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** One thread: the runtime asks for shared memory only for more. */
async function library(): Promise<Library> {
  const found = (await import(/* @vite-ignore */ new URL("transformers.min.js", FOLDER).href)) as Library;
  const { env } = found;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  // Whole addresses are not taken for local.
  env.localModelPath = FOLDER.pathname;
  // Every row loads as if for the first time.
  env.useBrowserCache = false;
  env.useWasmCache = false;
  env.backends.onnx.wasm.numThreads = 1;
  const runtime = `${FOLDER.href}ort-wasm-simd-threaded.asyncify`;
  env.backends.onnx.wasm.wasmPaths = { mjs: `${runtime}.mjs`, wasm: `${runtime}.wasm` };
  return found;
}

/** The same work as the other engines': a warm-up, then timed passes from an empty cache, as tokens arrive. */
export async function runOnnx({ tokens, passes }: Work, device: Device, dtype: Dtype, suppressed: number[]): Promise<Figures> {
  const start = performance.now();
  const { AutoTokenizer, AutoModelForCausalLM } = await library();
  const tokenizer = await AutoTokenizer.from_pretrained("model");
  const model = await AutoModelForCausalLM.from_pretrained("model", { device, dtype });
  try {
    const loadSeconds = (performance.now() - start) / 1000;
    const [prefill, decode, first]: [number[], number[], number[]] = [[], [], []];
    // A software adapter takes minutes for what others do in a second.
    const timed = device === "webgpu" && (await software()) ? 1 : passes;
    let promptTokens = 0;
    let made: number[] = [];
    for (let pass = 0; pass <= timed; pass++) {
      const arrivals: number[] = [];
      made = [];
      const asked = performance.now();
      const input = tokenizer(PROMPT);
      promptTokens = input.input_ids.dims[1] ?? 0;
      const wanted = pass === 0 ? 2 : tokens;
      let prompted = false;
      await model.generate({
        ...input,
        max_new_tokens: wanted,
        do_sample: false,
        suppress_tokens: suppressed,
        streamer: {
          put([ids = []]: bigint[][]) {
            // The prompt comes first.
            if (prompted) {
              arrivals.push(performance.now());
              made.push(...ids.map(Number));
            }
            prompted = true;
          },
          end() {},
        },
      });
      if (made.length !== wanted) throw new Error(`${made.length} tokens, not ${wanted}`);
      if (pass === 0) continue;
      const [begin, end] = [arrivals[0] ?? Number.NaN, arrivals.at(-1) ?? Number.NaN];
      first.push(begin - asked);
      prefill.push((promptTokens / (begin - asked)) * 1000);
      decode.push(((tokens - 1) / (end - begin)) * 1000);
    }
    return {
      device: `ONNX Runtime Web, ${device}, ${dtype}`,
      threads: 1,
      passes: timed,
      promptTokens,
      text: tokenizer.decode(made, { skip_special_tokens: false }),
      loadSeconds,
      prefillTokensPerSecond: median(prefill),
      decodeTokensPerSecond: median(decode),
      firstTokenMs: median(first),
    };
  } finally {
    await model.dispose();
  }
}

async function software(): Promise<boolean> {
  // The types of WebGPU are not in TypeScript's library yet.
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<{ info: { isFallbackAdapter?: boolean } } | null> } };
  return (await gpu?.requestAdapter())?.info.isFallbackAdapter ?? false;
}
