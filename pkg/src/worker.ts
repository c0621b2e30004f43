// The script of all workers: of the engine's, and of the helper threads'. The first message says which it is.
import { serveEngine } from "./glue.js";
import { type HelperScope, serveHelper } from "./helper-host.js";
import { startInstance } from "./helper-instance.js";
import type { WorkerScope } from "./worker-host.js";

serveHelper(self as unknown as HelperScope, startInstance);
serveEngine(self as unknown as WorkerScope);
