// What the page's address asks for. It is untrusted: anything unknown is refused by name.
import { defaultOffer } from "../model-choice.js";

export interface Request {
  /** Absolute address of the model. */
  model: string;
  name: string;
  /** Tokens to decode where that is timed, elsewhere, and on a software adapter. */
  tokens: { decoded: number; others: number; slow: number };
  passes: number;
  /** Only the short prompts, and each engine loads once. */
  quick: boolean;
  /** Long prompts on a software adapter too. */
  long: boolean;
  /** Ids of the rows to run; all if undefined. */
  rows: string[] | undefined;
  /** Run at once, for programs that drive the page. */
  auto: boolean;
  /** Measure how fast the memory and the GPU are, which takes 256 MiB; programs that watch the memory leave it out. */
  reading: boolean;
  /** Rows of transformers.js too, whose files are in onnx/ beside the page. They have the default model's weights. */
  onnx: boolean;
}

const KNOWN = ["model", "rows", "quick", "long", "auto", "reading", "onnx"];

/** @throws Error with a sentence for the visitor. */
export async function request(address: Location): Promise<Request> {
  const asked = new URLSearchParams(address.search);
  const unknown = [...asked.keys()].find((key) => !KNOWN.includes(key));
  if (unknown !== undefined) throw new Error(`The address asks for “${unknown}”: only ${KNOWN.join(", ")} are known.`);
  const quick = asked.get("quick") === "1";
  const chosen = await model(asked.get("model"), address);
  return {
    ...chosen,
    tokens: { decoded: quick ? 8 : 48, others: 8, slow: 12 },
    passes: quick ? 1 : 3,
    quick,
    long: asked.get("long") === "1",
    rows: asked.get("rows")?.split(","),
    auto: asked.get("auto") === "1",
    reading: asked.get("reading") !== "0",
    onnx: asked.get("onnx") === "1",
  };
}

async function model(asked: string | null, address: Location): Promise<Pick<Request, "model" | "name">> {
  if (asked === null) {
    const offer = await defaultOffer();
    if (typeof offer?.source !== "string") throw new Error("This site offers no model: give one with ?model=");
    return { model: offer.source, name: offer.name };
  }
  const url = new URL(asked, document.baseURI);
  if (url.origin !== address.origin) throw new Error("The model must be on the same site as this page.");
  return { model: url.href, name: decodeURIComponent(url.pathname.split("/").at(-1) ?? "") };
}
