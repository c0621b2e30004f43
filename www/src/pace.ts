// How often the page draws what keeps changing: at most twelve times a second, at most a fifth of the time, and not at
// all while the tab is hidden.

/** Milliseconds between two drawings, at least. */
const INTERVAL_MS = 80;
/** A drawing that took long is followed by this many times its duration without one. */
const REST = 4;

export class Pace {
  readonly #draw: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #frame = 0;
  #next = 0;

  constructor(draw: () => void) {
    this.#draw = draw;
  }

  /** Draws soon, once for all requests until then. In a hidden tab the drawing waits until the tab is shown. */
  request(): void {
    if (this.#timer !== undefined || this.#frame !== 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      // The browser runs no animation frames in a hidden tab.
      this.#frame = requestAnimationFrame(() => this.#run());
    }, Math.max(0, this.#next - performance.now()));
  }

  /** Draws now, or when the tab is shown. */
  now(): void {
    if (document.hidden) return this.request();
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#frame);
    this.#timer = undefined;
    this.#run();
  }

  #run(): void {
    this.#frame = 0;
    const start = performance.now();
    this.#draw();
    const end = performance.now();
    this.#next = Math.max(start + INTERVAL_MS, end + REST * (end - start));
  }
}
