// The part of wllama 3.13.0 that is used. The package's own types are its sources, which do not pass this
// project's strictness (tsconfig.json maps the name here; the build takes the real package).

export interface CompletionChunk {
  choices: { text?: string }[];
  /** Only on the last chunk. */
  usage?: object;
  timings?: { prompt_n: number; cache_n: number; predicted_n: number };
}

export interface CompletionOptions {
  prompt: string;
  max_tokens: number;
  temperature: number;
  ignore_eos: boolean;
  cache_prompt: boolean;
  stream: true;
  onData(chunk: CompletionChunk): void;
}

export class Wllama {
  constructor(paths: { default: string }, options: { logger: object; suppressNativeLog: boolean });
  loadModel(
    files: Blob[],
    options: { n_threads: number; n_gpu_layers: number; n_parallel: number; n_ctx: number },
  ): Promise<void>;
  createCompletion(options: CompletionOptions): Promise<unknown>;
  getNumThreads(): number;
  exit(): Promise<void>;
}

export const LoggerWithoutDebug: object;
