// Pictures in the forms that pages have them, to and from plain bytes.
import { EmberglassError } from "./errors.js";
import type { DecodeStats } from "./image-types.js";
import * as check from "./options.js";
import type { WirePicture } from "./protocol.js";

/**
 * What can be encoded: an image file as a `Blob`, `ImageData`, `ImageBitmap`, a canvas, `<img>`, `VideoFrame`, and of a
 * `<video>` the frame that it shows. Transparent parts become white and
 * colours become sRGB. Values of float `ImageData` outside 0 to 1 are clipped.
 */
export type PictureSource = Blob | ImageData | Exclude<CanvasImageSource, SVGImageElement>;

/** A decoded picture. */
export class DecodedPicture {
  /** Columns. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** (height, width, 4) bytes: red, green, blue, opaque alpha. */
  readonly data: ImageData["data"];
  /** How the decode went. */
  readonly stats: DecodeStats;

  /** @internal */
  constructor({ width, height, data }: WirePicture, stats: DecodeStats) {
    this.width = width;
    this.height = height;
    this.data = clamped(data);
    this.stats = stats;
  }

  /** For `putImageData` and `createImageBitmap`. */
  get image(): ImageData {
    return new ImageData(this.data, this.width, this.height);
  }
}

/** @internal */
export function imageData({ width, height, data }: WirePicture): ImageData {
  return new ImageData(clamped(data), width, height);
}

/** What comes out of a message has a buffer of its own, all of which is the picture. */
function clamped(data: Uint8Array): Uint8ClampedArray<ArrayBuffer> {
  return new Uint8ClampedArray(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
}

const PICTURES = "an image file as a Blob, an ImageData, ImageBitmap, canvas, image or video element, or VideoFrame";
/** Kinds that a browser would refuse in words of its own. */
const NO_PICTURES = ["Null", "Object", "Array", "ArrayBuffer", "Response", "ReadableStream", "Promise", "URL"];

/**
 * The bytes of a picture whose sides are multiples of `scale` and at most `maxSide`: scaled down as a whole, then cut
 * in the middle to the next multiple; an odd pixel is cut at the end.
 *
 * @throws {@link EmberglassError} `invalid-option` for what is no picture, and for a `maxSide` below `scale`.
 */
export async function readPicture(source: PictureSource, scale: number, maxSide: number): Promise<WirePicture> {
  if (!(maxSide >= scale)) {
    throw check.invalid("option maxSide", maxSide, `out of range (a number of at least ${scale}, the pixels of one latent position)`);
  }
  try {
    const kind = check.kindOf(source);
    if (kind === check.UNREADABLE || (!isImageData(source) && (typeof source !== "object" || NO_PICTURES.includes(kind)))) {
      throw check.invalid("argument source", source, `no picture: give ${PICTURES}`);
    }
    if (!isImageData(source)) return await scaled(await bitmapOf(source), scale, maxSide);
    const opaque = await overWhite(source);
    if (fits(opaque, scale, maxSide)) return opaque;
    return await scaled(await createImageBitmap(imageData(opaque)), scale, maxSide);
  } catch (cause) {
    throw cause instanceof EmberglassError ? cause : unreadable(source, cause);
  }
}

function fits({ width, height }: WirePicture, scale: number, maxSide: number): boolean {
  return width % scale === 0 && height % scale === 0 && Math.max(width, height) <= maxSide;
}

/** Scales, cuts and lays over white. Closes the bitmap. */
async function scaled(bitmap: ImageBitmap, scale: number, maxSide: number): Promise<WirePicture> {
  try {
    const shrink = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
    const [fullWidth, fullHeight] = [bitmap.width * shrink, bitmap.height * shrink];
    const whole = (side: number) => Math.max(scale, Math.floor(Math.round(side) / scale) * scale);
    const [width, height] = [whole(fullWidth), whole(fullHeight)];
    const context = context2d(width, height);
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    // A picture smaller than one latent position is enlarged; all others keep their proportions.
    const grow = Math.max(1, width / fullWidth, height / fullHeight);
    const [w, h] = [fullWidth * grow, fullHeight * grow];
    context.imageSmoothingQuality = "high";
    // At whole pixels: half a pixel aside would blur a picture that is only cut.
    context.drawImage(bitmap, Math.round((width - w) / 2), Math.round((height - h) / 2), w, h);
    return { width, height, data: new Uint8Array(context.getImageData(0, 0, width, height).data) };
  } finally {
    bitmap.close();
  }
}

/** `createImageBitmap` squeezes a rotated frame of a video into its sides before the rotation; `drawImage` does not. */
function bitmapOf(source: Exclude<PictureSource, ImageData>): Promise<ImageBitmap> | ImageBitmap {
  const [width, height] = frameSize(source);
  // Without a frame `drawImage` draws nothing and `createImageBitmap` gives an error.
  if (width === 0 || height === 0) return createImageBitmap(source);
  const context = context2d(width, height);
  context.drawImage(source as HTMLVideoElement | VideoFrame, 0, 0, width, height);
  return context.canvas.transferToImageBitmap();
}

/** The size of a video's frame; zeros for anything else, and while there is no frame. */
function frameSize(source: Exclude<PictureSource, ImageData>): [width: number, height: number] {
  if (typeof VideoFrame !== "undefined" && source instanceof VideoFrame) return [source.displayWidth, source.displayHeight];
  if (typeof HTMLVideoElement === "undefined" || !(source instanceof HTMLVideoElement)) return [0, 0];
  return source.readyState < source.HAVE_CURRENT_DATA ? [0, 0] : [source.videoWidth, source.videoHeight];
}

function context2d(width: number, height: number): OffscreenCanvasRenderingContext2D {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new EmberglassError("internal", "no canvas to read the picture with");
  return context;
}

/** Whether it is `ImageData` or looks like it. `instanceof` would miss one of another window. */
function isImageData(source: PictureSource): source is ImageData {
  return typeof source === "object" && source !== null && "data" in source && ArrayBuffer.isView(source.data);
}

/** The value of a full colour or alpha, by the kind of array. */
const UNITS: Record<string, number> = { Uint8ClampedArray: 255, Float16Array: 1, Float32Array: 1 };

/** Lays `ImageData` over white. Its alpha is not multiplied into its colours. */
async function overWhite(source: ImageData): Promise<WirePicture> {
  const { width, height, data } = source;
  if (data.length !== 4 * width * height) {
    const why = data.length === 0 ? "its buffer was transferred" : `${data.length} values for ${width} × ${height} pixels`;
    throw new EmberglassError("invalid-option", `the ImageData has no pixels to read: ${why}`);
  }
  const unit = UNITS[data[Symbol.toStringTag]];
  if (unit === undefined) {
    const known = Object.keys(UNITS).join(", ");
    throw new EmberglassError("invalid-option", `the ImageData holds a ${data[Symbol.toStringTag]}, not one of ${known}`);
  }
  if (unit === 1 && data.some(Number.isNaN)) throw new EmberglassError("invalid-option", "the ImageData holds NaN");
  const [colours, colourUnit] = (source.colorSpace ?? "srgb") === "srgb" ? [data, unit] : [await srgbBytes(source, unit), 255];
  const share = (value: number | undefined, of: number) => Math.min(1, Math.max(0, (value ?? 0) / of));
  const rgba = new Uint8ClampedArray(data.length);
  for (let i = 0; i < data.length; i += 4) {
    const alpha = share(data[i + 3], unit);
    // Storing into a clamped array rounds to the nearest.
    for (let c = i; c < i + 3; c++) rgba[c] = 255 * (share(colours[c], colourUnit) * alpha + 1 - alpha);
    rgba[i + 3] = 255;
  }
  return { width, height, data: new Uint8Array(rgba.buffer) };
}

/** The colours as sRGB bytes. The alpha becomes opaque: a canvas would multiply it into the colours and lose bits. */
async function srgbBytes(source: ImageData & { readonly pixelFormat?: string }, opaque: number): Promise<Uint8ClampedArray> {
  const { width, height, colorSpace, pixelFormat } = source;
  const values = source.data.slice();
  for (let i = 3; i < values.length; i += 4) values[i] = opaque;
  const settings = { colorSpace, ...(pixelFormat === undefined ? {} : { pixelFormat }) };
  const bitmap = await createImageBitmap(new ImageData(values, width, height, settings as ImageDataSettings));
  const context = context2d(width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height).data;
}

/** An error that says what could not be read, for a reason that the browser gave. */
function unreadable(source: unknown, cause: unknown): EmberglassError {
  const kind = check.kindOf(source);
  const { name, message } = cause instanceof Error || cause instanceof DOMException ? cause : { name: "", message: String(cause) };
  const text = `the picture (${kind}) could not be read: ${message}`;
  return new EmberglassError("invalid-option", `${text} ${hint(source, name)}`.trimEnd(), { cause });
}

function hint(source: unknown, name: string): string {
  if (name === "SecurityError") return "It comes from another origin, which does not let pages read it (CORS)";
  if (source instanceof Blob) {
    if (source.type.startsWith("image/svg")) return "An SVG file has no pixels: draw it onto a canvas of the size you want";
    return "The file may be broken, or of a kind that this browser does not read";
  }
  return name === "InvalidStateError" ? "It may be empty, broken, closed, transferred or not loaded yet" : "";
}
