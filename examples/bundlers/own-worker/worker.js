import { answer } from "../answer.js";

self.onmessage = async ({ data: threads }) => self.postMessage(await answer(threads).catch(({ code, message }) => ({ code, message })));
