/** Codes of `src/error.rs`, then those that only the JavaScript side can meet. Never reworded. */
export type ErrorCode =
  | KnownErrorCode
  // A later engine may know more codes than this page does.
  | (string & {});

/** The codes of this version. A page that has words for each of them is complete. */
export type KnownErrorCode =
  | "no-webgpu"
  | "no-adapter"
  | "device-request"
  | "device-lost"
  | "out-of-memory"
  | "device-limit"
  | "gpu"
  | "network"
  | "http-status"
  | "io"
  | "truncated"
  | "not-gguf"
  | "unsupported-version"
  | "malformed"
  | "unsupported-type"
  | "unsupported-architecture"
  | "unsupported-model"
  | "missing-tensor"
  | "missing-metadata"
  | "shape-mismatch"
  | "not-finite"
  | "split-mismatch"
  | "unsupported-tokenizer"
  | "tokenizer"
  | "template"
  | "no-chat-template"
  | "context-overflow"
  | "text-too-long"
  | "empty-prompt"
  | "no-candidates"
  | "kv-overflow"
  | "invalid-option"
  | "aborted"
  | "busy"
  | "internal"
  /** There is too little room to keep the model; the message says how much is needed, and how much there is. */
  | "storage-full"
  /** Stored models could not be read or written. */
  | "storage"
  /** No model of that id is stored, or not the whole of it. */
  | "not-stored"
  /** The downloaded bytes are not those whose SHA-256 was given. */
  | "wrong-digest"
  /** There are no web workers here: Node.js, a server that renders a page, a service worker. */
  | "no-worker"
  /** The browser's WebAssembly has no SIMD, without which no build of the engine runs. */
  | "no-simd"
  /** The worker or its wasm could not be started, or the worker or one of its helpers died. */
  | "worker-failed"
  /** The wasm instance trapped; the model must be loaded again. */
  | "wasm-trap"
  /** The model was disposed. */
  | "disposed";

/** What crosses the worker boundary: classes do not survive a structured clone, plain objects do. */
export interface WireError {
  code: ErrorCode;
  message: string;
  /** See {@link EmberglassError.detail}. */
  detail?: string | undefined;
  /** The address that failed, of `network` and `http-status`. */
  url?: string | undefined;
  /** The server's status, of `http-status`. */
  status?: number | undefined;
  /** Stack in the worker; kept for traps, where it names the wasm functions. */
  stack?: string | undefined;
}

/**
 * Every error this package throws or rejects with.
 *
 * `code` is stable and the same string in Rust, in the worker and here; `message` says what
 * happened and what to do. A cancelled request has code `"aborted"` and, as everywhere on the web
 * platform, the name `"AbortError"`.
 */
export class EmberglassError extends Error {
  /** Stable identifier of the kind of error. */
  readonly code: ErrorCode;
  /**
   * What tells errors of one code apart, for a page that has words of its own:
   * - of `network`: `"lost"`, `"offline"`, `"stalled"`, `"cors"`, `"blocked"`, `"changed"` or `"wrong-answer"`;
   * - of `http-status`: `"gated"` where a hub gives a model, or tells of it, only to those who have access;
   * - of `not-gguf`: what the file is, such as `"zip"`, `"web-page"`, `"lfs-pointer"`, `"safetensors"`, `"text"`; `"unknown"`;
   * - of `truncated`: `"empty"` for a file without a byte;
   * - of `unsupported-architecture`, `unsupported-type` and `unsupported-tokenizer`: what the file has;
   * - of `invalid-option`: the name of the option.
   */
  declare readonly detail?: string | undefined;
  /** Of `network` and `http-status`: the address that failed, without query and password, which may be secret. */
  declare readonly url?: string | undefined;
  /** Of `http-status`: the status that the server answered. */
  declare readonly status?: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    {
      detail,
      url,
      status,
      ...options
    }: { cause?: unknown; detail?: string | undefined; url?: string | undefined; status?: number | undefined } = {},
  ) {
    super(message, options);
    this.code = code;
    if (detail !== undefined) this.detail = detail;
    if (url !== undefined) this.url = url;
    if (status !== undefined) this.status = status;
    this.name = code === "aborted" ? "AbortError" : "EmberglassError";
  }
}

/** The error of a request whose `AbortSignal` fired; the signal's own reason is its `cause`. */
export function abortError(signal?: AbortSignal): EmberglassError {
  return new EmberglassError("aborted", "cancelled by the caller", { cause: signal?.reason });
}

/** The class, rebuilt on the page from what the worker sent. */
export function fromWire({ code, message, stack, ...where }: WireError): EmberglassError {
  return new EmberglassError(code, message, stack === undefined ? where : { ...where, cause: stack });
}

/** Any thrown value as a plain object that `postMessage` can carry. */
export function toWire(thrown: unknown): WireError {
  if (isTrap(thrown)) {
    const wire: WireError = {
      code: "wasm-trap",
      message: `the engine stopped on an internal fault (${thrown.message}): load the model again to go on`,
    };
    if (thrown.stack !== undefined) wire.stack = thrown.stack;
    return wire;
  }
  // wasm rejects with plain `{ code, message }` objects, so this looks at the shape, not the class.
  if (typeof thrown === "object" && thrown !== null) {
    const { code, message, name, detail, url, status } = thrown as Record<string, unknown>;
    if (typeof code === "string" && typeof message === "string") {
      return {
        code,
        message,
        ...(typeof detail === "string" ? { detail } : {}),
        ...(typeof url === "string" ? { url } : {}),
        ...(typeof status === "number" ? { status } : {}),
      };
    }
    if (name === "AbortError") return { code: "aborted", message: "cancelled by the caller" };
    if (typeof message === "string") return { code: "internal", message };
  }
  return { code: "internal", message: String(thrown) };
}

/** Whether a thrown value is a wasm trap, after which the instance must not be used again. */
export function isTrap(thrown: unknown): thrown is WebAssembly.RuntimeError {
  return thrown instanceof WebAssembly.RuntimeError;
}
