// Decodes the same latents with the same weights by each engine, checks the pictures, then times them.
import { loadImageDecoder, measureGpu } from "/pkg/dist/index.js";

const CHANNELS = 32;
const WEIGHTS = "/taef2/taef2_decoder.safetensors";
const query = new URLSearchParams(location.search);
const RUNS = Number(query.get("runs") ?? 3);
const side = Number(query.get("side") ?? 32);
const threads = Number(query.get("threads") ?? 1);
const wanted = (query.get("engines") ?? "cpu,ort-wasm,webgpu,ort-webgpu").split(",");

/** Smooth, so that the picture is one; the same everywhere. */
const data = Float32Array.from({ length: CHANNELS * side * side }, (_, i) => {
  const [c, y, x] = [Math.floor(i / side / side), Math.floor(i / side) % side, i % side];
  return 0.8 * (Math.sin(y * 0.31 + c) + Math.cos(x * 0.23 + c * 1.7));
});

async function ours(device, precision = "f32") {
  const vae = await loadImageDecoder(WEIGHTS, { device, precision, threads });
  return {
    name: `Emberglass ${device} ${precision}, threads: ${vae.info.device.threads}`,
    async run() {
      const { data: rgba, stats } = await vae.decode({ channels: CHANNELS, height: side, width: side, data }, { memoryBytes: 4e9 });
      return { rgba, dispatches: stats.dispatches, bytes: stats.gpuBytes };
    },
    end: () => vae.dispose(),
  };
}

async function ort(provider) {
  const ort = await import(provider === "wasm" ? "/ort/ort.wasm.min.mjs" : "/ort/ort.webgpu.min.mjs");
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = "/ort/";
  const session = await ort.InferenceSession.create(`/onnx/taef2_decoder_${side}.onnx`, { executionProviders: [provider] });
  const feed = { latents: new ort.Tensor("float32", data, [1, CHANNELS, side, side]) };
  return {
    name: `ONNX Runtime Web ${provider}, threads: ${provider === "wasm" ? threads : 1}`,
    async run() {
      const { picture } = await session.run(feed);
      const values = await picture.getData();
      const pixels = values.length / 3;
      const rgba = new Uint8ClampedArray(pixels * 4);
      for (let p = 0; p < pixels; p++) {
        for (let c = 0; c < 3; c++) rgba[4 * p + c] = Math.round(255 * values[c * pixels + p]);
        rgba[4 * p + 3] = 255;
      }
      return { rgba };
    },
    end: () => session.release(),
  };
}

/** Multiply-adds of a decode as the definition of a convolution has them, from the shapes in the file. */
async function multiplications() {
  const file = await (await fetch(WEIGHTS)).arrayBuffer();
  const length = Number(new DataView(file).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
  const names = Object.keys(header).filter((name) => header[name].shape?.length === 4);
  const layer = (name) => Number(/\d+/.exec(name)[0]);
  let [positions, total] = [side * side, 0];
  for (const name of names.sort((a, b) => layer(a) - layer(b))) {
    // A stage's convolution is the one of a layer without a bias: its input is twice as high and wide.
    const stage = /^\D*\d+\.weight$/.test(name) && !(name.replace("weight", "bias") in header);
    if (stage) positions *= 4;
    total += positions * header[name].shape.reduce((a, b) => a * b);
  }
  return total;
}

const engines = { "webgpu-f16": () => ours("webgpu", "f16"), cpu: () => ours("cpu"), webgpu: () => ours("webgpu"), "ort-wasm": () => ort("wasm"), "ort-webgpu": () => ort("webgpu") };

const rows = [];
const macs = await multiplications();
const rates = wanted.some((key) => key.includes("webgpu")) ? await measureGpu() : undefined;
if (rates) {
  const [copy, fma] = [rates.copyBytesPerSecond / 1e9, (2 * rates.fmaPerSecond) / 1e9];
  rows.push({ engine: `${rates.adapter}: copy ${copy.toFixed(1)} GB/s, FMA ${fma.toFixed(1)} GFLOP/s` });
}
let first;
for (const key of wanted) {
  document.title = key;
  try {
    const engine = await engines[key]();
    // Also the warm-up: the first run compiles. It counts where no other is asked for.
    const started = performance.now();
    const { rgba, ...counts } = await engine.run();
    const warmUp = performance.now() - started;
    first ??= rgba;
    const apart = rgba.reduce((top, v, i) => Math.max(top, Math.abs(v - first[i])), 0);
    const times = RUNS === 0 ? [warmUp] : [];
    for (let i = 0; i < RUNS && apart <= 2; i++) {
      const begun = performance.now();
      await engine.run();
      times.push(performance.now() - begun);
    }
    times.sort((a, b) => a - b);
    const ms = times[times.length >> 1];
    const gflops = (2 * macs) / ms / 1e6;
    const share = rates && key.includes("webgpu") ? { "% of FMA": Math.round((gflops * 1e11) / (2 * rates.fmaPerSecond)) } : {};
    rows.push({ engine: engine.name, side: side * 8, apart, ms: Math.round(ms), "GFLOP/s": Math.round(gflops), ...share, ...counts });
    await engine.end();
  } catch (error) {
    rows.push({ engine: key, error: String(error?.message ?? error) });
  }
  document.getElementById("out").textContent = JSON.stringify(rows, null, 1);
}
window.result = rows;
