import type { EngineClient } from "./engine-client.js";
import { EmberglassError } from "./errors.js";
import type { DecodeOptions, EncodeOptions, ImageDecoderInfo, Latents, ShownPicture } from "./image-types.js";
import * as check from "./options.js";
import { DecodedPicture, imageData, type PictureSource, readPicture } from "./picture.js";
import type { DecodeReply, DecodeRequest, Verb, Verbs } from "./protocol.js";
import { SerialQueue } from "./serial-queue.js";
import { within } from "./within.js";

/** How long the worker may take to free its memory before it is ended from outside. */
const DISPOSE_GRACE_MS = 2000;
const MAX_SIDE = 512;

const DECODE: check.Kinds<DecodeOptions> = {
  signal: check.signal,
  memoryBytes: check.number,
  scaled: check.flag,
  onPreview: check.callback,
  onTile: check.callback,
};

const ENCODE: check.Kinds<EncodeOptions> = {
  signal: check.signal,
  seed: check.number,
  maxSide: check.number,
  memoryBytes: check.number,
  onTile: check.callback,
};

const SAMPLE: check.Kinds<{ spread?: number | undefined; signal?: AbortSignal | undefined }> = { spread: check.number, signal: check.signal };

function checkCanvas(value: unknown): void {
  try {
    if (check.kindOf(value) === "OffscreenCanvas") return;
    if (typeof (value as HTMLCanvasElement).transferControlToOffscreen === "function") return;
  } catch {
    // Null, for one.
  }
  throw check.invalid("argument canvas", value, "neither a canvas element nor an OffscreenCanvas");
}

/**
 * A loaded image autoencoder: latents to pictures, and pictures to latents where the files hold an encoder. Made by
 * `loadImageDecoder`.
 *
 * Requests are computed one after another in the order they were made; those that wait can be cancelled. All methods
 * reject with {@link EmberglassError}: `disposed` after {@link ImageDecoder.dispose}, `wasm-trap` or `worker-failed`
 * once the worker has died, `device-lost` once the GPU has gone.
 */
export class ImageDecoder {
  /** What was loaded, and what it runs on, right after loading. */
  readonly info: ImageDecoderInfo;

  readonly #client: EngineClient;
  readonly #model: number;
  readonly #ownsWorker: boolean;
  readonly #queue = new SerialQueue();
  readonly #lifetime = new AbortController();
  /** Canvases given to the worker, and their numbers there. */
  readonly #canvases = new WeakMap<HTMLCanvasElement | OffscreenCanvas, number>();
  #lastCanvas = 0;
  #disposing: Promise<void> | undefined;

  /** @internal */
  constructor(client: EngineClient, model: number, info: ImageDecoderInfo, ownsWorker: boolean) {
    this.#client = client;
    this.#model = model;
    this.info = info;
    this.#ownsWorker = ownsWorker;
  }

  /**
   * Latents to a picture of `scale` times their height and width.
   *
   * @throws {@link EmberglassError} `invalid-option` for latents that are not finite, of another number of channels or
   * not as many as their shape says, and for a memory budget in which nothing fits; `unsupported-model` without a
   * decoder; `aborted`, `out-of-memory`, `device-limit`, `device-lost`.
   */
  decode(latents: Latents, options?: DecodeOptions): Promise<DecodedPicture>;
  /** Several pictures, one after the other, in the order given. */
  decode(latents: readonly Latents[], options?: DecodeOptions): Promise<DecodedPicture[]>;
  async decode(latents: Latents | readonly Latents[], options: DecodeOptions = {}): Promise<DecodedPicture | DecodedPicture[]> {
    const checked = check.options("decode", DECODE, options);
    if (!check.isArray(latents)) return this.#decode(check.latents(latents, "argument latents"), checked);
    const all = check.listOf(check.latents)(latents, "argument latents");
    const pictures = [];
    for (const one of all) pictures.push(await this.#decode(one, checked));
    return pictures;
  }

  /**
   * Latents to a canvas, which gets the picture's size. On a real GPU the picture never leaves it; on the CPU and on
   * software adapters the worker paints it. The canvas belongs to this decoder from then on: it must have no context
   * yet, and no other decoder can take it. Pages read its pixels by drawing it onto another canvas.
   *
   * @throws {@link EmberglassError} as for {@link ImageDecoder.decode}; `invalid-option` for a canvas that has a context
   * already, `device-limit` for one of more than 8192 pixels a side.
   */
  async decodeTo(canvas: HTMLCanvasElement | OffscreenCanvas, latents: Latents, options: DecodeOptions = {}): Promise<ShownPicture> {
    checkCanvas(canvas);
    const checked = check.options("decodeTo", DECODE, options);
    const copy = check.latents(latents, "argument latents");
    const number = this.#canvases.get(canvas) ?? (await this.#attach(canvas));
    const { width, height, stats } = await this.#request(copy, checked, number);
    return { width, height, stats };
  }

  async #attach(canvas: HTMLCanvasElement | OffscreenCanvas): Promise<number> {
    const number = ++this.#lastCanvas;
    try {
      const offscreen = "transferControlToOffscreen" in canvas ? canvas.transferControlToOffscreen() : canvas;
      // Not to be cancelled: from here on it is the worker's.
      await this.#enqueue("attachCanvas", { model: this.#model, number, canvas: offscreen }, undefined, undefined, [offscreen]);
    } catch (cause) {
      if (cause instanceof EmberglassError) throw cause;
      throw new EmberglassError("invalid-option", `the canvas cannot be given to the decoder: ${String(cause)}`, { cause });
    }
    this.#canvases.set(canvas, number);
    return number;
  }

  async #decode(latents: Latents, options: DecodeOptions): Promise<DecodedPicture> {
    const { width, height, data, stats } = await this.#request(latents, options);
    if (!data) throw new EmberglassError("internal", "a picture without its bytes");
    return new DecodedPicture({ width, height, data }, stats);
  }

  #request(
    latents: Latents,
    { signal, memoryBytes, scaled = false, onPreview, onTile }: DecodeOptions,
    canvas?: number,
  ): Promise<DecodeReply> {
    const request: DecodeRequest = {
      model: this.#model,
      latents,
      scaled,
      preview: onPreview !== undefined,
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      ...(canvas === undefined ? {} : { canvas }),
    };
    return this.#enqueue("decode", request, signal, (event) => {
      if ("preview" in event) {
        const { width, height } = event.preview;
        onPreview?.({ width, height, image: imageData(event.preview) });
      } else {
        onTile?.(event.done, event.total);
      }
    });
  }

  /**
   * A picture to latents. It is laid over white, made smaller to `maxSide`, and cut to a multiple of `scale`.
   *
   * @throws {@link EmberglassError} `invalid-option` for what is no picture, and for a `maxSide` below `scale`;
   * `unsupported-model` without an encoder;
   * `aborted`, `out-of-memory`, `device-limit`, `device-lost`.
   */
  async encode(source: PictureSource, options: EncodeOptions = {}): Promise<Latents> {
    const { signal, seed, maxSide = MAX_SIDE, memoryBytes, onTile } = check.options("encode", ENCODE, options);
    const picture = await readPicture(source, this.info.scale, maxSide);
    const request = {
      model: this.#model,
      picture,
      ...(seed === undefined ? {} : { seed }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
    };
    return this.#enqueue("encode", request, signal, ({ done, total }) => onTile?.(done, total));
  }

  /**
   * Latents drawn for a picture of the trained size: from the file's own prior, else standard normals. The same seed
   * gives the same latents.
   *
   * @param options `spread` multiplies the noise: 0 gives the mean picture, 1 (default) the whole variety.
   */
  async sample(seed: number, options: { spread?: number | undefined; signal?: AbortSignal | undefined } = {}): Promise<Latents> {
    check.number(seed, "argument seed");
    const { spread = 1, signal } = check.options("sample", SAMPLE, options);
    return this.#enqueue("sample", { model: this.#model, seed, spread }, signal);
  }

  /** {@link ImageDecoder.info} with the memory of this moment. */
  async refreshInfo(options: { signal?: AbortSignal | undefined } = {}): Promise<ImageDecoderInfo> {
    const { signal } = check.options("refreshInfo", check.SIGNAL, options);
    return this.#enqueue("imageInfo", { model: this.#model }, signal);
  }

  /**
   * Stops what runs, rejects what waits with code `disposed` and frees the memory. The worker ends too, unless it is a
   * language model's. Calling it again does nothing more. Never rejects.
   */
  dispose(): Promise<void> {
    this.#disposing ??= this.#dispose();
    return this.#disposing;
  }

  /** `await using vae = …`. Browsers without the symbol ignore it; call {@link ImageDecoder.dispose} there. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** See `TextModel`. */
  get [Symbol.toStringTag](): string {
    return "ImageDecoder";
  }

  #enqueue<V extends Verb>(
    verb: V,
    args: Verbs[V]["args"],
    signal: AbortSignal | undefined,
    onEvent?: (event: Verbs[V]["event"]) => void,
    transfer: Transferable[] = [],
  ): Promise<Verbs[V]["result"]> {
    const ends = signal ? AbortSignal.any([signal, this.#lifetime.signal]) : this.#lifetime.signal;
    const options = { signal: ends, transfer, ...(onEvent ? { onEvent } : {}) };
    return this.#queue.run(() => this.#client.call(verb, args, options), signal);
  }

  async #dispose(): Promise<void> {
    const reason = new EmberglassError("disposed", "the image decoder was disposed");
    const idle = this.#queue.close(reason);
    this.#lifetime.abort(reason);
    const freed = idle.then(() => this.#client.call("disposeImage", { model: this.#model }));
    // A model that hangs is not waited for.
    await within(DISPOSE_GRACE_MS, freed, "the memory was not freed").catch(() => {});
    if (this.#ownsWorker) this.#client.close(reason);
  }
}
