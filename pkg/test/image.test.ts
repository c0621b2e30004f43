import assert from "node:assert/strict";
import { test } from "node:test";
import { readLatents, writeLatents } from "../src/latent-file.js";
import { openImageDecoder } from "../src/load.js";
import type { DecodeRequest } from "../src/protocol.js";
import { FakeWorker, IMAGE_INFO, type Script } from "./fake-engine.js";
import { load, rejects, settle } from "./harness.js";

const LATENTS = { channels: 1, height: 1, width: 2, data: Float32Array.of(0.25, -0.5) };
const STATS = { ms: 1, dispatches: 2, tiles: 3, gpuBytes: 4, precision: "f32" as const };
const picture = () => ({ width: 2, height: 1, data: Uint8Array.of(1, 2, 3, 255, 5, 6, 7, 255) });

async function open(script: Script = {}) {
  const worker = new FakeWorker(script);
  const vae = await openImageDecoder("https://e.test/vae.safetensors", {}, () => worker);
  return { vae, worker };
}

test("latents go in, a picture and its figures come out", async () => {
  const seen: unknown[] = [];
  const { vae, worker } = await open({
    image: {
      decode: async (data, request, onEvent) => {
        seen.push([...data], request);
        onEvent({ done: 1, total: 3 });
        return { ...picture(), stats: STATS };
      },
    },
  });
  const tiles: number[][] = [];
  const got = await vae.decode(LATENTS, { memoryBytes: 1000, scaled: true, onTile: (...tile) => tiles.push(tile) });
  assert.deepEqual(seen, [[0.25, -0.5], { channels: 1, height: 1, width: 2, scaled: true, preview: false, memoryBytes: 1000 }]);
  assert.deepEqual([got.width, got.height, [...got.data], got.stats], [2, 1, [1, 2, 3, 255, 5, 6, 7, 255], STATS]);
  assert.deepEqual(tiles, [[1, 3]]);
  const sent = worker.received.find((message) => message.verb === "decode");
  assert.equal((sent as { args: DecodeRequest }).args.latents.data.length, 2);
});

test("several latents come back in order", async () => {
  const { vae } = await open({
    image: {
      decode: async (data) => ({ ...picture(), data: Uint8Array.of(data[0] ?? 0), stats: STATS }),
    },
  });
  const of = (value: number) => ({ ...LATENTS, data: Float32Array.of(value, 0) });
  const pictures = await vae.decode([of(1), of(2), of(3)]);
  assert.deepEqual(pictures.map(({ data }) => data[0]), [1, 2, 3]);
});

test("an engine error keeps its code, and the decoder goes on", async () => {
  let times = 0;
  const { vae } = await open({
    image: {
      decode: async () => {
        if (times++ === 0) throw { code: "invalid-option", message: "NaN at 3" };
        return { ...picture(), stats: STATS };
      },
    },
  });
  await rejects(vae.decode(LATENTS), "invalid-option");
  assert.equal((await vae.decode(LATENTS)).width, 2);
});

test("a signal cancels the decode that runs and the one that waits", async () => {
  const { vae } = await open({
    image: {
      decode: (_data, _request, _onEvent, signal) =>
        new Promise((_, reject) => signal.addEventListener("abort", () => reject({ code: "aborted", message: "" }))),
    },
  });
  const [first, second] = [new AbortController(), new AbortController()];
  const running = vae.decode(LATENTS, { signal: first.signal });
  const waiting = vae.decode(LATENTS, { signal: second.signal });
  await settle();
  second.abort();
  await rejects(waiting, "aborted");
  first.abort();
  assert.equal((await rejects(running, "aborted")).name, "AbortError");
});

test("disposing frees the model and ends the worker", async () => {
  const { vae, worker } = await open();
  await vae.dispose();
  assert.deepEqual([worker.freedImages, worker.terminated], [1, true]);
  await rejects(vae.decode(LATENTS), "disposed");
});

test("a decoder can share a language model's worker, which outlives it", async () => {
  const { model, worker } = await load();
  const vae = await openImageDecoder("https://e.test/v", { shareWith: model }, () => assert.fail("a second worker"));
  assert.deepEqual([...(await vae.sample(7, { spread: 0.5 })).data], [7, 0.5]);
  await vae.dispose();
  assert.deepEqual([worker.freedImages, worker.terminated, worker.freed], [1, false, false]);
  assert.equal((await model.generate("x").result).text, "<x>");
});

test("a failed load ends the worker, a refused option does not even start one", async () => {
  const worker = new FakeWorker({ image: { load: () => Promise.reject({ code: "unsupported-model", message: "x" }) } });
  await rejects(openImageDecoder("https://e.test/v", {}, () => worker), "unsupported-model");
  await settle();
  assert.equal(worker.terminated, true);
  const bad = openImageDecoder("https://e.test/v", { device: 1 as never }, () => assert.fail("a worker"));
  await rejects(bad, "invalid-option");
});

function npy(header: string, data: Uint8Array, version = 1): Blob {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(10 + text.length + data.length);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY"), version, 0, text.length & 255, text.length >> 8]);
  bytes.set(text, 10);
  bytes.set(data, 10 + text.length);
  return new Blob([bytes]);
}

const bytes = (values: Float32Array | Float64Array | Uint16Array) => new Uint8Array(values.buffer as ArrayBuffer);

test(".npy files of every width are read, batches as well", async () => {
  const [one] = await readLatents(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2), }\n", bytes(Float32Array.of(1.5, -2))));
  assert.deepEqual(one, { channels: 1, height: 1, width: 2, data: Float32Array.of(1.5, -2) });
  // 0x3c00 is 1, 0xc100 is -2.5, 0x0001 the least above 0, 0x7c00 infinite.
  const halves = Uint16Array.of(0x3c00, 0xc100, 0x0001, 0x7c00);
  const batch = await readLatents(npy("{'descr': '<f2', 'fortran_order': False, 'shape': (2, 1, 1, 2), }\n", bytes(halves)));
  assert.deepEqual(batch.map(({ data }) => [...data]), [[1, -2.5], [2 ** -24, Infinity]]);
  const doubles = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1), }\n", bytes(Float64Array.of(0.5)));
  assert.equal((await readLatents(doubles))[0]?.data[0], 0.5);
});

function safetensors(header: string, data: Uint8Array): Blob {
  const text = new TextEncoder().encode(header);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  return new Blob([length, text, data as Uint8Array<ArrayBuffer>]);
}

test("safetensors files are read", async () => {
  const header = '{"__metadata__":{"a":"b"},"z":{"dtype":"F32","shape":[1,2,1],"data_offsets":[0,8]}}';
  const [one] = await readLatents(safetensors(header, bytes(Float32Array.of(3, 4))));
  assert.deepEqual(one, { channels: 1, height: 2, width: 1, data: Float32Array.of(3, 4) });
});

test("latents are written as NumPy writes them, and read again", async () => {
  // numpy 2.4.6: np.save of np.array([1.5, -2, 0.25, 3], dtype="<f4").reshape(1, 2, 1, 2).
  const saved =
    "934e554d5059010076007b276465736372273a20273c6634272c2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028312c20322c20312c2032292c207d" +
    `${"20".repeat(52)}0a0000c03f000000c00000803e00004040`;
  const latents = { channels: 2, height: 1, width: 2, data: Float32Array.of(1.5, -2, 0.25, 3) };
  const file = writeLatents(latents);
  assert.equal(Buffer.from(await file.arrayBuffer()).toString("hex"), saved);
  assert.deepEqual(await readLatents(file), [latents]);
  const large = { channels: 16, height: 128, width: 96, data: Float32Array.from({ length: 196_608 }, (_, i) => i / 7) };
  assert.deepEqual(await readLatents(writeLatents(large)), [large]);
  assert.throws(() => writeLatents({ ...latents, width: 3 }), { code: "shape-mismatch" });
});

test("a safetensors file of several tensors is no latents; ComfyUI's empty mark is none", async () => {
  const tensor = (from: number, shape = "[1,1,1]") => `{"dtype":"F32","shape":${shape},"data_offsets":[${from},${from + 4}]}`;
  const two = bytes(Float32Array.of(1, 2));
  const error = await rejects(readLatents(safetensors(`{"b":${tensor(4)},"a":${tensor(0)}}`, two)), "malformed");
  assert.match(error.message, /2 tensors \(b, a\)/);
  const mark = '{"latent_format_version_0":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"latent_tensor":' + `${tensor(0)}}`;
  assert.deepEqual((await readLatents(safetensors(mark, two)))[0]?.data, Float32Array.of(1));
  await rejects(readLatents(safetensors(`{"a":${tensor(0, "[1,1,2]")}}`, two)), "malformed");
});

test("what is no latents is refused by code", async () => {
  const head = (descr: string, shape: string, order = "False") => `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`;
  const four = bytes(Float32Array.of(1));
  await rejects(readLatents(new Blob(["hello, this is no file of latents"])), "malformed");
  await rejects(readLatents(new Blob([])), "truncated");
  await rejects(readLatents(npy(head("<i4", "(1, 1, 1)"), four)), "unsupported-type");
  await rejects(readLatents(npy(head(">f4", "(1, 1, 1)"), four)), "unsupported-type");
  await rejects(readLatents(npy(head("<f4", "(1, 1, 1)", "True"), four)), "malformed");
  await rejects(readLatents(npy(head("<f4", "(1, 1, 2)"), four)), "truncated");
  await rejects(readLatents(npy(head("<f4", "(2,)"), four)), "shape-mismatch");
  await rejects(readLatents(npy(head("<f4", "(0, 1, 1)"), four)), "shape-mismatch");
  await rejects(readLatents(npy(head("<f4", "(99999999, 99999999, 99999999)"), four)), "shape-mismatch");
  const outside = '{"z":{"dtype":"F32","shape":[1,1,1],"data_offsets":[0,400]}}';
  await rejects(readLatents(safetensors(outside, four)), "truncated");
  await rejects(readLatents(safetensors('{"z":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', four)), "malformed");
  await rejects(readLatents(safetensors('{"z":{"dtype":"I8","shape":[1,1,1],"data_offsets":[0,1]}}', four)), "unsupported-type");
});

test("a canvas is given away once and decoded to by its number", async () => {
  const attached: number[] = [];
  const asked: unknown[] = [];
  const { width, height } = picture();
  const { vae } = await open({
    image: {
      info: () => ({ ...IMAGE_INFO, device: { ...IMAGE_INFO.device, kind: "webgpu", isFallbackAdapter: false } }),
      attachCanvas: (number) => void attached.push(number),
      decode: async (_data, request) => {
        asked.push(request.canvas);
        return { width, height, stats: STATS };
      },
    },
  });
  const canvas = { transferControlToOffscreen: () => ({}) } as unknown as HTMLCanvasElement;
  const other = { transferControlToOffscreen: () => ({}) } as unknown as HTMLCanvasElement;
  for (const to of [canvas, canvas, other]) {
    assert.deepEqual(await vae.decodeTo(to, LATENTS), { width: 2, height: 1, stats: STATS });
  }
  assert.deepEqual([attached, asked], [[1, 2], [1, 1, 2]]);
  const used = {
    transferControlToOffscreen() {
      throw new Error("InvalidStateError");
    },
  } as unknown as HTMLCanvasElement;
  await rejects(vae.decodeTo(used, LATENTS), "invalid-option");
});

test("a picture goes in with its memory budget, and tiles are told", async () => {
  const asked: unknown[] = [];
  const { vae } = await open({
    image: {
      encode: async (rgba, request, onEvent) => {
        asked.push(rgba.length, request);
        onEvent({ done: 1, total: 2 });
        return LATENTS;
      },
    },
  });
  const tiles: number[][] = [];
  const image = { width: 8, height: 8, data: new Uint8ClampedArray(256) } as unknown as ImageData;
  const got = await vae.encode(image, { seed: 3, memoryBytes: 1000, onTile: (...tile) => tiles.push(tile) });
  assert.deepEqual([...got.data], [...LATENTS.data]);
  assert.deepEqual(asked, [256, { width: 8, height: 8, seed: 3, memoryBytes: 1000 }]);
  assert.deepEqual(tiles, [[1, 2]]);
});

/** The bytes that the engine gets of `ImageData` with these values, its sides multiples of 8. Node has no `ImageData`. */
async function encoded(width: number, height: number, data: Uint8ClampedArray | Uint8Array | Float32Array, maxSide?: number): Promise<Uint8Array> {
  let seen: Uint8Array | undefined;
  const { vae } = await open({
    image: {
      encode: async (rgba) => {
        seen = rgba;
        return LATENTS;
      },
    },
  });
  await vae.encode({ width, height, data } as unknown as ImageData, maxSide === undefined ? {} : { maxSide });
  assert.ok(seen);
  return seen;
}

test("transparent ImageData is laid over white: every colour with every alpha", async () => {
  const data = new Uint8ClampedArray(4 * 65536);
  for (let i = 0; i < 65536; i++) data.set([i & 255, 255 - (i & 255), 7, i >> 8], 4 * i);
  const got = await encoded(256, 256, data);
  // In whole numbers: c·a + 255·(255 - a), divided by 255 and rounded. A half never comes up, since 255 is odd.
  const over = (colour: number, alpha: number) => Math.floor((2 * (colour * alpha + 255 * (255 - alpha)) + 255) / 510);
  for (let i = 0; i < 65536; i++) {
    const [colour, alpha] = [i & 255, i >> 8];
    const expected = [over(colour, alpha), over(255 - colour, alpha), over(7, alpha), 255];
    assert.deepEqual([...got.subarray(4 * i, 4 * i + 4)], expected, `colour ${colour}, alpha ${alpha}`);
  }
});

test("float ImageData goes from 0 to 1, is clipped, and holds no NaN", async () => {
  const data = new Float32Array(256).fill(1);
  data.set([0.5, 0.25, 0, 0.5, 2, -1, 0.2, 1, 0.3, 0.3, 0.3, -3]);
  const got = await encoded(8, 8, data);
  // 255·(0.5·0.5 + 0.5) = 191.25, 255·(0.25·0.5 + 0.5) = 159.375, 127.5 to even.
  assert.deepEqual([...got.subarray(0, 16)], [191, 159, 128, 255, 255, 0, 51, 255, 255, 255, 255, 255, 255, 255, 255, 255]);
  data[9] = NaN;
  await rejects(encoded(8, 8, data), "invalid-option");
});

test("what is no picture, and sides that cannot be, are errors that name it", async () => {
  const gone = await rejects(encoded(8, 8, new Uint8ClampedArray(0)), "invalid-option");
  assert.match(gone.message, /ImageData.*buffer was transferred/);
  assert.match((await rejects(encoded(8, 8, new Uint8ClampedArray(8)), "invalid-option")).message, /8 values for 8 × 8 pixels/);
  assert.match((await rejects(encoded(8, 8, new Uint8Array(256)), "invalid-option")).message, /holds a Uint8Array/);
  const white = new Uint8ClampedArray(256).fill(255);
  for (const maxSide of [7, 0, -1, NaN]) {
    assert.match((await rejects(encoded(8, 8, white, maxSide), "invalid-option")).message, /maxSide = .* at least 8/);
  }
  assert.equal((await encoded(8, 8, white, Infinity)).length, 256);
  const { vae } = await open();
  for (const source of [null, undefined, 3, "picture.png", {}]) {
    await rejects(vae.encode(source as unknown as ImageData), "invalid-option");
  }
});
