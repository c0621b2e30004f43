// The grid of samples. Two of them are A and B, for what is below.
import type { ImageDecoder, Latents } from "emberglass";
import { announce } from "../announcer.js";
import { el, need } from "../dom.js";
import { draw } from "./canvas.js";
import type { Draw } from "./shared-seed.js";
import type { Running } from "./tasks.js";

const COUNT = 12;

export interface Sample extends Draw {
  latents: Latents;
  image: ImageData;
}

/** `onChoose` gets A and B whenever one of them changes. */
export class Samples {
  readonly #root = need("samples");
  readonly #onChoose: (a: Sample, b: Sample) => void;
  #all: { sample: Sample; button: HTMLButtonElement }[] = [];
  #chosen: [number, number] = [0, 1];

  constructor(onChoose: (a: Sample, b: Sample) => void) {
    this.#onChoose = onChoose;
  }

  clear(): void {
    this.#all = [];
    this.#chosen = [0, 1];
    this.#root.replaceChildren();
  }

  /** Draws new ones from `seed` on, one after the other, each shown as soon as it is there. */
  async draw(vae: ImageDecoder, { seed, variety }: Draw, { signal, progress }: Running): Promise<void> {
    this.clear();
    for (let i = 0; i < COUNT; i++) {
      progress(`Sample ${i + 1} of ${COUNT}`, i / COUNT);
      const latents = await vae.sample(seed + i, { spread: variety, signal });
      const { image } = await vae.decode(latents, { signal });
      signal.throwIfAborted();
      this.#add({ seed: seed + i, variety, latents, image });
    }
    announce(`${COUNT} samples`);
  }

  #add(sample: Sample): void {
    const canvas = el("canvas", { class: "picture" });
    draw(canvas, sample.image);
    const index = this.#all.length;
    const button = el("button", { type: "button", class: "sample", "data-testid": "sample-picture" }, canvas);
    button.addEventListener("click", () => this.#choose(index));
    this.#all.push({ sample, button });
    this.#root.append(button);
    this.#label();
    if (index === 1) this.#tell();
  }

  /** What was B becomes A. */
  #choose(index: number): void {
    if (index === this.#chosen[1]) return;
    this.#chosen = [this.#chosen[1], index];
    this.#tell();
  }

  #label(): void {
    const [a, b] = this.#chosen;
    for (const [i, { button }] of this.#all.entries()) {
      // One sample alone is neither A nor B: those are still the former ones.
      const role = this.#all.length < 2 ? undefined : i === a ? "A" : i === b ? "B" : undefined;
      button.setAttribute("aria-pressed", String(role !== undefined));
      button.setAttribute("aria-label", `Sample ${i + 1}${role === undefined ? "" : `, chosen as ${role}`}`);
      if (role === undefined) button.removeAttribute("data-role");
      else button.setAttribute("data-role", role);
    }
  }

  #tell(): void {
    this.#label();
    const [a, b] = this.#chosen;
    const [first, second] = [this.#all[a]?.sample, this.#all[b]?.sample];
    if (first && second) this.#onChoose(first, second);
  }
}
