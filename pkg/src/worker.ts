// The module worker. It only joins the generated wasm module to the protocol; what it answers is in
// worker-host.ts, which needs no wasm and is tested without it.
import { compile, loadGlue } from "./glue.js";
import { networkFaults } from "./network-fault.js";
import { simdLevel } from "./simd.js";
import { askForSubgroups } from "./subgroups.js";
import { coresHere } from "./threads.js";
import { serve, type WorkerScope } from "./worker-host.js";

askForSubgroups(self as unknown as Parameters<typeof askForSubgroups>[0]);

serve(self as unknown as WorkerScope, {
  simdLevel,
  cores: coresHere,
  async start(level) {
    const [module, glue] = await Promise.all([compile(level), loadGlue(level)]);
    const { memory } = await glue.default({ module_or_path: module });
    return { memory, module, TextModel: glue.WasmTextModel, ImageModel: glue.WasmImageModel, measureGpu: glue.measureGpu };
  },
  explain: networkFaults(self),
});
