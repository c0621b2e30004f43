// Checks what callers pass: the names of options, and the kinds of their values. Every public function goes through
// here, so that a mistake is an `invalid-option` that names it and never a TypeError. A range that the engine checks is
// stated there alone.
import { EmberglassError } from "./errors.js";
import type { Latents } from "./image-types.js";
import type { ChatMessage, EngineAddresses, NetworkOptions, SamplingDefault, SamplingOptions, SourceOptions } from "./types.js";

/**
 * Checks one value, which `label` names in messages, and returns it; arrays and objects are copied.
 *
 * @throws {@link EmberglassError} `invalid-option`.
 */
export type Kind<T> = (value: unknown, label: string) => T;

/** The kind of each member of `T`. A member of the type that has no kind does not compile, nor the other way round. */
export type Kinds<T> = { readonly [K in keyof T]-?: Kind<Exclude<T[K], undefined>> };

/** `T` with its undefined members left out. */
export type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** What {@link members} calls an object in messages, and what else it demands of it. */
interface Rules {
  /** The object's name, such as `messages[0]`; of options the function's. */
  of: string;
  /** What its members are called. */
  noun?: "member" | "option";
  /** Members that must be there. */
  required?: readonly string[];
  /** `null` means "not given", as in OpenAI's calls. */
  nullable?: boolean;
  /** Members without a kind are ignored: the object is data, which may say more. */
  open?: boolean;
}

/** A copy of `given` without its undefined members; each of the others has its kind. */
export function members<T extends object>(given: unknown, kinds: Kinds<T>, rules: Rules): Given<T> {
  const { of, noun = "member", required = [], nullable = false, open = false } = rules;
  const known = kinds as Record<string, Kind<unknown>>;
  const object = noun === "option" ? `the options of ${of}` : of;
  try {
    if (!isPlainObject(given)) throw invalid(object, given, "not an object");
    const value = (name: string) => (nullable && given[name] === null ? undefined : given[name]);
    for (const name of open ? [] : Object.keys(given)) {
      if (!Object.hasOwn(known, name) && value(name) !== undefined) throw unknown(`${of} has no ${noun}`, name, Object.keys(known));
    }
    const checked: Record<string, unknown> = {};
    for (const [name, kind] of Object.entries(known)) {
      const found = value(name);
      const label = noun === "option" ? `option ${name}` : `${of}.${name}`;
      if (found !== undefined || required.includes(name)) checked[name] = kind(found, label);
    }
    return checked as Given<T>;
  } catch (cause) {
    if (cause instanceof EmberglassError) throw cause;
    // A getter threw.
    throw new EmberglassError("invalid-option", `${object} could not be read: ${shown(cause)}`, { cause });
  }
}

/** The options of the function `of`; left out, there are none. */
export function options<T extends object>(of: string, kinds: Kinds<T>, given: unknown): Given<T> {
  return members<T>(given === undefined ? {} : given, kinds, { of, noun: "option" });
}

// === Kinds ===

/** Any number: the engine knows the range, and refuses NaN. */
export const number: Kind<number> = (value, label) => {
  if (typeof value === "number") return value;
  throw invalid(label, value, "not a number");
};

export const text: Kind<string> = (value, label) => {
  if (typeof value === "string") return value;
  throw invalid(label, value, "not a string");
};

export const flag: Kind<boolean> = (value, label) => {
  if (typeof value === "boolean") return value;
  throw invalid(label, value, "neither true nor false");
};

export const callback: Kind<(...args: any[]) => void> = (value, label) => {
  if (typeof value === "function") return value as () => void;
  throw invalid(label, value, "not a function");
};

export const signal: Kind<AbortSignal> = (value, label) => {
  if (isGenuine(value, AbortSignal, "aborted")) return value as AbortSignal;
  throw invalid(label, value, "not an AbortSignal");
};

export const texts: Kind<string[]> = (value, label) => listOf(text)(value, label);

/** Numbers under names, such as token ids. */
export const numbersByName: Kind<Record<string, number>> = byName(number);

export const textsByName: Kind<Record<string, string>> = byName(text);

/** Text of a message. OpenAI's clients send `null` where there is none. */
export const content: Kind<string> = (value, label) => (value === null ? "" : text(value, label));

export function listOf<T>(kind: Kind<T>): Kind<T[]> {
  return (value, label) => {
    if (!isArray(value)) throw invalid(label, value, "not an array");
    // `from` visits holes too.
    return Array.from(value, (one, i) => kind(one, `${label}[${i}]`));
  };
}

function byName<T>(kind: Kind<T>): Kind<Record<string, T>> {
  return (value, label) => {
    if (!isPlainObject(value)) throw invalid(label, value, "not an object");
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, kind(one, `${label}[${JSON.stringify(name)}]`)]));
  };
}

export function oneOf<T extends string>(...names: readonly T[]): Kind<T> {
  return (value, label) => {
    if (names.includes(value as T)) return value as T;
    throw invalid(label, value, `not one of ${names.join(", ")}`);
  };
}

/** A whole number, where the range is the page's own matter. */
export function wholeNumber(least: number, most: number): Kind<number> {
  return (value, label) => {
    if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
    throw invalid(label, value, `not a whole number from ${least} to ${most}`);
  };
}

/** Only null and values that ask for nothing: what other values ask for, this package does not do. */
export function only<T>(...neutral: readonly T[]): Kind<T> {
  const allowed = neutral.map((value) => JSON.stringify(value));
  return (value, label) => {
    if (value === null || allowed.includes(shown(value))) return value as T;
    throw invalid(label, value, `not supported: ${allowed.length > 0 ? `only ${allowed.join(" or ")} is` : "leave it out"}`);
  };
}

// === Kinds that several functions take ===

export const SIGNAL: Kinds<{ signal?: AbortSignal }> = { signal };

export const NETWORK: Kinds<NetworkOptions> = { stallTimeoutMs: number, retryTimeoutMs: number };

export const address: Kind<string | URL> = (value, label) => {
  const given = addressOf(value);
  if (given !== undefined) return given;
  throw invalid(label, value, "not an address: a string or URL");
};

export const ENGINE: Kinds<EngineAddresses> = {
  workerUrl: address,
  wasmUrl: (value, of) => members<NonNullable<EngineAddresses["wasmUrl"]>>(value, { simd128: address, relaxed: address }, { of, required: ["simd128", "relaxed"] }),
};

const digest: Kind<string> = (value, label) => {
  if (typeof value === "string" && /^[0-9a-f]{64}$/i.test(value)) return value.toLowerCase();
  throw invalid(label, value, "not a SHA-256: 64 hexadecimal digits");
};

export const SOURCE: Kinds<SourceOptions> = {
  storage: oneOf("auto", "none"),
  sha256: (value, label) => (isArray(value) ? listOf(digest)(value, label) : digest(value, label)),
  revision: text,
  accessToken: text,
  hubs: listOf(address),
};

/** What a request and a load may say of sampling; the engine knows the ranges. */
export const SAMPLING: Kinds<Pick<SamplingOptions, SamplingDefault>> = {
  temperature: number,
  topK: number,
  topP: number,
  minP: number,
  repetitionPenalty: number,
  presencePenalty: number,
  frequencyPenalty: number,
  penaltyWindow: number,
};

const MESSAGE: Kinds<ChatMessage> = { role: oneOf("system", "user", "assistant"), content };

export const messages: Kind<ChatMessage[]> = listOf((value, of) =>
  members<ChatMessage>(value, MESSAGE, { of, required: ["role", "content"] }),
);

/** Any array of numbers becomes the engine's. */
const floats: Kind<Float32Array> = (value, label) => {
  const isTyped = ArrayBuffer.isView(value) && !["DataView", "BigInt64Array", "BigUint64Array"].includes(kindOf(value));
  if (isTyped) return Float32Array.from(value as Float32Array);
  if (isArray(value)) return Float32Array.from(value, (one) => number(one, `a value of ${label}`));
  throw invalid(label, value, "not a Float32Array");
};

const LATENTS: Kinds<Latents> = { channels: number, height: number, width: number, data: floats };

/** A copy. The engine knows what shapes are right. */
export const latents: Kind<Latents> = (value, of) =>
  members<Latents>(value, LATENTS, { of, required: ["channels", "height", "width", "data"], open: true });

// === Words ===

/** The error of a value that is not what it should be. `what` says so: `not a number`. */
export function invalid(label: string, value: unknown, what: string): EmberglassError {
  const detail = label.replace(/^option /, "");
  return new EmberglassError("invalid-option", `${label} = ${shown(value)} is ${what}`, { detail });
}

/** `has` begins the sentence: `generate has no option`. */
function unknown(has: string, name: string, known: readonly string[]): EmberglassError {
  const near = meant(name, known);
  const hint = near === undefined ? `there are ${known.join(", ")}` : `did you mean ${near}?`;
  return new EmberglassError("invalid-option", `${has} ${cut(name)}: ${hint}`, { detail: name });
}

/**
 * What llama.cpp, Ollama, transformers.js, WebLLM, wllama and the AI SDK call an option, and what this package calls it;
 * null for an option that it does not have, though another has a similar name. Upper case and `_` are left out.
 */
const ELSEWHERE: Readonly<Record<string, string | null>> = {
  nctx: "contextlength",
  numctx: "contextlength",
  contextsize: "contextlength",
  contextwindowsize: "contextlength",
  cachetypek: "kvcache",
  cachetypev: "kvcache",
  progresscallback: "onprogress",
  initprogresscallback: "onprogress",
  abortsignal: "signal",
  npredict: "maxtokens",
  numpredict: "maxtokens",
  maxnewtokens: "maxtokens",
  maxoutputtokens: "maxtokens",
  maxgenlen: "maxtokens",
  stopsequences: "stop",
  dosample: "temperature",
  temp: "temperature",
  randomseed: "seed",
  repeatpenalty: "repetitionpenalty",
  repeatlastn: "penaltywindow",
  penaltylastn: "penaltywindow",
  mintokens: null,
  mink: null,
  topa: null,
  topn: null,
  cache: "storage",
  usecache: "storage",
  hftoken: "accesstoken",
  token: "accesstoken",
  streamer: null,
};

/** The known name that means the same elsewhere, or that differs only in spelling: by case, by `_`, or by a letter or two. */
function meant(name: string, known: readonly string[]): string | undefined {
  const plain = (spelt: string) => spelt.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  const wrong = plain(name).slice(0, 40);
  const elsewhere = Object.hasOwn(ELSEWHERE, wrong) ? ELSEWHERE[wrong] : undefined;
  if (elsewhere !== undefined) return known.find((right) => plain(right) === elsewhere);
  const near = known.map((right) => ({ right, apart: distance(wrong, plain(right)) })).sort((a, b) => a.apart - b.apart)[0];
  return near && near.apart <= (wrong.length < 5 ? 1 : 2) ? near.right : undefined;
}

/** Levenshtein's distance: how many letters are put in, taken out or replaced. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      next.push(Math.min((next[j] ?? 0) + 1, (row[j + 1] ?? 0) + 1, (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** Longest text of a value in a message. */
const MOST_SHOWN = 80;

/** Any value, short and on one line. */
export function shown(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value === "string") return cut(JSON.stringify(value.slice(0, MOST_SHOWN + 1)));
  if (typeof value !== "object" || value === null) return Object.is(value, -0) ? "-0" : String(value);
  const kind = kindOf(value);
  if (kind === "Error" || kind === "DOMException") return cut(JSON.stringify((value as Error).message));
  if (kind === UNREADABLE) return "an unreadable object";
  if (kind !== "Object" && kind !== "Array") return `${/^[AEIO]/.test(kind) ? "an" : "a"} ${kind}`;
  try {
    // Long arrays are not written out first.
    if (kind === "Object" || (value as unknown[]).length <= MOST_SHOWN) return cut(JSON.stringify(value));
  } catch {
    // It holds itself, or what JSON has not.
  }
  return kind === "Array" ? "an array" : "an object";
}

function cut(written: string): string {
  return written.length > MOST_SHOWN ? `${written.slice(0, MOST_SHOWN)}…` : written;
}

/** The kind of an object that even its kind cannot be asked of, such as a revoked proxy. */
export const UNREADABLE = "unreadable object";

/** `Object`, `Array`, `Blob`, `Null` …: the same for objects of another window, of which `instanceof` knows nothing. */
export function kindOf(value: unknown): string {
  try {
    return Object.prototype.toString.call(value).slice(8, -1);
  } catch {
    return UNREADABLE;
  }
}

/** Whether the browser made it. A look-alike or a proxy cannot be read or sent to a worker; an object of another window can. */
export function isGenuine(value: unknown, { prototype }: { prototype: object }, getter: string): boolean {
  try {
    // Getters of the platform throw for all other objects. A subclass cannot answer in their place.
    Reflect.get(prototype, getter, value);
    return true;
  } catch {
    return false;
  }
}

/** The text of an address; undefined for what is none. */
export function addressOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return isGenuine(value, URL, "href") ? Reflect.get(URL.prototype, "href", value) : undefined;
}

/** Resolved against the document: the worker's script lives elsewhere. */
export function absolute(address: string, label: string): string {
  const base = typeof document === "undefined" ? globalThis.location?.href : document.baseURI;
  // An empty address would be the page itself.
  if (address !== "" && URL.canParse(address, base)) return new URL(address, base).href;
  throw invalid(label, address, "not an address");
}

export function isArray(value: unknown): value is unknown[] {
  return kindOf(value) === "Array";
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return kindOf(value) === "Object" && typeof value === "object";
}
