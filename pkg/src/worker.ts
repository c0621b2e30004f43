// The module worker. It only joins the generated wasm module to the protocol; what it answers is in
// worker-host.ts, which needs no wasm and is tested without it.
import init, { WasmTextModel } from "../wasm/emberglass.js";
import type { WasmTextModelClass } from "./wasm-surface.js";
import { serve, type WorkerScope } from "./worker-host.js";

const TextModel: WasmTextModelClass = WasmTextModel;

serve(self as unknown as WorkerScope, async () => {
  const { memory } = await init({ module_or_path: new URL("../wasm/emberglass_bg.wasm", import.meta.url) });
  return { memory, TextModel };
});
