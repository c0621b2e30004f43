// Wires the parts of the image page together; what each part does is in its own file.
import { type DecodeStats, type ImageDecoder, type Latents, loadImageDecoder, type ModelSource } from "emberglass";
import { announce } from "../announcer.js";
import { clearError, showRefusal } from "../banner.js";
import { copyText } from "../clipboard.js";
import { requestedDevice } from "../device-choice.js";
import { el, need } from "../dom.js";
import { embedded, embeddedFile } from "../embedded.js";
import { bytes, seconds } from "../format.js";
import { nameElement, stem, visible } from "../names.js";
import { workOffline } from "../offline.js";
import { draw } from "./canvas.js";
import { openFiles, sorted } from "./opened-files.js";
import { pictureActions } from "./picture-actions.js";
import { report } from "./report.js";
import { readPicture, roundTrip } from "./round-trip.js";
import { type Sample, Samples } from "./samples.js";
import { type Draw, linkTo, MOST_SEED, requestedDraw, VARIETY } from "./shared-seed.js";
import { computing, loading, type Running } from "./tasks.js";
import { Walk } from "./walk.js";

const OWN = { address: "./emoji/emoji-vae.safetensors", name: "emoji-vae, the page’s own" };

/** The model of the moment. A link to a seed only means something to the page's own. */
let loaded: { vae: ImageDecoder; isOwn: boolean } | undefined;
let chosen: Sample | undefined;

const walk = new Walk((thrown) => report(thrown, "The picture could not be decoded"));
const samples = new Samples(choose);
const seedField = need<HTMLInputElement>("seed");
const varietyField = need<HTMLInputElement>("variety");
const { device, refused } = requestedDevice(location.search);
const asked = requestedDraw(location.search);

openFiles((files) => void open(files));
pictureActions("sample-actions", "sample A", () => {
  const sample = chosen;
  return sample && { name: `emberglass-seed-${sample.seed}`, latents: sample.latents, image: () => sample.image };
});
need("again").addEventListener("click", () => {
  seedField.valueAsNumber = anySeed();
  sampleAgain();
});
for (const field of [seedField, varietyField]) field.addEventListener("change", sampleAgain);
need("copy-link").addEventListener("click", ({ currentTarget }) => void copyLink(currentTarget as HTMLElement));

seedField.max = String(MOST_SEED);
varietyField.max = String(VARIETY.most);
seedField.valueAsNumber = asked.seed ?? anySeed();
varietyField.valueAsNumber = asked.variety ?? VARIETY.usual;
const unusable = [refused, asked.refused].filter((part) => part !== undefined);
if (unusable.length > 0) {
  showRefusal("This address asks for something that does not exist", [el("bdi", {}, visible(unusable.join(" ")))]);
}
need("attribution").hidden = embedded?.image?.isOwn === false;
void loadOwn();
workOffline();

/** Short enough to read out to somebody. */
function anySeed(): number {
  return Math.floor(Math.random() * 1e6);
}

async function loadOwn(): Promise<void> {
  if (!embedded?.image) return load(OWN.address, OWN.name, true);
  const { name, bytes: all } = embedded.image;
  let source: File | undefined;
  await loading.run(
    "Reading this file",
    async ({ progress }) => {
      source = await embeddedFile("image", (read) => progress(`${bytes(read)} of ${bytes(all)}`, read / all));
    },
    (thrown) => showRefusal("There is no model in this file", (thrown as Error).message, "io"),
  );
  if (source) await load(source, name, true);
  else need("model").textContent = "No model is loaded. Open weights.";
}

async function load(source: ModelSource, name: string, isOwn = false): Promise<void> {
  let next: ImageDecoder | undefined;
  await loading.run(
    `Loading ${isOwn ? "the page’s own model" : "a model"}`,
    async ({ signal, progress }) => {
      next = await loadImageDecoder(source, {
        signal,
        ...(device === undefined ? {} : { device }),
        // The service worker keeps the page's own.
        storage: isOwn ? "none" : "auto",
        onProgress: ({ loadedBytes, totalBytes, secondsLeft }) => {
          const left = secondsLeft === null || secondsLeft === 0 ? "" : `, ${seconds(secondsLeft)} left`;
          if (totalBytes > 0) progress(`${bytes(loadedBytes)} of ${bytes(totalBytes)}${left}`, loadedBytes / totalBytes);
        },
      });
    },
    (thrown) => report(thrown, "The model could not be loaded", [{ label: "Try again", run: () => void load(source, name, isOwn) }]),
  );
  if (!next) {
    if (!loaded) need("model").textContent = "No model is loaded. Open weights, or reload the page.";
    return;
  }
  // Only now: a file that is refused costs nothing that was there.
  const before = loaded?.vae;
  computing.cancel();
  loaded = { vae: next, isOwn };
  showModel(next, name, isOwn);
  await before?.dispose();
  if (next.info.decodes && next.info.hasPrior) await sample();
}

/** What the former model made goes; what the new one can do is offered. */
function showModel({ info }: ImageDecoder, name: string, isOwn: boolean): void {
  chosen = undefined;
  samples.clear();
  walk.clear();
  for (const id of ["trip", "opened", "chosen"]) need(id).hidden = true;
  const { decodes, encodes, hasPrior, device } = info;
  const where = device.kind === "webgpu" ? `GPU (${device.adapter})` : "CPU";
  const parts = ["", info.architecture, `${info.latentChannels} channels, ${info.scale}× smaller sides`, bytes(info.weightBytes), ""];
  need("model").replaceChildren(nameElement(name), parts.join(" · "), el("span", { title: device.reason }, where));
  need("sampling").hidden = !(decodes && hasPrior);
  need("no-samples").hidden = decodes && hasPrior;
  need("no-samples-why").textContent = decodes
    ? "This model has no prior of its own: nothing in it says which latents are pictures, and random ones would only give noise."
    : "This model has no decoder: it makes latents out of pictures, and no pictures.";
  need("open-latents").hidden = !decodes;
  need("round-trip").hidden = !encodes;
  need("trip-what").textContent = decodes ? "It is encoded to latents and decoded again." : "It is encoded to latents, which you can save.";
  // A link to a file on this disk is of no use to others.
  need("share").hidden = !isOwn || embedded !== undefined;
}

function drawn(): Draw | undefined {
  const [seed, variety] = [seedField.valueAsNumber, varietyField.valueAsNumber];
  return Number.isSafeInteger(seed) && seed >= 0 && seed <= MOST_SEED ? { seed, variety } : undefined;
}

function sampleAgain(): void {
  clearError();
  void sample();
}

async function sample(): Promise<void> {
  const vae = loaded?.vae;
  const draw = drawn();
  if (!draw) {
    showRefusal("This is not a seed", `A seed is a whole number from 0 to ${MOST_SEED}.`);
  } else if (vae) {
    await compute("Sampling", "Sampling failed", (running) => samples.draw(vae, draw, running));
  }
}

function choose(a: Sample, b: Sample): void {
  if (!loaded) return;
  chosen = a;
  need("chosen").hidden = false;
  need("chosen-text").textContent = `Sample A has the seed ${a.seed}.`;
  need<HTMLInputElement>("link").value = linkTo(a);
  void walk.show(loaded.vae, a, b).catch((thrown: unknown) => report(thrown, "The picture could not be decoded"));
}

async function copyLink(button: HTMLElement): Promise<void> {
  const field = need<HTMLInputElement>("link");
  const copied = await copyText(field.value, button);
  announce(copied ? "The link is copied." : "This browser did not let the page copy. The link is selected: copy it by hand.");
  if (!copied) field.select();
}

async function open(files: File[]): Promise<void> {
  clearError();
  const found = await sorted(files).catch((thrown: unknown) => report(thrown, "The latents could not be read"));
  const vae = loaded?.vae;
  if (!found) return;
  if (found.kind === "refused") refuse([nameElement(found.file.name), ` ${found.why}`]);
  else if (found.kind === "weights") await load({ shards: found.files }, found.files.map(({ name }) => name).join(", "));
  else if (!vae) refuse([loading.state ? "The model is still loading. Try again once it is there." : "There is no model yet. Open its weights first."]);
  else if (found.kind === "picture") {
    if (!vae.info.encodes) refuse(["This model has no encoder, so it cannot take pictures in."]);
    else {
      // A picture that cannot be read does not end what the model is busy with.
      const image = await readPicture(found.file);
      if (!image) refuse([nameElement(found.file.name), " is no picture that this browser reads. Save it as PNG or JPEG, and open that."]);
      else await compute("Encoding and decoding", "This picture could not be encoded and decoded", (running) => roundTrip(vae, found.file, image, running));
    }
  } else if (!vae.info.decodes) refuse(["This model has no decoder, so it cannot show latents."]);
  else {
    const show = (running: Running) => showLatents(vae, found.file.name, found.latents, running);
    await compute("Decoding", "These latents could not be decoded", show);
  }
}

function compute(what: string, failure: string, work: (running: Running) => Promise<void>): Promise<void> {
  return computing.run(what, work, (thrown) => report(thrown, failure));
}

function refuse(message: (string | Node)[]): void {
  showRefusal("This cannot be opened", message);
}

async function showLatents(vae: ImageDecoder, name: string, [latents, ...others]: Latents[], { signal, progress }: Running): Promise<void> {
  if (!latents) return;
  const canvas = need<HTMLCanvasElement>("opened-picture");
  const picture = await vae.decode(latents, {
    signal,
    onPreview: ({ image }) => {
      if (signal.aborted) return;
      draw(canvas, image);
      need("opened-text").replaceChildren(nameElement(name), ": a preview");
      need("opened-actions").replaceChildren();
      need("opened").hidden = false;
    },
    onTile: (done, total) => progress(`Tile ${done} of ${total}`, done / total),
  });
  signal.throwIfAborted();
  draw(canvas, picture.image);
  need("opened").hidden = false;
  const more = others.length > 0 ? `; the first of ${others.length + 1}` : "";
  need("opened-text").replaceChildren(nameElement(name), `: ${picture.width} × ${picture.height} pixels${more} · ${figures(picture.stats)}`);
  pictureActions("opened-actions", "the decoded latents", () => ({ name: `${stem(name)}-decoded`, latents, image: () => picture.image }));
  canvas.scrollIntoView({ block: "nearest" });
}

function figures({ ms, dispatches, tiles, gpuBytes }: DecodeStats): string {
  const parts = [`${(ms / 1000).toFixed(2)} s`, tiles === 1 ? "in one piece" : `in ${tiles} tiles`];
  if (dispatches > 0) parts.push(`${dispatches} dispatches`, `${bytes(gpuBytes)} of GPU memory`);
  return parts.join(" · ");
}
