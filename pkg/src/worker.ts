// The script of all workers: of the engine's, and of the helper threads'. The first message says which it is.
import { serveEngine, startHelper } from "./glue.js";
import { type HelperScope, serveHelper } from "./helper-host.js";
import type { WorkerScope } from "./worker-host.js";

serveHelper(self as unknown as HelperScope, (_level, module) => startHelper(module));
serveEngine(self as unknown as WorkerScope);
