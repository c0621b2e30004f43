/**
 * The same package, whose engine comes out of JavaScript chunks from the start: for a page in one file, or for a host that
 * serves nothing but scripts. It needs `blob:` in a Content-Security-Policy's `worker-src`.
 *
 * @packageDocumentation
 */
import { usePackedEngine } from "./engine-files.js";

export * from "./index.js";

usePackedEngine();
