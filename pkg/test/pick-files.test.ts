// Names as they are in real repositories.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { HubModel } from "../src/protocol.js";
import { Refused } from "../src/sources/patience.js";
import { pickFiles } from "../src/sources/pick-files.js";

function pick(paths: string[], wanted: { quantization?: string; path?: string } = {}): string[] {
  const model: HubModel = { name: "hf:o/r", repository: "o/r", revision: "main", hubs: [], ...wanted };
  return pickFiles(model, paths.map((path) => ({ path, bytes: 1 }))).map(({ path }) => path);
}

function refused(paths: string[], wanted: { quantization?: string; path?: string } = {}) {
  try {
    pick(paths, wanted);
  } catch (error) {
    assert.ok(error instanceof Refused && error.refusal.kind === "final");
    return error.refusal.error;
  }
  assert.fail("picked");
}

const BARTOWSKI = [
  ".gitattributes",
  "Qwen_Qwen3-30B-A3B-IQ2_M.gguf",
  "Qwen_Qwen3-30B-A3B-IQ4_NL.gguf",
  "Qwen_Qwen3-30B-A3B-IQ4_XS.gguf",
  "Qwen_Qwen3-30B-A3B-Q2_K.gguf",
  "Qwen_Qwen3-30B-A3B-Q2_K_L.gguf",
  "Qwen_Qwen3-30B-A3B-Q4_0.gguf",
  "Qwen_Qwen3-30B-A3B-Q4_K_L.gguf",
  "Qwen_Qwen3-30B-A3B-Q4_K_M.gguf",
  "Qwen_Qwen3-30B-A3B-Q4_K_S.gguf",
  "Qwen_Qwen3-30B-A3B-Q6_K.gguf",
  "Qwen_Qwen3-30B-A3B-Q8_0.gguf",
  "Qwen_Qwen3-30B-A3B-bf16/Qwen_Qwen3-30B-A3B-bf16-00001-of-00002.gguf",
  "Qwen_Qwen3-30B-A3B-bf16/Qwen_Qwen3-30B-A3B-bf16-00002-of-00002.gguf",
  "README.md",
  "imatrix.gguf",
];
const UNSLOTH = [
  "BF16/gemma-3-27b-it-BF16-00001-of-00002.gguf",
  "BF16/gemma-3-27b-it-BF16-00002-of-00002.gguf",
  "config.json",
  "gemma-3-27b-it-IQ4_NL.gguf",
  "gemma-3-27b-it-Q4_K_M.gguf",
  "gemma-3-27b-it-Q8_0.gguf",
  "gemma-3-27b-it-UD-IQ1_S.gguf",
  "gemma-3-27b-it-UD-Q4_K_XL.gguf",
  "gemma-3-27b-it-UD-Q8_K_XL.gguf",
  "mmproj-BF16.gguf",
  "mmproj-F16.gguf",
];
const THEBLOKE = [
  "README.md",
  "config.json",
  "mistral-7b-instruct-v0.2.Q2_K.gguf",
  "mistral-7b-instruct-v0.2.Q3_K_M.gguf",
  "mistral-7b-instruct-v0.2.Q4_0.gguf",
  "mistral-7b-instruct-v0.2.Q4_K_M.gguf",
  "mistral-7b-instruct-v0.2.Q8_0.gguf",
];
const SPLIT = [
  "Q4_K_M/DeepSeek-V3-Q4_K_M-00001-of-00003.gguf",
  "Q4_K_M/DeepSeek-V3-Q4_K_M-00002-of-00003.gguf",
  "Q4_K_M/DeepSeek-V3-Q4_K_M-00003-of-00003.gguf",
  "UD-Q2_K_XL/DeepSeek-V3-UD-Q2_K_XL-00001-of-00002.gguf",
  "UD-Q2_K_XL/DeepSeek-V3-UD-Q2_K_XL-00002-of-00002.gguf",
];

test("the quantization picks the file, whatever its case and its place in the name", () => {
  assert.deepEqual(pick(BARTOWSKI, { quantization: "IQ4_NL" }), ["Qwen_Qwen3-30B-A3B-IQ4_NL.gguf"]);
  assert.deepEqual(pick(BARTOWSKI, { quantization: "Q2_K" }), ["Qwen_Qwen3-30B-A3B-Q2_K.gguf"]);
  assert.deepEqual(pick(BARTOWSKI, { quantization: "BF16" }).length, 2);
  assert.deepEqual(pick(UNSLOTH, { quantization: "UD-Q4_K_XL" }), ["gemma-3-27b-it-UD-Q4_K_XL.gguf"]);
  assert.deepEqual(pick(UNSLOTH, { quantization: "Q4_K_XL" }), ["gemma-3-27b-it-UD-Q4_K_XL.gguf"]);
  assert.deepEqual(pick(UNSLOTH, { quantization: "IQ1_S" }), ["gemma-3-27b-it-UD-IQ1_S.gguf"]);
  assert.deepEqual(pick(THEBLOKE, { quantization: "Q4_0" }), ["mistral-7b-instruct-v0.2.Q4_0.gguf"]);
  const others: [string, string][] = [
    ["qwen2.5-0.5b-instruct-q5_k_m.gguf", "Q5_K_M"],
    ["ggml-model_q4_k_m.gguf", "Q4_K_M"],
    ["gpt-oss-20b-mxfp4.gguf", "MXFP4"],
    ["Qwen3-MXFP4_MOE.gguf", "MXFP4_MOE"],
    ["Phi-3-mini-4k-instruct-fp16.gguf", "F16"],
    ["Phi-3-mini-4k-instruct-q4.gguf", "Q4"],
    ["stories15M-q4_0.gguf", "Q4_0"],
    ["Meta-Llama-3-8B-Instruct.i1-IQ3_XXS.gguf", "IQ3_XXS"],
    ["Llama-3.2-1B-Instruct-Q4_0_4_4.gguf", "Q4_0_4_4"],
    ["Falcon3-1B-TQ2_0.gguf", "TQ2_0"],
    ["gemma-3-270m-it-Q6_K_L-v2.gguf", "Q6_K_L"],
    ["model-F32.GGUF", "FP32"],
    ["Q3_K_S/model.gguf", "Q3_K_S"],
  ];
  const paths = others.map(([path]) => path);
  for (const [path, quantization] of others) assert.deepEqual(pick(paths, { quantization }), [path], quantization);
});

test("without one it is Q4_K_M, then Q8_0, then the only model", () => {
  assert.deepEqual(pick(BARTOWSKI), ["Qwen_Qwen3-30B-A3B-Q4_K_M.gguf"]);
  assert.deepEqual(pick(UNSLOTH), ["gemma-3-27b-it-Q4_K_M.gguf"]);
  assert.deepEqual(pick(THEBLOKE), ["mistral-7b-instruct-v0.2.Q4_K_M.gguf"]);
  assert.deepEqual(pick(["m-Q2_K.gguf", "m-q8_0.gguf"]), ["m-q8_0.gguf"]);
  assert.deepEqual(pick(["gpt-oss-20b-mxfp4.gguf", "README.md"]), ["gpt-oss-20b-mxfp4.gguf"]);
  assert.deepEqual(pick(["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"]), ["m-Q4_K_M.gguf"]);
  assert.match(refused(["m-Q2_K.gguf", "m-UD-IQ1_S.gguf"]).message, /o\/r has neither Q4_K_M nor Q8_0: there are Q2_K, UD-IQ1_S$/);
});

test("files beside the model are none", () => {
  const beside = ["mmproj-model-Q4_K_M.gguf", "m.imatrix-Q4_K_M.gguf", "mtp-m-Q4_K_M.gguf", "eagle3-m-Q4_K_M.gguf", "dflash-m-Q4_K_M.gguf", "dspark-m-Q4_K_M.gguf"];
  assert.deepEqual(pick([...beside, "z/m-Q4_K_M.gguf"]), ["z/m-Q4_K_M.gguf"]);
  assert.match(refused(beside).message, /there are no GGUF models/);
  // As llama.cpp has it: by the file's name alone, and in lower case.
  assert.deepEqual(pick(["mmproj-x/Qwen3-MTP-Q4_K_M.gguf"]), ["mmproj-x/Qwen3-MTP-Q4_K_M.gguf"]);
});

test("a split model is all of its parts, in their order", () => {
  assert.deepEqual(pick([...SPLIT].reverse()), SPLIT.slice(0, 3));
  assert.deepEqual(pick(SPLIT, { quantization: "UD-Q2_K_XL" }), SPLIT.slice(3));
  assert.deepEqual(pick(SPLIT, { path: SPLIT[1]! }), SPLIT.slice(0, 3));
  const { code, message } = refused(SPLIT.filter((_, i) => i !== 1));
  assert.equal(code, "split-mismatch");
  assert.match(message, /o\/r lacks Q4_K_M\/DeepSeek-V3-Q4_K_M-00002-of-00003\.gguf/);
  assert.match(refused(SPLIT.slice(1)).message, /lacks Q4_K_M\/DeepSeek-V3-Q4_K_M-00001-of-00003\.gguf/);
  assert.equal(refused(["m-Q8_0-00001-of-99999.gguf"]).code, "split-mismatch");
  assert.equal(refused(["m-Q8_0-00000-of-00000.gguf"]).code, "split-mismatch");
});

test("what is not there is told with what is", () => {
  const none = refused(THEBLOKE, { quantization: "Q5_K_M" });
  assert.equal(none.code, "invalid-option");
  assert.match(none.message, /o\/r has no Q5_K_M: there are Q2_K, Q3_K_M, Q4_0, Q4_K_M, Q8_0$/);
  // F16 is not found in BF16, nor Q4_0 in IQ4_0.
  assert.match(refused(UNSLOTH, { quantization: "F16" }).message, /has no F16: there are BF16/);
  const several = refused(["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"]);
  assert.match(several.message, /several models in Q4_K_M: name one of them as hf:o\/r\/FILE; there are a-Q4_K_M.gguf, b-Q4_K_M.gguf/);
  assert.match(refused(THEBLOKE, { path: "x.gguf" }).message, /has no file x\.gguf at main: there are mistral-7b-instruct-v0.2.Q2_K.gguf, /);
  assert.match(refused(SPLIT, { path: "Q4_K_M" }).message, /Q4_K_M is a folder of o\/r/);
  assert.deepEqual(pick(["vae/config.json", "vae/decoder.safetensors"], { path: "vae/decoder.safetensors" }), ["vae/decoder.safetensors"]);
  const many = refused(Array.from({ length: 3000 }, (_, i) => `${i}.gguf`), { path: "x.gguf" });
  assert.match(many.message, / and 2960 more$/);
});
