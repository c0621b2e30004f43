// The image page, driven as a visitor would: sampled, interpolated, explored, pictures and latents dropped.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, WEBGPU } from "./harness.mjs";

let browser, page;

/** Number of different bytes in a canvas: a blank one has a handful. */
const variety = (testId) =>
  page.page.getByTestId(testId).evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(data).size;
  });

const bytesOf = (testId) =>
  page.page.getByTestId(testId).evaluate((canvas) => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]);

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

test("nothing left this device, and nothing was complained of", async () => {
  page.assertNoStrangers();
  assert.deepEqual(page.complaints, []);
  await page.close();
});

test("the GPU computes the same page", { timeout: PATIENCE }, async () => {
  const gpu = await launch(WEBGPU);
  try {
    page = await openPage(gpu, { path: "/image.html?device=webgpu" });
    await page.get("sample-picture").nth(1).waitFor();
    assert.match(await page.get("image-model").innerText(), /GPU/);
    assert.ok((await variety("from")) > 20);
    assert.deepEqual(page.complaints, []);
  } finally {
    await gpu.close();
  }
});
