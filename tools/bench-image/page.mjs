// Decodes the same latents with the same weights by each engine, checks the pictures, then times them.
import { loadImageDecoder } from "/pkg/dist/index.js";

const CHANNELS = 32;
const RUNS = 3;
const query = new URLSearchParams(location.search);
const side = Number(query.get("side") ?? 32);
const wanted = (query.get("engines") ?? "cpu,ort-wasm,webgpu,ort-webgpu").split(",");

/** Smooth, so that the picture is one; the same everywhere. */
const data = Float32Array.from({ length: CHANNELS * side * side }, (_, i) => {
  const [c, y, x] = [Math.floor(i / side / side), Math.floor(i / side) % side, i % side];
  return 0.8 * (Math.sin(y * 0.31 + c) + Math.cos(x * 0.23 + c * 1.7));
});

async function ours(device) {
  const vae = await loadImageDecoder("/taef2/taef2_decoder.safetensors", { device });
  return {
    name: `Emberglass ${device}`,
    async run() {
      const { data: rgba, stats } = await vae.decode({ channels: CHANNELS, height: side, width: side, data }, { memoryBytes: 4e9 });
      return { rgba, dispatches: stats.dispatches, bytes: stats.gpuBytes };
    },
    end: () => vae.dispose(),
  };
}

async function ort(provider) {
  const ort = await import(provider === "wasm" ? "/ort/ort.wasm.min.mjs" : "/ort/ort.webgpu.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/ort/";
  const session = await ort.InferenceSession.create(`/onnx/taef2_decoder_${side}.onnx`, { executionProviders: [provider] });
  const feed = { latents: new ort.Tensor("float32", data, [1, CHANNELS, side, side]) };
  return {
    name: `ONNX Runtime Web ${provider}`,
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

const engines = { cpu: () => ours("cpu"), webgpu: () => ours("webgpu"), "ort-wasm": () => ort("wasm"), "ort-webgpu": () => ort("webgpu") };

const rows = [];
let first;
for (const key of wanted) {
  document.title = key;
  try {
    const engine = await engines[key]();
    // Also the warm-up: the first run compiles.
    const { rgba, ...counts } = await engine.run();
    first ??= rgba;
    const apart = rgba.reduce((top, v, i) => Math.max(top, Math.abs(v - first[i])), 0);
    const times = [];
    for (let i = 0; i < RUNS && apart <= 2; i++) {
      const begun = performance.now();
      await engine.run();
      times.push(performance.now() - begun);
    }
    times.sort((a, b) => a - b);
    rows.push({ engine: engine.name, side: side * 8, apart, ms: times[times.length >> 1], ...counts });
    await engine.end();
  } catch (error) {
    rows.push({ engine: key, error: String(error?.message ?? error) });
  }
  document.getElementById("out").textContent = JSON.stringify(rows, null, 1);
}
window.result = rows;
