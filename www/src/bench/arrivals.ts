// Tokens as they arrive from an engine that gives no times of its own.

export class Arrivals {
  readonly #asked = performance.now();
  readonly #times: number[] = [];

  note(): void {
    this.#times.push(performance.now());
  }

  /** From the request to the first token, in ms. */
  get firstMs(): number {
    return (this.#times[0] ?? Number.NaN) - this.#asked;
  }

  /** Tokens a second after the first, of `count` tokens. */
  rate(count: number): number {
    return ((count - 1) / ((this.#times.at(-1) ?? Number.NaN) - (this.#times[0] ?? Number.NaN))) * 1000;
  }
}
