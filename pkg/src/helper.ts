// The nested module worker of one helper thread. What it does is in helper-host.ts.
import { loadGlue } from "./glue.js";
import { type HelperScope, serveHelper } from "./helper-host.js";

serveHelper(self as unknown as HelperScope, async (level, module) => {
  const { default: init, run_cpu_helper } = await loadGlue(level);
  await init({ module_or_path: module });
  return run_cpu_helper;
});
