// Wires the parts of the image page together; what each part does is in its own file.
import { type DecodeStats, type ImageDecoder, loadImageDecoder, type ModelSource, readLatents } from "emberglass";
import { clearError, showError } from "../banner.js";
import { coded } from "../coded.js";
import { requestedDevice } from "../device-choice.js";
import { need } from "../dom.js";
import { bytes, seconds } from "../format.js";
import { draw } from "./canvas.js";
import { openFiles, sorted } from "./opened-files.js";
import { roundTrip } from "./round-trip.js";
import { Samples } from "./samples.js";
import { Walk } from "./walk.js";

const DEFAULT = "./emoji/emoji-vae.safetensors";

const walk = new Walk(report);
const samples = new Samples((a, b) => vae && void walk.show(vae, a, b).catch(report));
const { device, refused } = requestedDevice(location.search);

let vae: ImageDecoder | undefined;
/** Ends what the visitor no longer waits for: each new task cancels the one before. */
let task = new AbortController();

openFiles((files) => void open(files));
need("again").addEventListener("click", () => void sample());
need("spread").addEventListener("change", () => void sample());
need("cancel").addEventListener("click", () => task.abort());
if (refused !== undefined) showError({ code: "invalid-option", message: refused });
void load(DEFAULT, "emoji-vae, the page’s own");

function report(thrown: unknown): void {
  const error = coded(thrown);
  // What ran on the model before is nobody's any more.
  if (error.code !== "aborted" && error.code !== "disposed") showError(error);
}

/** Runs a task after cancelling the last one, with its progress shown until it ends. */
async function run(what: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  task.abort();
  const mine = new AbortController();
  task = mine;
  progress(what);
  try {
    await work(mine.signal);
  } catch (thrown) {
    if (task === mine) report(thrown);
  } finally {
    if (task === mine) need("progress").hidden = true;
  }
}

function progress(text: string, share?: number): void {
  const bar = need<HTMLProgressElement>("progress-bar");
  if (share === undefined) bar.removeAttribute("value");
  else bar.value = share;
  need("progress-text").textContent = text;
  need("progress").hidden = false;
}

async function load(source: ModelSource, name: string): Promise<void> {
  await run(`Loading ${name}`, async (signal) => {
    const loaded = await loadImageDecoder(source, {
      signal,
      ...(device === undefined ? {} : { device }),
      onProgress: ({ loadedBytes, totalBytes, secondsLeft }) => {
        const left = secondsLeft === null || secondsLeft === 0 ? "" : `, ${seconds(secondsLeft)} left`;
        if (totalBytes > 0) progress(`${bytes(loadedBytes)} of ${bytes(totalBytes)}${left}`, loadedBytes / totalBytes);
      },
    });
    // Only now: a file that is refused costs nothing that was there.
    clearError();
    await vae?.dispose();
    vae = loaded;
    describe(loaded, name);
    need("round-trip").hidden = !(loaded.info.decodes && loaded.info.encodes);
    need("sampling").hidden = !loaded.info.decodes;
    need("between").hidden = true;
    need("exploring").hidden = true;
    need("opened").hidden = true;
  });
  if (vae?.info.decodes) await sample();
}

function describe({ info }: ImageDecoder, name: string): void {
  const where = info.device.kind === "webgpu" ? `GPU (${info.device.adapter})` : "CPU";
  const parts = [name, info.architecture, `${info.latentChannels} channels, ${info.scale}× smaller sides`, bytes(info.weightBytes), where];
  need("model").textContent = parts.join(" · ");
  need("model").title = info.device.reason;
}

async function sample(): Promise<void> {
  const model = vae;
  if (!model) return;
  const seed = Math.floor(Math.random() * 1e6);
  const spread = need<HTMLInputElement>("spread").valueAsNumber;
  await run("Sampling", (signal) => samples.draw(model, seed, spread, signal));
}

async function open(files: File[]): Promise<void> {
  const found = sorted(files);
  const model = vae;
  if (!found) {
    const message = `${files[0]?.name ?? "nothing"} is neither a picture nor weights (.safetensors) nor latents (.npy, .safetensors)`;
    showError({ code: "invalid-option", message });
  } else if (found.kind === "weights") {
    await load({ shards: found.files }, found.files.map(({ name }) => name).join(", "));
  } else if (!model) {
    showError({ code: "invalid-option", message: "there is no model yet: open its weights first" });
  } else if (found.kind === "picture") {
    if (!model.info.encodes) showError({ code: "unsupported-model", message: "this model has no encoder, so it cannot take pictures in" });
    else {
      clearError();
      await run("Encoding and decoding", (signal) => roundTrip(model, found.file, signal));
    }
  } else {
    clearError();
    await run("Decoding", (signal) => showLatents(model, found.file, signal));
  }
}

async function showLatents(model: ImageDecoder, file: File, signal: AbortSignal): Promise<void> {
  const [latents, ...others] = await readLatents(file);
  if (!latents) return;
  const canvas = need<HTMLCanvasElement>("opened-picture");
  need("opened").hidden = false;
  const picture = await model.decode(latents, {
    signal,
    onPreview: ({ image }) => draw(canvas, image),
    onTile: (done, total) => progress(`Tile ${done} of ${total}`, done / total),
  });
  draw(canvas, picture.image);
  const more = others.length > 0 ? `; the first of ${others.length + 1}` : "";
  need("opened-text").textContent = `${file.name}: ${picture.width} × ${picture.height} pixels${more} · ${figures(picture.stats)}`;
  canvas.scrollIntoView({ block: "nearest" });
}

function figures({ ms, dispatches, tiles, gpuBytes }: DecodeStats): string {
  const parts = [`${(ms / 1000).toFixed(2)} s`, tiles === 1 ? "in one piece" : `in ${tiles} tiles`];
  if (dispatches > 0) parts.push(`${dispatches} dispatches`, `${bytes(gpuBytes)} of GPU memory`);
  return parts.join(" · ");
}
