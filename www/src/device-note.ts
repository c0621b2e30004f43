// “Running on the CPU — why?”: the note behind the status line's button. It says why this device was
// chosen and how to get another.
import type { DeviceInfo } from "emberglass";
import { button, el, need } from "./dom.js";
import { sentence } from "./format.js";
import { gpuAdvice } from "./gpu-advice.js";

export class DeviceNote {
  readonly #root = need("device-note");
  /** Opens and closes the note. */
  readonly button = button("why?", () => this.#toggle(), {
    class: "link why",
    "data-testid": "why-device",
    "aria-expanded": "false",
    "aria-controls": "device-note",
  });

  constructor() {
    this.#root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.#root.hidden) return;
      // Escape also stops an answer, which is not what was meant here.
      event.stopPropagation();
      this.#toggle();
      this.button.focus();
    });
  }

  /** Says why this device runs; without one there is nothing to say. */
  set(device: DeviceInfo | undefined): void {
    if (!this.#root.hidden) this.#toggle();
    if (!device) return;
    const onCpu = device.kind === "cpu";
    const where = onCpu ? "Running on the CPU" : "Running on the GPU";
    this.button.setAttribute("aria-label", `${where} — why?`);
    const slowGpu = !onCpu && device.isFallbackAdapter;
    this.#root.replaceChildren(
      el("h2", {}, where),
      el("p", { "data-testid": "device-reason" }, sentence(device.reason)),
      ...(device.kernels === undefined ? [] : [el("p", { "data-testid": "kernels" }, `${device.kernelsReason ?? ""} ${device.kernels}`)]),
      ...(onCpu ? gpuAdvice(device.choice) : []),
      ...(slowGpu ? [el("p", {}, "This graphics adapter is software. The CPU path is faster: set the device to Automatic in Settings.")] : []),
      ...(onCpu && device.mostThreads === 1 && !crossOriginIsolated
        ? [el("p", {}, "One thread computes. More need a page that its server isolates from others (COOP and COEP headers).")]
        : []),
      button("Close", () => (this.#toggle(), this.button.focus()), { class: "link" }),
    );
  }

  #toggle(): void {
    const open = this.#root.hidden;
    this.#root.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (open) this.#root.focus();
  }
}
