// A helper's engine: another instance of the engine's module on the engine's memory. It is not started, since the memory
// has been initialised by the engine, and it imports nothing but the memory: it runs kernels only, on a stack that the engine
// gives it (src/cpu/team/workers.rs).

/** Addresses in the engine's memory. */
export interface HelperPlace {
  /** First argument of `crew_help`. */
  control: number;
  /** Where the helper's stack begins; it grows down. */
  stackTop: number;
  /** A word: the helper sleeps until it changes. */
  bell: number;
  /** A word: 1 says that the helper is gone for good. */
  dead: number;
}

/** From the engine's worker to a helper, once. Helpers are further instances of its module on its memory. */
export interface HelperOrder {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  place: HelperPlace;
  /** Which helper this is, from 0. */
  index: number;
}

/** What the page is told of a place. */
export interface HelperSeat {
  /** For the helper: its order waits at this port. */
  port: MessagePort;
  /** The place's word, which names it. */
  dead: number;
}

interface Exports {
  __stack_pointer: WebAssembly.Global<"i32">;
  /** Computes while there is work. Returns what the bell was; negative: leave. */
  crew_help(control: number, index: number): number;
}

/** Starts an instance; what it returns computes until the engine says to leave, and blocks. */
export async function startInstance({ module, memory, place, index }: HelperOrder): Promise<() => void> {
  const { control, stackTop, bell } = place;
  const instance = await WebAssembly.instantiate(module, importsOf(module, memory));
  const { __stack_pointer, crew_help } = instance.exports as unknown as Exports;
  __stack_pointer.value = stackTop;
  // Memory that grows later leaves the view as it is.
  const words = new Int32Array(memory.buffer);
  return () => {
    for (let seen = crew_help(control, index); seen >= 0; seen = crew_help(control, index)) Atomics.wait(words, bell / 4, seen);
  };
}

/** Lets the engine know that nobody is at this place any more. */
export function markDead(memory: WebAssembly.Memory, dead: number): void {
  Atomics.store(new Int32Array(memory.buffer), dead / 4, 1);
}

function importsOf(module: WebAssembly.Module, memory: WebAssembly.Memory): WebAssembly.Imports {
  const imports: Record<string, Record<string, WebAssembly.ImportValue>> = {};
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
    (imports[from] ??= {})[name] = kind === "memory" ? memory : () => {
      throw new Error(`a helper called ${name}, which only the engine may`);
    };
  }
  return imports;
}
