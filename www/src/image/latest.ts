// A slider asks for more pictures than can be computed: only the latest wish counts.

/** Runs one task at a time; of those that come meanwhile only the last. Errors go to `onError`. */
export class Latest {
  #running = false;
  #next: (() => Promise<void>) | undefined;
  readonly #onError: (thrown: unknown) => void;

  constructor(onError: (thrown: unknown) => void) {
    this.#onError = onError;
  }

  ask(task: () => Promise<void>): void {
    this.#next = task;
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#next) {
      const task = this.#next;
      this.#next = undefined;
      await task().catch(this.#onError);
    }
    this.#running = false;
  }
}
