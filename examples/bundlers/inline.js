// All of the package in one script, worker and wasm too: the host serves nothing else.
import { loadTextModel } from "emberglass/inline";
import { show } from "./show.js";

async function answer() {
  const model = await loadTextModel("/tiny.gguf", { device: "cpu", threads: new URLSearchParams(location.search).get("threads") === "2" ? 2 : 1, contextLength: 64 });
  const { text } = await model.generate("a", { maxTokens: 8, temperature: 0 }).result;
  return { text, threads: model.info.device.threads };
}

show(answer());
