// The line below the message box: what runs, and how fast.
import type { DeviceInfo, GenerateResult, ModelInfo } from "emberglass";
import { DeviceNote } from "./device-note.js";
import { el, need } from "./dom.js";
import { count, milliseconds, rate } from "./format.js";

export class StatusLine {
  readonly #root = need("status");
  readonly #figures = el("span", { class: "items" });
  /** Apart from the figures, which come anew many times a second: its button must keep the focus. */
  readonly #device = el("span", { class: "items" });
  readonly #note = new DeviceNote();
  #info: ModelInfo | undefined;
  #run = { tokensPerSecond: 0, firstTokenMs: 0, dispatches: 0, context: 0 };

  constructor() {
    this.#root.append(this.#figures, this.#device);
  }

  setModel(info: ModelInfo | undefined): void {
    this.#info = info;
    this.#run = { tokensPerSecond: 0, firstTokenMs: 0, dispatches: info?.dispatchesPerToken ?? 0, context: 0 };
    this.#note.set(info?.device);
    this.#showDevice();
    this.#root.dataset["device"] = info?.device.kind ?? "none";
    this.#render();
  }

  /** While text streams in; pieces stand for tokens until the engine has counted. */
  setLive(firstTokenMs: number, tokensPerSecond: number): void {
    this.#run = { ...this.#run, firstTokenMs, tokensPerSecond };
    this.#render();
  }

  setResult({ stats, promptTokens, generatedTokens }: GenerateResult): void {
    this.#run = {
      tokensPerSecond: stats.decodeTokensPerSecond,
      firstTokenMs: stats.timeToFirstTokenMs,
      dispatches: stats.dispatchesPerToken,
      context: promptTokens + generatedTokens,
    };
    this.#showDevice();
    this.#render();
  }

  resetContext(): void {
    this.#run.context = 0;
    this.#render();
  }

  /** The number of threads changes from answer to answer. */
  #showDevice(): void {
    this.#device.replaceChildren(...(this.#info ? [...deviceItems(this.#info.device), this.#note.button] : []));
  }

  #render(): void {
    const info = this.#info;
    if (!info) {
      this.#figures.replaceChildren(el("span", { class: "item" }, "No model loaded"));
      return;
    }
    const { tokensPerSecond, firstTokenMs, dispatches, context } = this.#run;
    const onGpu = info.device.kind === "webgpu";
    this.#figures.replaceChildren(
      ...[
        tokensPerSecond > 0 && item("speed", `${rate(tokensPerSecond)} tokens/s`, "Speed of the latest answer"),
        firstTokenMs > 0 && item("first", `first token ${milliseconds(firstTokenMs)}`, "From sending to the first token"),
        item("context", `context ${count(context)} / ${count(info.contextLength)}`, "Tokens of the conversation, and how many fit"),
        onGpu && dispatches > 0 && item("dispatches", `${rate(dispatches)} dispatches/token`, "GPU dispatches for one token"),
      ].filter((part) => part !== false),
    );
  }
}

function deviceItems({ kind, adapter, isFallbackAdapter, features, threads }: DeviceInfo): HTMLElement[] {
  if (kind === "cpu") {
    const simd = features.includes("relaxed-simd") ? "relaxed SIMD" : "SIMD";
    return [item("adapter", `CPU · ${simd} · ${threads} ${threads === 1 ? "thread" : "threads"}`, "What computes")];
  }
  const items = [item("adapter", `WebGPU · ${adapter || "unnamed adapter"}`, "The adapter that computes")];
  if (isFallbackAdapter) items.push(item("fallback", "software adapter (slow)", "This adapter computes on the CPU"));
  items.push(item("features", features.length > 0 ? features.join(", ") : "no optional features", "Device features in use"));
  return items;
}

function item(name: string, text: string, title: string): HTMLElement {
  return el("span", { class: "item", "data-item": name, title }, text);
}
