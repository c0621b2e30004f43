// Which files of a repository a source means. It follows llama.cpp (common/download.cpp: gguf_filename_is_model,
// find_best_model, get_split_files), and differs in two points: a quantization is compared as a whole, so that F16 is not found in BF16; and
// where several files have it, that is an error instead of the first.
import type { ErrorCode } from "../errors.js";
import type { HubModel } from "../protocol.js";
import type { ListedFile } from "./hub-listing.js";
import { Refused } from "./patience.js";

/** In names of files that belong to a model and are none. In lower case, as llama.cpp looks for them. */
const BESIDE_MODELS = ["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"];
/** Without a quantization these are looked for, in this order. */
const DEFAULTS = ["Q4_K_M", "Q8_0"];
/** Names in a message. */
const MOST_SHOWN = 40;

/** A file, or all parts of a split one. */
interface Model {
  /** Of the file, or of the first part. */
  path: string;
  /** `Q4_K_M`, or undefined where neither the name nor a folder says it. */
  quantization: string | undefined;
  /** By unsloth's "dynamic" recipe, `UD-Q4_K_XL`. */
  dynamic: boolean;
}

/** The files of the model in their order. @throws {@link Refused} */
export function pickFiles(model: HubModel, listed: ListedFile[]): ListedFile[] {
  const path = model.path ?? pickPath(model, listed);
  const split = splitOf(path);
  const paths = split ? partsOf(split) : [path];
  const byPath = new Map(listed.map((file) => [file.path, file]));
  return paths.map((part, i) => byPath.get(part) ?? missing(model, listed, part, i === 0 && paths.length === 1));
}

function missing(model: HubModel, listed: ListedFile[], path: string, whole: boolean): never {
  if (!whole) throw refused("split-mismatch", `${model.repository} lacks ${path}, a part of ${model.name}`);
  if (listed.some((file) => file.path.startsWith(`${path}/`))) {
    throw refused("invalid-option", `${path} is a folder of ${model.repository}: name a file in it, or a quantization as in hf:${model.repository}:Q4_K_M`);
  }
  const loadable = listed.filter(({ path }) => /\.(gguf|safetensors)$/i.test(path)).map(({ path }) => path);
  throw refused("invalid-option", `${model.repository} has no file ${path} at ${model.revision}: ${thereAre(loadable, "model files")}`);
}

function pickPath({ repository, quantization }: HubModel, listed: ListedFile[]): string {
  const models = modelsOf(listed);
  for (const wanted of quantization === undefined ? DEFAULTS : [quantization]) {
    const candidates = models.filter((model) => isOf(model, wanted));
    const plain = candidates.filter(({ dynamic }) => !dynamic);
    // UD-Q4_K_M is taken for Q4_K_M only where there is no other.
    const [first, second] = plain.length > 0 ? plain : candidates;
    if (second !== undefined) {
      const paths = candidates.map(({ path }) => path);
      throw refused("invalid-option", `${repository} has several models in ${wanted}: name one of them as hf:${repository}/FILE; ${thereAre(paths, "")}`);
    }
    if (first !== undefined) return first.path;
  }
  const [only, second] = models;
  if (quantization === undefined && only !== undefined && second === undefined) return only.path;
  const found = new Set(models.map(({ path, quantization, dynamic }) => (quantization === undefined ? path : `${dynamic ? "UD-" : ""}${quantization}`)));
  const lacks = quantization === undefined ? `neither ${DEFAULTS.join(" nor ")}` : `no ${quantization}`;
  throw refused("invalid-option", `${repository} has ${lacks}: ${thereAre([...found].sort(), "GGUF models")}`);
}

function thereAre(names: string[], of: string): string {
  if (names.length === 0) return `there are no ${of}`;
  const more = names.length > MOST_SHOWN ? ` and ${names.length - MOST_SHOWN} more` : "";
  return `there are ${names.slice(0, MOST_SHOWN).join(", ")}${more}`;
}

/** GGUF models, each once. */
function modelsOf(listed: ListedFile[]): Model[] {
  const models = new Map<string, Model>();
  for (const { path } of listed) {
    const file = path.slice(path.lastIndexOf("/") + 1);
    if (!/\.gguf$/i.test(file) || BESIDE_MODELS.some((part) => file.includes(part))) continue;
    const split = splitOf(path);
    const stem = split?.stem ?? path.slice(0, -".gguf".length);
    const key = split ? `${stem} of ${split.count}` : stem;
    if (!models.has(key)) models.set(key, { path, ...quantizationOf(stem) });
  }
  return [...models.values()];
}

/**
 * A quantization between separators: `Q4_K_M`, `IQ2_XXS`, `TQ1_0`, `MXFP4_MOE`, `NVFP4`, `BF16`, `F16`, `fp16`; `UD-` may be in
 * front. What follows a `_` belongs to it if it is short, as in `Q4_0_4_4`.
 */
const QUANTIZATION = /(?:^|[-._ ])(UD[-_])?((?:I?Q|TQ)\d{1,2}(?:_[A-Z0-9]{1,3})*|(?:MXFP|NVFP)\d(?:_[A-Z0-9]{1,3})*|B?F(?:16|32)|FP(?:16|32))(?=$|[-._ ])/gi;

/** The last one that the file's name has, else that of the nearest folder. */
function quantizationOf(stem: string): Pick<Model, "quantization" | "dynamic"> {
  for (const step of stem.split("/").reverse()) {
    const last = [...step.matchAll(QUANTIZATION)].at(-1);
    if (last?.[2] !== undefined) return { quantization: plainly(last[2]), dynamic: last[1] !== undefined };
  }
  return { quantization: undefined, dynamic: false };
}

function isOf({ quantization, dynamic }: Model, wanted: string): boolean {
  const asked = /^(UD[-_])?(.*)$/i.exec(wanted);
  return quantization === plainly(asked?.[2] ?? "") && (dynamic || asked?.[1] === undefined);
}

/** In capital letters; `FP16` and `F16` are the same. */
function plainly(quantization: string): string {
  return quantization.toUpperCase().replace(/^FP/, "F");
}

interface Split {
  /** What the parts' paths have in front of their numbers. */
  stem: string;
  count: number;
  /** Digits of the count, as written, and the end, which may be in capital letters. */
  of: string;
  end: string;
}

/** The numbers of a part, `-00001-of-00003.gguf`. */
function splitOf(path: string): Split | undefined {
  const found = /^(.+)-\d{5}-of-(\d{5})(\.gguf)$/i.exec(path);
  if (!found) return undefined;
  const [, stem = "", of = "", end = ""] = found;
  return { stem, count: Number(of), of, end };
}

/** The most parts of a model; the largest models that there are have a few hundred. */
const MOST_PARTS = 1000;

function partsOf({ stem, count, of, end }: Split): string[] {
  if (count < 1 || count > MOST_PARTS) throw refused("split-mismatch", `${stem} is split into ${count} parts: there may be 1 to ${MOST_PARTS}`);
  return Array.from({ length: count }, (_, i) => `${stem}-${String(i + 1).padStart(5, "0")}-of-${of}${end}`);
}

function refused(code: ErrorCode, message: string): Refused {
  return new Refused({ kind: "final", error: { code, message, ...(code === "invalid-option" ? { detail: "source" } : {}) } });
}
