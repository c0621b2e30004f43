// Every error in a visitor's words: what it is, and what to do. Both pages use this table. The engine's own message is
// for developers, and stands behind “Details”.
import type { EmberglassError, ErrorCode, KnownErrorCode } from "emberglass";
import { el } from "./dom.js";
import { sentence } from "./format.js";
import { nameElement, visible } from "./names.js";
import { NUMBER_FIELDS } from "./settings.js";

/** Text that may hold names, each in an element of its own. */
export type Text = string | readonly (string | Node)[];

export interface Words {
  title: string;
  todo: Text;
  /** There are no words but the engine's own message, which is what `todo` says. */
  isMessage?: true;
}

/** What the words depend on. */
export type Fault = { readonly code: ErrorCode } & Partial<Pick<EmberglassError, "detail" | "message" | "status">>;

/** A code that is missing here does not compile. */
const WORDS: Readonly<Record<KnownErrorCode, Words | ((fault: Fault) => Words)>> = {
  // The device.
  "no-webgpu": {
    title: "This browser cannot use the graphics card",
    todo: "It has no WebGPU. Choose Automatic or CPU as the device, or open this page in a current Chrome, Edge, Firefox or Safari.",
  },
  "no-adapter": {
    title: "The browser offers no graphics card",
    todo: "Turn hardware acceleration on in the browser’s settings, update the graphics driver, or choose Automatic or CPU as the device.",
  },
  "device-request": {
    title: "The graphics card refused",
    todo: "Close other tabs and programs that use it, or compute on the CPU.",
  },
  "device-lost": {
    title: "The graphics card stopped working",
    todo: "Its driver was restarted, or its memory ran out. Load the model again. If that does not help, compute on the CPU.",
  },
  "out-of-memory": {
    title: "There is not enough memory",
    todo: "Close other tabs and programs, or take something smaller: a smaller model, a shorter context, a smaller picture.",
  },
  "device-limit": {
    title: "This is too large for the graphics card",
    todo: "Take a smaller model or picture, or compute on the CPU.",
  },
  gpu: {
    title: "The graphics card cannot compute this",
    todo: "Update the browser and the graphics driver, or compute on the CPU.",
  },

  // The bytes.
  network: ({ detail }) => ofNetwork(detail),
  "http-status": ({ status, detail }) => ofStatus(status, detail),
  io: {
    title: "The file cannot be read",
    todo: "It was moved, changed or deleted after it was chosen. Open it once more.",
  },
  truncated: ({ detail }) =>
    detail === "empty"
      ? { title: "The file is empty", todo: "Download it again." }
      : { title: "The file is incomplete", todo: "Its end is missing. Download it again." },

  "storage-full": {
    title: "There is no room to keep the model",
    todo: "Delete models that are stored here, free space on this device, or load it without keeping it.",
  },
  storage: { title: "The stored models cannot be read", todo: "Load the page again. If that does not help, delete the stored models in the settings." },
  "not-stored": { title: "This model is not stored here", todo: "It was deleted, or the browser has deleted it. Download it again." },
  "wrong-digest": {
    title: "The download is not the file it should be",
    todo: "Its checksum is wrong. Download it again; if that does not help, take it from somewhere else.",
  },

  // The file.
  "not-gguf": ({ detail }) => ofOtherFile(detail),
  "unsupported-version": {
    title: "This version of GGUF is not supported",
    todo: "Versions 2 and 3 are read. Take a newer file of the model.",
  },
  malformed: {
    title: "The file is damaged",
    todo: "Download it again, or take it from somewhere else. It may also be another kind of file than its name says.",
  },
  "unsupported-type": ({ detail }) => ({
    title: "This weight format is not supported",
    todo: [...named("The file has weights in the format ", detail), "Take another file of this model, such as one in Q8_0 or Q4_K_M."],
  }),
  "unsupported-architecture": ({ detail }) => ({
    title: "This kind of model is not supported",
    todo: [...named("Its architecture is ", detail), "Take another model: Llama, Qwen, Gemma, Phi, SmolLM and others run here."],
  }),
  "unsupported-model": {
    title: "This model needs something that is not supported",
    todo: "Take another file of this model, or another model. Details names what is missing.",
  },
  "missing-tensor": { title: "A part of the model is not in the file", todo: "Take another file of this model." },
  "missing-metadata": { title: "The file does not say enough about its model", todo: "Take another file of this model." },
  "shape-mismatch": { title: "The parts of the model do not fit together", todo: "Take another file of this model." },
  "not-finite": {
    title: "The model’s weights are damaged",
    todo: "Some of them are no numbers. Download the file again, or take another file of this model.",
  },
  "split-mismatch": {
    title: "These files are not one whole model",
    todo: "Open one .gguf file. A model that is split into parts, named …-00001-of-00003.gguf and so on, is opened with all its parts at once.",
  },

  // The text.
  "unsupported-tokenizer": ({ detail }) => ({
    title: "This model divides text in a way that is not supported",
    todo: [...named("Its tokenizer is ", detail), "Take another model."],
  }),
  tokenizer: { title: "The model’s tokenizer failed", todo: "The file may be damaged. Take another file of this model." },
  template: {
    title: "The model’s chat template failed",
    todo: "The file says how a conversation is to be written down for the model, and that fails with this one. Begin a new chat, or take another file of this model.",
  },
  "no-chat-template": { title: "This model does not chat", todo: "It only continues a text. Take another model for a conversation." },

  // Answers.
  "context-overflow": {
    title: "The conversation no longer fits into the context",
    todo: "Shorten the message or the system prompt, begin a new chat, or set a longer context in Settings and reload the model.",
  },
  "text-too-long": { title: "The text is too long", todo: "Shorten it." },
  "empty-prompt": { title: "There is nothing to answer", todo: "Write a message first." },
  "no-candidates": {
    title: "The settings leave no word to choose",
    todo: "Reset the settings to their defaults. If that does not help, the model’s file is damaged: download it again.",
  },
  "kv-overflow": {
    title: "This model computes with numbers that are too large for this page",
    todo: "Take another model.",
  },
  "invalid-option": ofOption,
  aborted: { title: "Cancelled", todo: "" },
  busy: { title: "The model is still busy", todo: "Wait for the answer to end, or stop it." },
  internal: { title: "The program has a fault", todo: "Try again. If it fails again, please report it with what stands under Details." },

  // The engine.
  "no-worker": {
    title: "This browser starts no workers",
    todo: "The engine runs in one. Open this page in a current Chrome, Edge, Firefox or Safari.",
  },
  "no-simd": { title: "This browser is too old", todo: "Open this page in a current Chrome, Edge, Firefox or Safari." },
  "worker-failed": {
    title: "The engine did not start, or it stopped",
    todo: "Check the connection and reload the page. An extension that blocks scripts may also be in the way.",
  },
  "wasm-trap": {
    title: "The engine stopped on a fault of its own",
    todo: "Load the model again to go on. If it stops again, please report it with what stands under Details.",
  },
  disposed: { title: "The model is no longer loaded", todo: "Load it again." },
};

/** What to tell a visitor of an error. */
export function wordsFor(fault: Fault): Words {
  if (!Object.hasOwn(WORDS, fault.code)) return { title: "Something went wrong", todo: "Try again, or reload the page." };
  const words = WORDS[fault.code as KnownErrorCode];
  return typeof words === "function" ? words(fault) : words;
}

function ofNetwork(detail: string | undefined): Words {
  switch (detail) {
    case "offline":
      return { title: "This device is offline", todo: "Connect it and try again. A file on this device opens without a network." };
    case "stalled":
      return { title: "The server stopped sending", todo: "Try again later, or take the file from somewhere else." };
    case "cors":
      return {
        title: "The server does not let this page read the file",
        todo: "Download the file with the browser, and open it here from this device.",
      };
    case "blocked":
      return {
        title: "The browser does not let this page load from that address",
        todo: "Use an https address. Or download the file with the browser, and open it here from this device.",
      };
    case "changed":
      return { title: "The file changed on the server during the download", todo: "Try again: the download begins anew." };
    case "wrong-answer":
      return { title: "The server sends the file wrongly", todo: "Try again, or take the file from somewhere else." };
    default:
      return { title: "The download failed", todo: "Check the connection and the address, and try again." };
  }
}

function ofStatus(status = 0, detail: string | undefined): Words {
  if (detail === "gated") {
    return {
      title: "The hub gives this model only to people with access",
      todo: "Log in at the hub, accept the model’s terms or ask for access on its page, and check the name. Then download the file there, and open it here from this device.",
    };
  }
  if ([401, 403, 407].includes(status)) {
    return {
      title: "The server does not give this file to everybody",
      todo: "It may want a login, or that you accept a licence. Download the file where you are logged in, and open it here from this device.",
    };
  }
  if ([404, 410].includes(status)) return { title: "There is no file at this address", todo: "Check the address." };
  if ([408, 425, 429].includes(status)) return { title: "The server has too much to do", todo: "Wait some minutes, and try again." };
  if (status >= 500) return { title: "The server has a fault", todo: "This page can do nothing about it. Try again later." };
  return { title: "The server did not send the file", todo: "Check the address." };
}

function ofOtherFile(kind: string | undefined): Words {
  const title = "This is not a GGUF model file";
  const ending = "Open a file whose name ends in .gguf.";
  switch (kind) {
    case "zip":
    case "gzip":
    case "7z":
      return { title, todo: "It is an archive. Unpack it, and open the .gguf file that is inside." };
    case "safetensors":
      return {
        title,
        todo: "It is a safetensors file. Look for a version of the model as GGUF. Image decoders open on the Pictures page.",
      };
    case "pytorch":
    case "hdf5":
    case "tflite":
    case "old-ggml":
      return { title, todo: "It is a model in another format. Look for a version of it as GGUF." };
    case "picture":
    case "riff":
    case "numpy":
      return { title, todo: `It is a picture or other data, which the Pictures page may open. Here: ${ending.charAt(0).toLowerCase()}${ending.slice(1)}` };
    case "lfs-pointer":
      return { title, todo: "It is a note that Git LFS leaves in place of a large file. Download the file itself." };
    case "web-page":
      return {
        title,
        todo: "It is a web page: the page about a model, or one that asks for a login. Use the address behind the download link. A model of Hugging Face may be named as hf:owner/repo.",
      };
    case "json":
    case "text":
    case "pdf":
      return { title, todo: `It is a text. ${ending} If you downloaded it as a model, read it: it may be a message of the server.` };
    default:
      return { title, todo: ending };
  }
}

/** The settings by the names that the engine has for them, as the panel labels them. */
const LABELS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(NUMBER_FIELDS.map(({ key, label }) => [key, label])),
  stop: "Stop strings",
  contextLength: "Context length",
  device: "Device",
  threads: "Threads",
};

function ofOption({ detail = "", message = "" }: Fault): Words {
  if (Object.hasOwn(LABELS, detail)) {
    return { title: `The setting “${LABELS[detail]}” is out of range`, todo: "Change it in Settings. Details says what is possible." };
  }
  return { title: "That is not possible", todo: [el("bdi", {}, visible(sentence(message)))], isMessage: true };
}

/** A sentence that ends in a name out of a file; nothing without a name. */
function named(begin: string, name: string | undefined): (string | Node)[] {
  return name === undefined ? [] : [begin, nameElement(name), ". "];
}
