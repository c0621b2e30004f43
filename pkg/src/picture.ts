// Pictures in the forms that pages have them, to and from plain bytes.
import { EmberglassError } from "./errors.js";
import type { DecodeStats } from "./image-types.js";
import type { WirePicture } from "./protocol.js";

/** What can be encoded. A `Blob` is an image file. Transparent parts become white. */
export type PictureSource = Blob | ImageData | ImageBitmap | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas;

/** A decoded picture. */
export class DecodedPicture {
  /** Columns. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** (height, width, 4) bytes: red, green, blue, opaque alpha. */
  readonly data: Uint8ClampedArray<ArrayBuffer>;
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

/**
 * The bytes of a picture whose sides are multiples of `scale` and at most `maxSide`: scaled down as a whole, then cut
 * in the middle to the next multiple.
 *
 * @throws {@link EmberglassError} `invalid-option` for what is no picture.
 */
export async function readPicture(source: PictureSource, scale: number, maxSide: number): Promise<WirePicture> {
  if (isImageData(source) && fits(source, scale, maxSide)) {
    const { width, height, data } = source;
    return { width, height, data: new Uint8Array(data) };
  }
  const bitmap = await createImageBitmap(source).catch((cause: unknown) => {
    throw new EmberglassError("invalid-option", `the picture could not be read: ${String(cause)}`, { cause });
  });
  try {
    const shrink = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
    const [fullWidth, fullHeight] = [bitmap.width * shrink, bitmap.height * shrink];
    const whole = (side: number) => Math.max(scale, Math.floor(Math.round(side) / scale) * scale);
    const [width, height] = [whole(fullWidth), whole(fullHeight)];
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (!context) throw new EmberglassError("internal", "no canvas to read the picture with");
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    // A picture smaller than one latent position is enlarged; all others keep their proportions.
    const grow = Math.max(1, width / fullWidth, height / fullHeight);
    const [w, h] = [fullWidth * grow, fullHeight * grow];
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
    return { width, height, data: new Uint8Array(context.getImageData(0, 0, width, height).data) };
  } finally {
    bitmap.close();
  }
}

function isImageData(source: PictureSource): source is ImageData {
  return "data" in source && source.data instanceof Uint8ClampedArray;
}

function fits({ width, height }: ImageData, scale: number, maxSide: number): boolean {
  return width % scale === 0 && height % scale === 0 && Math.max(width, height) <= maxSide;
}
