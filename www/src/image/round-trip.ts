// A picture of the visitor's: encoded, decoded, compared.
import { EmberglassError, type ImageDecoder, type ImageDecoderInfo } from "emberglass";
import { need } from "../dom.js";
import { bytes } from "../format.js";
import { nameElement, stem } from "../names.js";
import { draw } from "./canvas.js";
import { psnr } from "./latents.js";
import { pictureActions } from "./picture-actions.js";
import type { Running } from "./tasks.js";

/** Larger pictures are made smaller: what the visitor's processor or graphics card can do in a few seconds. */
const MAX_SIDE = { cpu: 512, webgpu: 1024 };

/** `image` is what {@link readPicture} made of `file`. */
export async function roundTrip(vae: ImageDecoder, file: File, image: HTMLImageElement, { signal, progress }: Running): Promise<void> {
  const onTile = (done: number, total: number) => progress(`Tile ${done} of ${total}`, done / total);
  const original = prepared(image, vae.info);
  const begun = performance.now();
  const latents = await vae.encode(original, { signal, maxSide: Math.max(original.width, original.height), onTile });
  const encoded = performance.now() - begun;
  const picture = vae.info.decodes ? await vae.decode(latents, { signal, onTile }) : undefined;
  signal.throwIfAborted();
  draw(need<HTMLCanvasElement>("original"), original);
  const size = `${original.width} × ${original.height} pixels, ${bytes(original.width * original.height * 3)}; the file has ${bytes(file.size)}`;
  need("original-text").replaceChildren(nameElement(file.name), `: ${size}`);
  const { channels, height, width } = latents;
  const parts = [`${channels} × ${height} × ${width} latents, ${bytes(2 * latents.data.length)} as f16`];
  if (picture) {
    draw(need<HTMLCanvasElement>("decoded"), picture.image);
    parts.push(`PSNR ${psnr(original.data, picture.data).toFixed(1)} dB`);
  }
  parts.push(`encoded in ${encoded.toFixed(0)} ms${picture ? `, decoded in ${picture.stats.ms.toFixed(0)} ms` : ""}`);
  need("decoded-text").textContent = parts.join(" · ");
  need("decoded").hidden = !picture;
  const shown = { name: `${stem(file.name)}-decoded`, latents, image: () => picture?.image ?? original };
  pictureActions("trip-actions", "your picture, decoded", () => shown, !picture);
  need("trip").hidden = false;
  need("trip").scrollIntoView({ block: "nearest" });
}

/**
 * The picture on white, as the encoder gets it. A model of one size gets all of it in a square of that size. Others get
 * it at its own proportions, cut in the middle to sides that the model can halve.
 */
function prepared(image: HTMLImageElement, { sampleSize, scale, device }: ImageDecoderInfo): ImageData {
  const { naturalWidth, naturalHeight } = image;
  const longest = Math.max(naturalWidth, naturalHeight);
  const most = Math.min(MAX_SIDE[device.kind], sampleSize ?? Infinity);
  const whole = (side: number) => Math.max(scale, Math.floor(Math.round(side) / scale) * scale);
  const shrink = Math.min(1, most / longest);
  const [width, height] =
    sampleSize === undefined ? [whole(naturalWidth * shrink), whole(naturalHeight * shrink)] : [whole(most), whole(most)];
  const factor =
    sampleSize === undefined ? Math.max(width / naturalWidth, height / naturalHeight, shrink) : whole(most) / longest;
  const [w, h] = [naturalWidth * factor, naturalHeight * factor];
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new EmberglassError("internal", "this browser gives the page no canvas");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, Math.round((width - w) / 2), Math.round((height - h) / 2), w, h);
  return context.getImageData(0, 0, width, height);
}

/** Undefined if the browser cannot read it. By way of an image element, since that also shows SVG. */
export async function readPicture(file: File): Promise<HTMLImageElement | undefined> {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode();
    return image;
  } catch {
    return undefined;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}
