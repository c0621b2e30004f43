// transformers.js on ONNX Runtime Web. No package of the site: library, runtime and model are in the folder onnx/ beside
// the page where somebody has put them (tools/bench-onnx/README.md).
import { Arrivals } from "./arrivals.js";
import type { Contestant } from "./contest.js";
import { seen, watchGpu, withholdSubgroups } from "./peer-gpu.js";

/** The part of transformers.js 4.3.1 that is used. */
interface Library {
  env: {
    allowRemoteModels: boolean;
    allowLocalModels: boolean;
    localModelPath: string;
    useBrowserCache: boolean;
    useWasmCache: boolean;
    fetch: (input: string | URL, init?: RequestInit) => Promise<Response>;
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
const LIBRARY = new URL("transformers.min.js", FOLDER).href;
const ORT = `${FOLDER.href}ort-wasm-simd-threaded.asyncify`;

export const RUNTIME = [LIBRARY, `${ORT}.mjs`, `${ORT}.wasm`];

/** One thread: the runtime asks for shared memory only for more. @param mark makes addresses new to the HTTP cache. */
async function library(mark: string): Promise<Library> {
  const found = (await import(/* @vite-ignore */ LIBRARY)) as Library;
  const { env } = found;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  // Whole addresses are not taken for local.
  env.localModelPath = FOLDER.pathname;
  // Nothing but the HTTP cache, as for the others.
  env.useBrowserCache = false;
  env.useWasmCache = false;
  env.fetch = (input, init) => {
    const address = new URL(input, document.baseURI);
    address.search = mark;
    return fetch(address, init);
  };
  env.backends.onnx.wasm.numThreads = 1;
  env.backends.onnx.wasm.wasmPaths = { mjs: `${ORT}.mjs`, wasm: `${ORT}.wasm` };
  return found;
}

/** @param model only its query is used: the weights are those in the folder. @param slow on a software adapter. */
export async function loadOnnx(
  model: string,
  suppressed: number[],
  { device, dtype, slow }: { device: Device; dtype: Dtype; slow: boolean },
): Promise<Contestant> {
  if (device === "webgpu") {
    watchGpu();
    if (slow) withholdSubgroups();
    seen.mostBufferBytes = seen.bufferBytes;
  }
  const bytesBefore = seen.bufferBytes;
  const { AutoTokenizer, AutoModelForCausalLM } = await library(new URL(model).search);
  const tokenizer = await AutoTokenizer.from_pretrained("model");
  const network = await AutoModelForCausalLM.from_pretrained("model", { device, dtype });
  return {
    device: `ONNX Runtime Web, ${device}, ${dtype}`,
    threads: 1,
    async generate(prompt, tokens) {
      const made: number[] = [];
      let prompted = false;
      let first = { ...seen };
      let last = first;
      const arrivals = new Arrivals();
      const input = tokenizer(prompt);
      await network.generate({
        ...input,
        max_new_tokens: tokens,
        do_sample: false,
        suppress_tokens: suppressed,
        streamer: {
          put([ids = []]: bigint[][]) {
            // The prompt comes first.
            if (prompted) {
              arrivals.note();
              last = { ...seen };
              if (made.length === 0) first = last;
              made.push(...ids.map(Number));
            }
            prompted = true;
          },
          end() {},
        },
      });
      if (made.length !== tokens) throw new Error(`${made.length} tokens, not ${tokens}`);
      const each = (count: "dispatches" | "submits" | "readbacks") => (last[count] - first[count]) / (tokens - 1);
      return {
        promptTokens: input.input_ids.dims[1] ?? 0,
        text: tokenizer.decode(made, { skip_special_tokens: false }),
        firstTokenMs: arrivals.firstMs,
        decodeTokensPerSecond: arrivals.rate(tokens),
        ...(device === "webgpu"
          ? { traffic: { dispatches: each("dispatches"), submits: each("submits"), readbacks: each("readbacks") } }
          : {}),
      };
    },
    holdings: () => (device === "webgpu" ? { gpuBytes: seen.mostBufferBytes - bytesBefore } : {}),
    dispose: async () => void (await network.dispose()),
  };
}
