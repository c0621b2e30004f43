// The engine's memory. It is shared, so that helper threads compute in it. A page that is not isolated gets it as well; it
// only cannot send it to another worker.

const PAGE_BYTES = 65_536;
/** What xtask/src/wasm.rs lets the module start with, and the page that wasm-bindgen adds. */
const INITIAL_PAGES = 65;
/** Where growing ends: all that addresses reach, or what a browser on a small device reserves. */
const MOST_PAGES = [65_536, 32_768, 16_384];

export interface EngineMemory {
  memory: WebAssembly.Memory;
  /** To which it can grow. */
  mostBytes: number;
}

/** @throws an `Error` where the browser gives none. */
export function newMemory(): EngineMemory {
  let reason = "";
  for (const maximum of MOST_PAGES) {
    try {
      const memory = new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared: true });
      return { memory, mostBytes: maximum * PAGE_BYTES };
    } catch (thrown) {
      reason = thrown instanceof Error ? thrown.message : String(thrown);
    }
  }
  throw new Error(`the browser gives the engine no memory (${reason})`);
}
