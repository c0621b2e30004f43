// An engine without a model, in place of the engine's worker: a test says when a load ends and what an answer says.
import { openPage, WORKER } from "./harness.mjs";

/**
 * The chat page, with a scripted engine. `answers` are the results of other verbs, such as `canRun`, by verb; `{ error }` is
 * an error, and a verb without an answer waits.
 */
export async function openScripted(browser, { answers = {}, path = "/" } = {}) {
  const script = `(${engine})(${JSON.stringify({ listModels: [], storageUsage: NOTHING_STORED, ...answers })});`;
  const prepare = (page) =>
    page.route(WORKER, async (route) => {
      // The page may be gone before its worker has begun.
      const response = await route.fetch().catch(() => undefined);
      if (response) await route.fulfill({ response, body: script });
    });
  return openPage(browser, { prepare, path });
}

const NOTHING_STORED = { kind: "none", modelBytes: 0, persisted: false };

/** Ends the load under way. */
export const loaded = (page) => inEngine(page, () => self.loaded());
/** Adds to the answer under way. */
export const say = (page, text) => inEngine(page, (piece) => self.say(piece), text);
/** Ends the answer under way. */
export const fallSilent = (page) => inEngine(page, () => self.end("stop"));

async function inEngine(page, work, argument) {
  return (await engineOf(page)).evaluate(work, argument);
}

/** The worker that loads a model, or has loaded one. Those that look up what is stored come and go beside it. */
async function engineOf(page) {
  for (;;) {
    for (const worker of page.workers()) {
      if (await worker.evaluate(() => self.isEngine === true).catch(() => false)) return worker;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Runs inside the worker. The protocol is in pkg/src/protocol.ts. */
function engine(answers) {
  const started = performance.now();
  const waiting = { load: undefined, generate: undefined };
  let text = "";
  const reply = (verb, value) => {
    postMessage({ kind: "result", id: waiting[verb], value });
    waiting[verb] = undefined;
  };
  self.loaded = () =>
    reply("load", {
      architecture: "scripted", name: "Scripted", parameters: 1, layerParameters: 1, weightBytes: 1, weightTypes: ["F32"], contextLength: 2048, kvCache: "f16",
      kvBytes: 1, trainedContextLength: 2048, layers: 1, vocabularySize: 2, hasChatTemplate: true, gpuBytes: 0, dispatchesPerToken: 0, draftTokens: 0, wasmHeapBytes: 1,
      sampling: Object.fromEntries(
        ["temperature", "topK", "topP", "minP", "repetitionPenalty", "presencePenalty", "frequencyPenalty", "penaltyWindow"].map((name) => [name, { value: 1, from: "engine" }]),
      ),
      samplingNotApplied: [],
      storage: { kind: "none", storedBytes: 0, networkBytes: 0, repaired: [] },
      device: { kind: "cpu", adapter: "", isFallbackAdapter: false, features: ["simd128"], threads: 1, mostThreads: 1, choice: "asked", reason: "scripted" },
    });
  self.say = (piece) => {
    text += piece;
    postMessage({ kind: "event", id: waiting.generate, value: piece });
  };
  self.end = (finishReason) =>
    reply("generate", {
      text, finishReason, promptTokens: 1, generatedTokens: 1, cachedTokens: 0, seed: 1,
      stats: { timeToFirstTokenMs: 1, prefillTokensPerSecond: 1, decodeTokensPerSecond: 1, dispatchesPerToken: 0, totalMs: performance.now() - started },
    });
  self.onmessage = ({ data: { verb, id } }) => {
    if (Object.hasOwn(answers, verb)) {
      const { [verb]: answer } = answers;
      postMessage(answer?.error ? { kind: "error", id, error: answer.error } : { kind: "result", id, value: answer });
    }
    if (verb === "load") {
      self.isEngine = true;
      waiting.load = id;
      postMessage({ kind: "event", id, value: { phase: "weights", loadedBytes: 1e6, totalBytes: 4e6 } });
    }
    if (verb === "generate") {
      waiting.generate = id;
      text = "";
    }
    if (verb === "abort" && id === waiting.generate) self.end("aborted");
    if (verb === "abort" && id === waiting.load) postMessage({ kind: "error", id, error: { code: "aborted", message: "aborted" } });
    if (verb === "dispose") postMessage({ kind: "result", id, value: null });
  };
  postMessage({ kind: "started" });
}
