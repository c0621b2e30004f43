// Stands in for the generated file of the same name; see ../../README.md.
export { default, run_cpu_helper, WasmImageModel, WasmTextModel } from "../simd128/emberglass.js";

export function measureGpu(): Promise<any>;
