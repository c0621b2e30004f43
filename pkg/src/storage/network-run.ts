import { FatalError } from "./fatal-error.js";

/** The body of one answer of a server, read piece by piece, with the place of each in the file. */
export class NetworkRun {
  /** Offset of the next byte. */
  at: number;
  /** The body ended by itself. */
  hasEnded = false;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  readonly #controller: AbortController;
  readonly #to: number;
  readonly #take: (offset: number, bytes: Uint8Array) => Promise<void>;
  #pending: Promise<Uint8Array | undefined> | undefined;
  /** A piece that is not given yet, since it may be the last: see `holdsBack`. */
  #held: Uint8Array | undefined;
  #broke: { thrown: unknown } | undefined;
  readonly #holdsBack: boolean;
  readonly #onEnd: (at: number) => void;

  /**
   * `take` gets every piece before anyone else, and may refuse it. What lies behind `to` is not read. With `holdsBack` each piece
   * is given when the next has come, so that `onEnd`, which may throw, comes before the last is given.
   */
  constructor(
    response: Response,
    at: number,
    controller: AbortController,
    options: {
      to?: number | undefined;
      take: (offset: number, bytes: Uint8Array) => Promise<void>;
      holdsBack: boolean;
      onEnd: (at: number) => void;
    },
  ) {
    this.at = at;
    this.#reader = response.body?.getReader();
    this.#controller = controller;
    this.#to = options.to ?? Infinity;
    this.#take = options.take;
    this.#holdsBack = options.holdsBack;
    this.#onEnd = options.onEnd;
  }

  /** The next piece; undefined at the end. */
  next(): Promise<Uint8Array | undefined> {
    const next = (this.#pending ?? Promise.resolve()).then(() => this.#next());
    this.#pending = next.catch(() => undefined);
    return next;
  }

  async #next(): Promise<Uint8Array | undefined> {
    if (!this.#holdsBack) return this.#read();
    const held = this.#held;
    this.#held = undefined;
    let piece: Uint8Array | undefined;
    try {
      if (this.#broke) throw this.#broke.thrown;
      piece = await this.#read();
    } catch (thrown) {
      // What was there before the connection broke is used, unless it is wrong.
      if (!held || thrown instanceof FatalError) throw thrown;
      this.#broke = { thrown };
      return held;
    }
    this.#held = piece;
    // The first is held; an empty piece tells that the line is alive.
    return piece && !held ? new Uint8Array() : held;
  }

  async #read(): Promise<Uint8Array | undefined> {
    if (this.at >= this.#to) return undefined;
    const { done, value } = (await this.#reader?.read()) ?? { done: true, value: undefined };
    if (done) {
      if (!this.hasEnded) this.#onEnd(this.at);
      this.hasEnded = true;
      return undefined;
    }
    const piece = value.subarray(0, this.#to - this.at);
    const offset = this.at;
    this.at += piece.length;
    await this.#take(offset, piece);
    if (this.at >= this.#to) this.#controller.abort();
    return piece;
  }

  /** The bytes up to there have not been taken yet, so that a connection is held. With `holdsBack` it cannot be ended without loss. */
  canPauseBefore(end: number): boolean {
    return !this.#holdsBack && !this.hasEnded && this.at < Math.min(end, this.#to);
  }

  /** Ends it, and waits until nothing of it is under way. */
  async end(): Promise<void> {
    this.#controller.abort();
    await this.#pending;
  }
}
