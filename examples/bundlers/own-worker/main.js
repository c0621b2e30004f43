import { show, threads } from "../show.js";

// The package starts its own worker. A page that has a worker anyway can call the package there.
const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
show(new Promise((resolve, reject) => {
  worker.onmessage = ({ data }) => resolve(data);
  worker.onerror = reject;
  worker.postMessage(threads());
}));
