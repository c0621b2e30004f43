import { answer } from "../answer.js";

self.onconnect = ({ ports: [port] }) => {
  port.onmessage = async ({ data: threads }) => port.postMessage(await answer(threads).catch(({ code, message }) => ({ code, message })));
};
