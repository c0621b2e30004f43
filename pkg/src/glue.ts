// The only file that imports `wasm/`: two builds of one engine, of which a browser loads one.
import type { RunHelper } from "./helper-host.js";
import type { SimdLevel } from "./simd.js";
import type { Engine, WasmImageModelClass, WasmTextModelClass } from "./wasm-surface.js";

/** The JavaScript half of a build. Assigning the generated module to this checks that it fits. */
interface Glue {
  default: (input: { module_or_path: WebAssembly.Module }) => Promise<{ memory: WebAssembly.Memory }>;
  WasmTextModel: WasmTextModelClass;
  WasmImageModel: WasmImageModelClass;
  measureGpu: Engine["measureGpu"];
  run_cpu_helper: RunHelper;
}

/** Both imports are written out: this is the form in which bundlers see them. */
export async function loadGlue(level: SimdLevel): Promise<Glue> {
  return level === "relaxed" ? import("../wasm/relaxed/emberglass.js") : import("../wasm/simd128/emberglass.js");
}

/** Fetches and compiles a build, so that helpers can start from the same module. */
export async function compile(level: SimdLevel): Promise<WebAssembly.Module> {
  // These too stand written out for bundlers.
  const url =
    level === "relaxed"
      ? new URL("../wasm/relaxed/emberglass_bg.wasm", import.meta.url)
      : new URL("../wasm/simd128/emberglass_bg.wasm", import.meta.url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`HTTP status ${response.status} for ${url.href}`);
  // Compiling while it arrives takes the right media type, which not every server sends.
  const streams = response.headers.get("content-type")?.startsWith("application/wasm") ?? false;
  return streams ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}
