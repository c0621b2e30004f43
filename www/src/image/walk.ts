// What is between A and B, and around A.
import type { ImageDecoder, Latents } from "emberglass";
import { need } from "../dom.js";
import { draw, fresh } from "./canvas.js";
import { between, direction, moved } from "./latents.js";
import { Latest } from "./latest.js";
import { pictureActions } from "./picture-actions.js";
import type { Sample } from "./samples.js";

/** The edge of the field is so many typical steps away. */
const REACH = 1.2;

export class Walk {
  readonly #latest: Latest;
  readonly #latestAround: Latest;
  readonly #slider = need<HTMLInputElement>("slider");
  readonly #axes = [need<HTMLInputElement>("axis-x"), need<HTMLInputElement>("axis-y")] as const;
  readonly #field = need("field");
  #vae: ImageDecoder | undefined;
  /** What the two canvases show. */
  #shown: { middle?: Latents; explored?: Latents } = {};
  /** The decoder's own: what moves goes straight to them. */
  #middle = need<HTMLCanvasElement>("middle");
  #explored = need<HTMLCanvasElement>("explored");
  #ends: [Sample, Sample] | undefined;
  #directions: [Latents, Latents] | undefined;
  #seed = 1;

  constructor(onError: (thrown: unknown) => void) {
    this.#latest = new Latest(onError);
    this.#latestAround = new Latest(onError);
    this.#slider.addEventListener("input", () => this.#between());
    for (const axis of this.#axes) axis.addEventListener("input", () => this.#around());
    need("directions").addEventListener("click", () => void this.#turn().catch(onError));
    this.#actions("middle", "the picture between A and B", () => `emberglass-between-${Math.round(100 * this.#slider.valueAsNumber)}`);
    this.#actions("explored", "the picture near A", () => "emberglass-near");
    const drag = (event: PointerEvent) => {
      if (event.buttons === 0) return;
      const box = this.#field.getBoundingClientRect();
      const share = (at: number, start: number, size: number) => String(Math.max(-1, Math.min(1, ((at - start) / size) * 2 - 1)));
      this.#axes[0].value = share(event.clientX, box.left, box.width);
      this.#axes[1].value = share(event.clientY, box.top, box.height);
      this.#around();
    };
    this.#field.addEventListener("pointerdown", (event) => {
      this.#field.setPointerCapture(event.pointerId);
      drag(event);
    });
    this.#field.addEventListener("pointermove", drag);
  }

  #actions(which: "middle" | "explored", title: string, name: () => string): void {
    pictureActions(`${which}-actions`, title, () => {
      const [vae, latents] = [this.#vae, this.#shown[which]];
      // The canvas is the worker's, so the picture is decoded once more.
      return vae && latents && { name: name(), latents, image: async () => (await vae.decode(latents)).image };
    });
  }

  /** Forgets the model, and what it computes still. */
  clear(): void {
    this.#vae = undefined;
    this.#ends = undefined;
    this.#directions = undefined;
    this.#shown = {};
    this.#middle = fresh("middle");
    this.#explored = fresh("explored");
    need("middle-text").textContent = "";
    need("between").hidden = true;
    need("exploring").hidden = true;
  }

  async show(vae: ImageDecoder, a: Sample, b: Sample): Promise<void> {
    this.#vae = vae;
    this.#ends = [a, b];
    draw(need<HTMLCanvasElement>("from"), a.image);
    draw(need<HTMLCanvasElement>("to"), b.image);
    need("between").hidden = false;
    need("exploring").hidden = false;
    this.#between();
    await this.#turn();
  }

  async #turn(): Promise<void> {
    const vae = this.#vae;
    if (!vae) return;
    const mean = await vae.sample(0, { spread: 0 });
    const one = direction(mean, await vae.sample(1000 + this.#seed++));
    const other = direction(mean, await vae.sample(1000 + this.#seed++));
    if (this.#vae !== vae) return;
    this.#directions = [one, other];
    for (const axis of this.#axes) axis.value = "0";
    this.#around();
  }

  #between(): void {
    this.#latest.ask(async () => {
      const vae = this.#vae;
      if (!vae || !this.#ends) return;
      const [a, b] = this.#ends;
      const share = this.#slider.valueAsNumber;
      const latents = between(a.latents, b.latents, share);
      const { stats } = await vae.decodeTo(this.#middle, latents);
      if (this.#vae !== vae) return;
      this.#shown.middle = latents;
      need("middle-text").textContent = `${Math.round(100 * share)} % of the way · ${stats.ms.toFixed(0)} ms`;
    });
  }

  #around(): void {
    const knob = need("knob");
    const [x, y] = [this.#axes[0].valueAsNumber, this.#axes[1].valueAsNumber];
    knob.style.left = `${50 * (x + 1)}%`;
    knob.style.top = `${50 * (y + 1)}%`;
    this.#latestAround.ask(async () => {
      const vae = this.#vae;
      if (!vae || !this.#ends || !this.#directions) return;
      const [one, other] = this.#directions;
      const latents = moved(this.#ends[0].latents, [
        [one, REACH * x],
        [other, REACH * y],
      ]);
      await vae.decodeTo(this.#explored, latents);
      if (this.#vae === vae) this.#shown.explored = latents;
    });
  }
}
