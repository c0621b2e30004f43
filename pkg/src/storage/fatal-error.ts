import type { WireError } from "../errors.js";

/** Ends a load: the engine does not ask again after an error whose `fatal` is true. */
export class FatalError extends Error {
  readonly fatal = true;
  readonly wire: WireError;

  constructor(wire: WireError) {
    super(wire.message);
    this.wire = wire;
  }
}

/** For errors that another attempt may mend. */
export function throwIfFatal(thrown: unknown): void {
  if (thrown instanceof FatalError) throw thrown;
}
