import { show, threads } from "../show.js";

const { port } = new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module" });
show(new Promise((resolve) => {
  port.onmessage = ({ data }) => resolve(data);
  port.postMessage(threads());
}));
