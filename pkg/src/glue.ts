// The only file that imports `wasm/`: it joins the generated module to the protocol.
import { newMemory } from "./memory.js";
import { networkFaults } from "./network-fault.js";
import { copySharedViews, type ViewScope } from "./shared-views.js";
import { openChunkStore } from "./storage/open.js";
import { simdLevel } from "./simd.js";
import { askForSubgroups } from "./subgroups.js";
import { coresHere } from "./threads.js";
import type { Engine, WasmImageModelClass, WasmTextModelClass } from "./wasm-surface.js";
import { type AskForWasm, serve, type WorkerScope } from "./worker-host.js";
// Both builds take the same JavaScript: scripts/build.mjs makes sure of it.
import * as generated from "../wasm/simd128/emberglass.js";

/** Assigning the generated module to this checks that it fits. */
interface Glue {
  default: (input: { module_or_path: WebAssembly.Module; memory: WebAssembly.Memory }) => Promise<unknown>;
  WasmTextModel: WasmTextModelClass;
  WasmImageModel: WasmImageModelClass;
  measureGpu: Engine["measureGpu"];
  downloadFiles: Engine["downloadFiles"];
}

const glue: Glue = generated;

/** Answers the page in this worker. */
export function serveEngine(scope: WorkerScope): void {
  const explain = networkFaults(globalThis as unknown as Parameters<typeof networkFaults>[0]);
  askForSubgroups(globalThis as unknown as Parameters<typeof askForSubgroups>[0]);
  copySharedViews(globalThis as unknown as ViewScope);
  serve(scope, {
    simdLevel,
    cores: coresHere,
    async start(_level, ask) {
      const module = await compile(ask, explain);
      const { memory, mostBytes } = newMemory();
      await glue.default({ module_or_path: module, memory });
      const { WasmTextModel: TextModel, WasmImageModel: ImageModel, measureGpu, downloadFiles } = glue;
      return { memory, mostMemoryBytes: mostBytes, module, TextModel, ImageModel, measureGpu, downloadFiles };
    },
    explain,
    fetch: (url, init) => fetch(url, init),
    openStore: openChunkStore,
  });
}

/** Compiles the build from the first place that the page names and where it is. */
async function compile(ask: AskForWasm, explain: ReturnType<typeof networkFaults>): Promise<WebAssembly.Module> {
  for (let failed: string | undefined; ; ) {
    const place = await ask(failed);
    if (typeof place !== "string") return WebAssembly.compile(await unpacked(place));
    try {
      return await compileFrom(place, explain);
    } catch (thrown) {
      if (isPolicy(thrown)) throw new Error(`this page's Content-Security-Policy forbids WebAssembly: add 'wasm-unsafe-eval' to its script-src`);
      failed = `the engine's wasm could not be loaded from ${withoutSecrets(place)}: ${(thrown as Error).message}`;
    }
  }
}

async function compileFrom(address: string, explain: ReturnType<typeof networkFaults>): Promise<WebAssembly.Module> {
  let response: Response;
  try {
    response = await fetch(address);
  } catch {
    throw new Error((await explain(address)).reason);
  }
  if (!response.ok) throw new Error(`the server answers with status ${response.status}`);
  const type = response.headers.get("content-type") ?? "";
  if (type.startsWith("text/html")) throw new Error("the server sends an HTML page, so the file is probably not there");
  // Compiling while it arrives takes the right media type, which not every server sends.
  return type.startsWith("application/wasm") ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}

/** The packed copy is compressed. */
async function unpacked(gzip: Blob): Promise<ArrayBuffer> {
  return new Response(gzip.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

function isPolicy(thrown: unknown): boolean {
  return thrown instanceof WebAssembly.CompileError && /unsafe-eval|Content.Security.Policy|\bCSP\b/i.test(thrown.message);
}

function withoutSecrets(address: string): string {
  const { protocol, origin, pathname } = new URL(address);
  return protocol === "data:" ? "a data: address" : origin + pathname;
}
