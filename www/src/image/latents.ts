// Arithmetic on latents, and the one figure that compares pictures.
import type { Latents } from "emberglass";

/** Latents part of the way from `a` to `b`: along a straight line, which a prior that is not a sphere wants. */
export function between(a: Latents, b: Latents, share: number): Latents {
  return { ...a, data: a.data.map((value, i) => value + ((b.data[i] ?? 0) - value) * share) };
}

/** `origin` and steps along directions. */
export function moved(origin: Latents, steps: readonly [direction: Latents, length: number][]): Latents {
  const data = Float32Array.from(origin.data);
  for (const [direction, length] of steps) {
    for (let i = 0; i < data.length; i++) data[i] = (data[i] ?? 0) + length * (direction.data[i] ?? 0);
  }
  return { ...origin, data };
}

/** From `mean` to `sample`: a direction as the model's own latents vary. */
export function direction(mean: Latents, sample: Latents): Latents {
  return moved(sample, [[mean, -1]]);
}

export function sameShape(a: Latents, b: Latents): boolean {
  return a.channels === b.channels && a.height === b.height && a.width === b.width;
}

/** Peak signal-to-noise ratio of two pictures of one size, in dB, over red, green and blue. */
export function psnr(a: Uint8ClampedArray, b: Uint8ClampedArray): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 4) {
    for (let c = i; c < i + 3; c++) sum += ((a[c] ?? 0) - (b[c] ?? 0)) ** 2;
  }
  const mean = sum / ((a.length / 4) * 3);
  return mean === 0 ? Infinity : 10 * Math.log10(255 ** 2 / mean);
}
