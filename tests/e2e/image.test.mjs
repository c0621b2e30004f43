// The image page, driven as a visitor would: sampled, interpolated, explored, pictures and latents dropped.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, WEBGPU } from "./harness.mjs";

let browser, page;

/** The bytes of a canvas, which may be the worker's: by way of another one. */
const bytesOf = (testId) =>
  page.page.getByTestId(testId).evaluate(async (canvas) => {
    // What the worker has drawn is there with the next frame.
    await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
    const bitmap = await createImageBitmap(canvas);
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return [...context.getImageData(0, 0, bitmap.width, bitmap.height).data];
  });

/** Number of different bytes in a canvas: a blank one has a handful. */
const variety = async (testId) => new Set(await bytesOf(testId)).size;

/** Drops files onto the page, as from a file manager. */
async function drop(files) {
  const transfer = await page.page.evaluateHandle((files) => {
    const transfer = new DataTransfer();
    for (const { name, type, base64 } of files) {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type }));
    }
    return transfer;
  }, files);
  await page.page.dispatchEvent("body", "drop", { dataTransfer: transfer });
}

function npy(shape, value) {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(", ")}), }\n`;
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => value(i));
  const head = Buffer.concat([Buffer.from([0x93]), Buffer.from("NUMPY"), Buffer.from([1, 0, header.length & 255, header.length >> 8])]);
  return Buffer.concat([head, Buffer.from(header, "latin1"), Buffer.from(data.buffer)]).toString("base64");
}

/** A file of the repository, to be dropped. */
async function fileOf(path, name = path.split("/").at(-1)) {
  return { name, type: "", base64: (await readFile(new URL(`../../${path}`, import.meta.url))).toString("base64") };
}

/** An f32 tensor of a safetensors file. */
async function tensor(path, name) {
  const bytes = await readFile(new URL(`../../${path}`, import.meta.url));
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { shape, data_offsets } = JSON.parse(bytes.subarray(8, start).toString())[name];
  const [from, to] = data_offsets.map((offset) => start + offset);
  return { shape, values: new Float32Array(Uint8Array.from(bytes.subarray(from, to)).buffer) };
}

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

test("the page opens with samples of its own model, computed on the CPU", { timeout: PATIENCE }, async () => {
  page = await openPage(browser, { path: "/image.html" });
  await page.get("sample-picture").nth(11).waitFor();
  assert.match(await page.get("image-model").innerText(), /AutoencoderKL · 16 channels, 16× smaller sides · .* · CPU/);
  assert.ok((await variety("from")) > 20);
  assert.ok((await variety("middle")) > 20);
  assert.ok((await variety("explored")) > 20);
});

test("the slider goes from A to B", { timeout: PATIENCE }, async () => {
  const set = async (value) => {
    await page.get("slider").evaluate((slider, value) => {
      slider.value = value;
      slider.dispatchEvent(new Event("input"));
    }, String(value));
    await page.page.getByText(new RegExp(`^${Math.round(value * 100)} % of the way`)).waitFor();
    return bytesOf("middle");
  };
  const [a, b] = [await bytesOf("from"), await bytesOf("to")];
  const far = (one, other) => one.reduce((sum, v, i) => sum + Math.abs(v - other[i]), 0) / one.length;
  assert.equal(far(await set(0), a), 0);
  assert.equal(far(await set(1), b), 0);
  const half = await set(0.5);
  assert.ok(far(half, a) > 1 && far(half, b) > 1);
  await page.get("sample-picture").nth(4).click();
  assert.equal(await page.page.locator(".sample[data-role]").count(), 2);
});

test("walking around A changes the picture", { timeout: PATIENCE }, async () => {
  const before = await bytesOf("explored");
  await page.get("field").click({ position: { x: 200, y: 40 }, timeout: 10_000 });
  let after = before;
  for (let tries = 0; tries < 100 && after.join() === before.join(); tries++) {
    await page.page.waitForTimeout(50);
    after = await bytesOf("explored");
  }
  assert.notDeepEqual(after, before);
  await page.screenshot("image-page");
});

test("a dropped picture is encoded, decoded and compared", { timeout: PATIENCE }, async () => {
  const base64 = await page.get("from").evaluate((canvas) => canvas.toDataURL("image/png").split(",")[1]);
  await drop([{ name: "face.png", type: "image/png", base64 }]);
  await page.page.getByText(/PSNR/).waitFor();
  const said = await page.get("round-trip-text").innerText();
  assert.match(said, /16 × 4 × 4 latents, 1 kB as f16 · PSNR [\d.]+ dB/);
  assert.ok(Number(/PSNR ([\d.]+)/.exec(said)[1]) > 14, said);
  await page.get("decoded").scrollIntoViewIfNeeded();
  await page.screenshot("image-round-trip");
});

test("dropped latents are shown; wrong ones say what is wrong, and nothing is lost", { timeout: PATIENCE }, async () => {
  await drop([{ name: "z.npy", type: "", base64: npy([16, 4, 8], (i) => Math.sin(i)) }]);
  await page.page.getByText("z.npy: 128 × 64 pixels").waitFor();
  assert.ok((await variety("opened")) > 20);
  await drop([{ name: "wrong.npy", type: "", base64: npy([4, 4, 4], () => 0) }]);
  assert.equal(await page.errorCode(), "invalid-option");
  await drop([{ name: "nan.npy", type: "", base64: npy([16, 4, 4], () => NaN) }]);
  await page.page.getByText(/NaN at 0/).waitFor();
  await drop([{ name: "notes.txt", type: "text/plain", base64: btoa("hello") }]);
  await page.page.getByText(/neither a picture nor weights/).waitFor();
  await drop([{ name: "broken.safetensors", type: "", base64: Buffer.alloc(1_000_001, 7).toString("base64") }]);
  await page.page.locator('[data-testid="error"][data-code="malformed"]').waitFor();
  // The model is still there.
  await page.get("sample").click();
  await page.get("sample-picture").nth(11).waitFor();
});

test("dropped weights take the place of the page's own, and decode as their reference does", { timeout: PATIENCE }, async () => {
  const folder = "tests/data/image/torch/tiny_4";
  const weights = ["diffusion_pytorch_model.safetensors", "config.json"].map((name) => fileOf(`${folder}/${name}`));
  await drop(await Promise.all(weights));
  await page.page.getByText(/^diffusion_pytorch_model\.safetensors, config\.json · TAESD · 4 channels, 8× smaller sides · .* · CPU$/).waitFor();
  await page.get("sample-picture").nth(11).waitFor();
  const latent = await tensor(`${folder}/golden.safetensors`, "latent");
  await drop([{ name: "golden.npy", type: "", base64: npy(latent.shape, (i) => latent.values[i]) }]);
  await page.page.getByText("golden.npy: 40 × 24 pixels").waitFor();
  const { shape, values } = await tensor(`${folder}/golden.safetensors`, "picture");
  assert.deepEqual(shape, [3, 24, 40]);
  const shown = await bytesOf("opened");
  // Channels outermost, -1 to 1.
  const wrong = [...values].filter((value, i) => {
    const [channel, pixel] = [Math.floor(i / 960), i % 960];
    return Math.abs(shown[4 * pixel + channel] - 255 * Math.min(1, Math.max(0, (value + 1) / 2))) > 1;
  });
  assert.deepEqual(wrong, []);
});

test("one large file is weights too, whatever its name and whatever is decoded meanwhile", { timeout: PATIENCE }, async () => {
  await page.get("slider").evaluate((slider) => {
    const model = document.querySelector("#model");
    const before = model.textContent;
    (function move() {
      if (model.textContent !== before) return;
      slider.value = String(Math.random());
      slider.dispatchEvent(new Event("input"));
      setTimeout(move, 4);
    })();
  });
  await drop([await fileOf("www/public/emoji/emoji-vae.safetensors", "mine.safetensors")]);
  await page.page.getByText(/^mine\.safetensors · AutoencoderKL · 16 channels, 16× smaller sides · .* · CPU$/).waitFor();
  assert.equal(await page.get("error").count(), 0);
  await page.get("sample-picture").nth(11).waitFor();
  await drop([{ name: "after.npy", type: "", base64: npy([16, 4, 4], (i) => Math.cos(i)) }]);
  await page.page.getByText("after.npy: 64 × 64 pixels").waitFor();
  assert.ok((await variety("opened")) > 20);
});

test("nothing left this device, and nothing was complained of", async () => {
  page.assertNoStrangers();
  assert.deepEqual(page.complaints, []);
  await page.close();
});

test("the GPU computes the same page", { timeout: PATIENCE }, async () => {
  const gpu = await launch(WEBGPU);
  try {
    page = await openPage(gpu, { path: "/image.html?device=webgpu" });
    // What is between A and B is decoded to a canvas, which a software adapter may not survive.
    await page.page.getByText(/^50 % of the way · /).or(page.get("error")).first().waitFor();
    assert.equal(await page.get("error").count(), 0, await page.shownError());
    assert.match(await page.get("image-model").innerText(), /GPU/);
    for (const canvas of ["from", "middle"]) assert.ok((await variety(canvas)) > 20, canvas);
    assert.deepEqual(page.complaints, []);
  } finally {
    await gpu.close();
  }
});
