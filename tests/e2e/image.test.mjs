// The image page, driven as a visitor would: sampled, interpolated, explored, pictures and latents dropped.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { canvasBytes, launch, openPage, PATIENCE, SITE, WEBGPU } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";

let browser, page;

const bytesOf = (testId) => canvasBytes(page.page, testId);

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

/** Downloads what a button gives: its name and its bytes. */
async function downloaded(testId) {
  const [download] = await Promise.all([page.page.waitForEvent("download"), page.get(testId).click()]);
  return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
}

/** The pixels of a PNG file, as the browser reads it. */
const pixelsOf = (png) =>
  page.page.evaluate(async (base64) => {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))]));
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return [...context.getImageData(0, 0, bitmap.width, bitmap.height).data];
  }, png.toString("base64"));

/** A picture file of one colour. */
const pictureFile = (name, side, colour) =>
  page.page.evaluate(
    async ([name, side, colour]) => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = side;
      const context = canvas.getContext("2d");
      context.fillStyle = colour;
      context.fillRect(0, 0, side, side);
      return { name, type: "image/png", base64: canvas.toDataURL("image/png").split(",")[1] };
    },
    [name, side, colour],
  );

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

test("pictures of every form reach the encoder as they look on white", { timeout: PATIENCE }, async () => {
  // The package does not export this part.
  const { build } = createRequire(new URL("../../pkg/package.json", import.meta.url))("esbuild");
  const entry = fileURLToPath(new URL("../../pkg/src/picture.ts", import.meta.url));
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, format: "esm", write: false });
  const answer = (request, response) => {
    if (request.url !== "/picture.js") return false;
    response.writeHead(200, { "content-type": "text/javascript" }).end(outputFiles[0].contents);
    return true;
  };
  const server = await packageServer(SITE, { answer });
  const visit = await openPage(browser, { site: server.site, path: "/package/" });
  try {
    const { worst, errors } = await visit.page.evaluate(readEveryForm);
    for (const [name, off] of Object.entries(worst)) {
      // Colours of another space are rounded once on their way to sRGB, and once on white; a filter rounds as well.
      assert.ok(off <= (/p3|scaled/.test(name) ? 1.01 : 0.5), `${name} is off by ${off}`);
    }
    assert.deepEqual(Object.keys(worst).length, 19);
    for (const [name, { code, message }] of Object.entries(errors)) {
      assert.equal(code, "invalid-option", `${name}: ${message}`);
      assert.match(message, new RegExp(name.replace(/^.* /, "")), name);
    }
  } finally {
    await visit.close();
    await server.close();
  }
});

/** Inside the page: how far each form of a picture is from the true values, and the errors of what is none. */
async function readEveryForm() {
  const { readPicture } = await import("/picture.js");
  const SIDE = 32;
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const encoded = (v) => (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055);
  // Linear display-p3 to linear sRGB: CSS Color 4, its matrices multiplied.
  const P3 = [
    [1.2249401762805598, -0.2249401762805597, 0],
    [-0.0420569547096881, 1.042056954709688, 0],
    [-0.0196375545903344, -0.0786360455506319, 1.0982736001409664],
  ];
  const fromP3 = (rgb) => P3.map((row) => Math.min(1, Math.max(0, encoded(Math.max(0, row.reduce((sum, m, i) => sum + m * linear(rgb[i]), 0))))));
  let state = 7;
  const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;

  /** A picture of random colours and alphas, and its true values on white. */
  function made({ width = SIDE, height = SIDE, colorSpace = "srgb", float = false, alpha = random, uniform = false } = {}) {
    const data = new (float ? Float16Array : Uint8ClampedArray)(4 * width * height);
    const one = [random(), random(), random(), alpha()];
    const unit = float ? 1 : 255;
    for (let i = 0; i < data.length; i += 4) data.set((uniform ? one : [random(), random(), random(), alpha()]).map((v) => (float ? v : Math.round(255 * v))), i);
    const image = new ImageData(data, width, height, { colorSpace, ...(float ? { pixelFormat: "rgba-float16" } : {}) });
    const white = (x, y) => {
      const at = 4 * (y * width + x);
      const rgb = [...data.subarray(at, at + 3)].map((v) => v / unit);
      const share = data[at + 3] / unit;
      return (colorSpace === "srgb" ? rgb : fromP3(rgb)).map((v) => 255 * (v * share + 1 - share));
    };
    return { image, white };
  }
  const canvasOf = (image) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  };
  const offscreenOf = (image) => {
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  };
  const worst = {};
  async function check(name, source, white, { width = SIDE, height = SIDE, most = 512 } = {}) {
    const got = await readPicture(source, 8, most);
    if (got.width !== width || got.height !== height) throw new Error(`${name}: ${got.width} × ${got.height}`);
    let off = 0;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        white(x, y).forEach((value, c) => (off = Math.max(off, Math.abs(got.data[4 * (y * width + x) + c] - value))));
        if (got.data[4 * (y * width + x) + 3] !== 255) off = Infinity;
      }
    }
    worst[name] = Number.isNaN(off) ? Infinity : off;
  }

  const half = made();
  await check("ImageData", half.image, half.white);
  await check("canvas", canvasOf(half.image), half.white);
  await check("OffscreenCanvas", offscreenOf(half.image), half.white);
  await check("ImageBitmap", await createImageBitmap(half.image), half.white);
  await check("ImageBitmap, not multiplied", await createImageBitmap(half.image, { premultiplyAlpha: "none" }), half.white);
  const png = await offscreenOf(half.image).convertToBlob({ type: "image/png" });
  await check("Blob", png, half.white);
  const img = new Image();
  img.src = URL.createObjectURL(png);
  await img.decode();
  await check("img", img, half.white);
  const frame = new VideoFrame(half.image.data, { format: "RGBA", codedWidth: SIDE, codedHeight: SIDE, timestamp: 0 });
  await check("VideoFrame", frame, half.white);
  const wide = made({ height: SIDE / 2 });
  const turned = new VideoFrame(wide.image.data, { format: "RGBA", codedWidth: SIDE, codedHeight: SIDE / 2, timestamp: 0, rotation: 90 });
  await check("VideoFrame, turned", turned, (x, y) => wide.white(y, SIDE / 2 - 1 - x), { width: SIDE / 2 });
  const clear = made({ alpha: () => 0 });
  await check("ImageData, all transparent", clear.image, () => [255, 255, 255]);
  // Sides that do not fit are cut, not scaled: the odd pixel at the end.
  const odd = made({ width: SIDE + 1, height: SIDE + 3 });
  await check("ImageData, cut", odd.image, (x, y) => odd.white(x, y + 1));
  await check("canvas, cut", canvasOf(odd.image), (x, y) => odd.white(x, y + 1));
  const plain = made({ width: 100, height: 50, uniform: true, alpha: () => 0.3 });
  await check("ImageData, scaled", plain.image, plain.white, { width: 64, height: 32, most: 64 });
  await check("canvas, scaled", canvasOf(plain.image), plain.white, { width: 64, height: 32, most: 64 });
  for (const [name, options] of Object.entries({
    "ImageData, p3": { colorSpace: "display-p3" },
    "ImageData, p3, opaque": { colorSpace: "display-p3", alpha: () => 1 },
    "ImageData, float p3": { colorSpace: "display-p3", float: true },
    "ImageData, float": { float: true },
  })) {
    const { image, white } = made(options);
    await check(name, image, white);
  }
  const svg = new Image();
  svg.src = `data:image/svg+xml,${encodeURIComponent('<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32"><rect width="32" height="32" fill="#cc8800" fill-opacity="0.6"/></svg>')}`;
  await svg.decode();
  await check("img of an SVG", svg, () => [204, 136, 0].map((v) => v * 0.6 + 255 * 0.4));

  const errors = {};
  async function refused(name, source) {
    errors[name] = await readPicture(source, 8, 512).then(() => ({ code: "none", message: "" }), ({ code, message }) => ({ code, message }));
  }
  const closed = await createImageBitmap(half.image);
  closed.close();
  await refused("closed ImageBitmap", closed);
  const detached = new ImageData(8, 8);
  structuredClone(detached.data.buffer, { transfer: [detached.data.buffer] });
  await refused("detached ImageData", detached);
  await refused("empty OffscreenCanvas", new OffscreenCanvas(0, 8));
  await refused("empty HTMLImageElement", new Image());
  await refused("empty HTMLVideoElement", document.createElement("video"));
  await refused("text SVG", new Blob(['<svg xmlns="http://www.w3.org/2000/svg"/>'], { type: "image/svg+xml" }));
  await refused("text Blob", new Blob(["no picture"]));
  await refused("nothing null", null);
  const ended = frame.clone();
  ended.close();
  await refused("closed VideoFrame", ended);
  frame.close();
  turned.close();
  return { worst, errors };
}

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

test("the page fits every width, and its buttons are large enough", { timeout: PATIENCE }, async () => {
  for (const width of [320, 390, 768, 1600, 1100]) {
    await page.page.setViewportSize({ width, height: 800 });
    const { over, wide, cut, small } = await page.page.evaluate(() => {
      const seen = [...document.querySelectorAll("button, input, a")].filter((element) => element.checkVisibility() && !element.matches(".skip, .visually-hidden"));
      const boxes = seen.map((element) => [element.id || element.textContent, element.getBoundingClientRect()]);
      return {
        over: document.documentElement.scrollWidth - innerWidth,
        wide: [...document.querySelectorAll(".panel")].filter((panel) => panel.scrollWidth > panel.clientWidth).map((panel) => panel.id),
        cut: [...document.querySelectorAll("header > *")].filter((element) => element.scrollWidth > element.clientWidth + 1 && !element.matches(".model-name")).map((element) => element.textContent),
        small: boxes.filter(([, { width, height }]) => width < 24 || height < 24).map(([name]) => name),
      };
    });
    assert.ok(over <= 0, `${over} pixels too wide at ${width}`);
    assert.deepEqual([wide, cut, small], [[], [], []], `at ${width}`);
  }
});

test("a sample is saved, copied and shared, and its latents decode to it again", { timeout: PATIENCE }, async () => {
  await page.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const shown = await bytesOf("from");
  const seed = /seed (\d+)/.exec(await page.get("chosen-text").innerText())[1];
  const png = await downloaded("sample-actions-save");
  assert.equal(png.name, `emberglass-seed-${seed}.png`);
  assert.deepEqual(await pixelsOf(png.bytes), shown);

  await page.get("sample-actions-copy").click();
  await page.get("sample-actions-outcome").getByText("Copied.").waitFor();
  const copied = await page.page.evaluate(async () => {
    const blob = await (await navigator.clipboard.read())[0].getType("image/png");
    return [...new Uint8Array(await blob.arrayBuffer())];
  });
  assert.deepEqual(await pixelsOf(Buffer.from(copied)), shown);

  const latents = await downloaded("sample-actions-latents");
  assert.equal(latents.name, `emberglass-seed-${seed}.npy`);
  const start = 10 + latents.bytes.readUInt16LE(8);
  const header = latents.bytes.subarray(10, start).toString();
  assert.match(header, /^\{'descr': '<f4', 'fortran_order': False, 'shape': \(1, 16, 4, 4\), \} *\n$/);
  assert.deepEqual([start % 64, latents.bytes.length - start], [0, 4 * 256]);
  await drop([{ name: latents.name, type: "", base64: latents.bytes.toString("base64") }]);
  await page.page.getByText(`${latents.name}: 64 × 64 pixels`).waitFor();
  assert.deepEqual(await bytesOf("opened"), shown);

  await page.get("copy-link").click();
  await page.get("copy-link").getByText("Copied").waitFor();
  const link = await page.page.evaluate(() => navigator.clipboard.readText());
  assert.equal(link, await page.get("link").inputValue());
  assert.equal(link, `${page.site}/image.html?seed=${seed}&variety=0.8`);
  const before = page;
  page = await openPage(browser, { path: new URL(link).pathname + new URL(link).search });
  await page.get("chosen-text").getByText(`seed ${seed}.`).waitFor();
  assert.deepEqual(await bytesOf("from"), shown);
  await page.close();
  page = before;
});

test("a browser that refuses to copy says so, and what to do", { timeout: PATIENCE }, async () => {
  await page.page.evaluate(() => {
    const refuse = () => Promise.reject(new DOMException("no", "NotAllowedError"));
    Object.assign(navigator.clipboard, { write: refuse, writeText: refuse });
  });
  await page.get("sample-actions-copy").click();
  await page.get("sample-actions-outcome").getByText("did not let the page copy the picture. Save it instead.").waitFor();
  await page.get("copy-link").click();
  await page.page.locator("#announcer").getByText("copy it by hand").waitFor();
  const selected = await page.get("link").evaluate((field) => field.value.slice(field.selectionStart, field.selectionEnd));
  assert.equal(selected, await page.get("link").inputValue());
});

test("an address that asks for nonsense is told so, and the page goes on", { timeout: PATIENCE }, async () => {
  const before = page;
  for (const query of ["seed=99999999999999999", "seed=%E2%80%AE7", "seed=1&variety=9", "device=fpga"]) {
    page = await openPage(browser, { path: `/image.html?device=cpu&${query}`.replace("device=cpu&device", "device") });
    assert.equal(await page.errorCode(), "invalid-option", query);
    await page.get("chosen-text").waitFor();
    assert.equal(await page.get("error").count(), 1, `${query}: the error stays`);
    if (query.includes("AE")) assert.match(await page.shownError(), /\[U\+202E\]7/);
    await page.close();
  }
  page = before;
});

test("a dropped picture is encoded, decoded and compared", { timeout: PATIENCE }, async () => {
  const base64 = await page.get("from").evaluate((canvas) => canvas.toDataURL("image/png").split(",")[1]);
  await drop([{ name: "face.png", type: "image/png", base64 }]);
  await page.page.getByText(/PSNR/).waitFor();
  const said = await page.get("round-trip-text").innerText();
  assert.match(said, /16 × 4 × 4 latents, 512 bytes as f16 · PSNR [\d.]+ dB/);
  assert.ok(Number(/PSNR ([\d.]+)/.exec(said)[1]) > 14, said);
  const png = await downloaded("trip-actions-save");
  assert.equal(png.name, "face-decoded.png");
  assert.deepEqual(await pixelsOf(png.bytes), await bytesOf("decoded"));
  await page.get("decoded").scrollIntoViewIfNeeded();
  await page.screenshot("image-round-trip");
});

test("dropped latents are shown; what is wrong says so, and nothing is lost", { timeout: PATIENCE }, async () => {
  await drop([{ name: "z.npy", type: "", base64: npy([16, 4, 8], (i) => Math.sin(i)) }]);
  await page.page.getByText("z.npy: 128 × 64 pixels").waitFor();
  assert.ok((await variety("opened")) > 20);
  const shown = await bytesOf("opened");
  await drop([{ name: "wrong.npy", type: "", base64: npy([4, 4, 4], () => 0) }]);
  assert.equal(await page.errorCode(), "invalid-option");
  await drop([{ name: "nan.npy", type: "", base64: npy([16, 4, 4], () => NaN) }]);
  await page.page.getByText(/NaN at 0/).waitFor();
  const text = btoa("hello");
  for (const [files, said] of [
    [[{ name: "notes.txt", type: "text/plain", base64: text }], /neither a picture nor weights/],
    [[{ name: "\u202egpj.exe", type: "", base64: text }], /\[U\+202E\]gpj\.exe is neither/],
    [[{ name: "chat.gguf", type: "", base64: text }], /The chat page opens those/],
    [[{ name: "vae.pth", type: "", base64: text }], /reads weights as \.safetensors/],
    [[{ name: "config.json", type: "application/json", base64: text }], /together with the model’s \.safetensors/],
    [[{ name: "a.png", type: "image/png", base64: text }, { name: "b.png", type: "image/png", base64: text }], /Open one at a time/],
    [[{ name: "a.png", type: "image/png", base64: text }], /a\.png is no picture that this browser reads/],
  ]) {
    await drop(files);
    await page.get("error").getByText(said).waitFor();
  }
  assert.equal(await page.page.locator('[data-testid="error"] bdi').count(), 1, "names stand apart");
  await drop([{ name: "broken.safetensors", type: "", base64: Buffer.alloc(1000, 7).toString("base64") }]);
  await page.page.locator('[data-testid="error"][data-code="malformed"]').waitFor();
  await page.page.getByText("The model could not be loaded").waitFor();
  // The model is still there, and all that it made.
  assert.deepEqual(await bytesOf("opened"), shown);
  assert.ok(await page.get("decoded").isVisible());
  assert.equal(await page.get("sample-picture").count(), 12);
  await page.get("sample").click();
  await page.get("sample-picture").nth(11).waitFor();
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
  for (const old of ["decoded", "opened"]) assert.ok(!(await page.get(old).isVisible()), `${old} is the former model's`);
  await page.get("sample-picture").nth(11).waitFor();
  assert.ok(!(await page.get("link").isVisible()), "a link means nothing to a model from this device");
  await drop([{ name: "after.npy", type: "", base64: npy([16, 4, 4], (i) => Math.cos(i)) }]);
  await page.page.getByText("after.npy: 64 × 64 pixels").waitFor();
  assert.ok((await variety("opened")) > 20);
});

test("a model without a prior takes the place of all results, offers what it can, and decodes as its reference does", { timeout: PATIENCE }, async () => {
  await drop([await pictureFile("red.png", 64, "red")]);
  await page.page.getByText(/PSNR/).waitFor();
  const folder = "tests/data/image/torch/tiny_4";
  const weights = await Promise.all(["diffusion_pytorch_model.safetensors", "config.json"].map((name) => fileOf(`${folder}/${name}`)));
  // Latents that take a while: their picture is the old model's and comes too late.
  await drop([{ name: "slow.npy", type: "", base64: npy([16, 32, 32], (i) => Math.sin(i)) }]);
  await drop(weights);
  await page.page.getByText(/^diffusion_pytorch_model\.safetensors, config\.json · TAESD · 4 channels, 8× smaller sides · .* · CPU$/).waitFor();
  await page.get("no-samples").getByText("no prior of its own").waitFor();
  for (const old of ["sample", "sample-picture", "slider", "explored", "decoded", "opened", "progress"]) {
    assert.ok(!(await page.get(old).first().isVisible()), `${old} is the former model's`);
  }
  await drop([await pictureFile("<b>blue\u202e.png", 24, "blue")]);
  await page.page.getByText(/4 × 3 × 3 latents/).waitFor();
  await page.page.locator("#original-text bdi").getByText("<b>blue[U+202E].png").waitFor();
  const latent = await tensor(`${folder}/golden.safetensors`, "latent");
  await drop([{ name: "golden.npy", type: "", base64: npy(latent.shape, (i) => latent.values[i]) }]);
  await page.page.getByText("golden.npy: 40 × 24 pixels").waitFor();
  assert.equal(await page.page.getByText("slow.npy").count(), 0);
  const { shape, values } = await tensor(`${folder}/golden.safetensors`, "picture");
  assert.deepEqual(shape, [3, 24, 40]);
  const shown = await bytesOf("opened");
  // Channels outermost, -1 to 1.
  const wrong = [...values].filter((value, i) => {
    const [channel, pixel] = [Math.floor(i / 960), i % 960];
    return Math.abs(shown[4 * pixel + channel] - 255 * Math.min(1, Math.max(0, (value + 1) / 2))) > 1;
  });
  assert.deepEqual(wrong, []);
  await page.screenshot("image-no-prior");
  // Weights alone, without a config, are weights however small.
  await drop(weights.slice(0, 1));
  await page.page.getByText(/^diffusion_pytorch_model\.safetensors · TAESD/).waitFor();
  assert.ok(!(await page.get("opened").isVisible()));
});

test("nothing left this device, and nothing was complained of", async () => {
  page.assertNoStrangers();
  assert.deepEqual(page.complaints, []);
  await page.close();
});

// In Firefox tour.test.mjs opens this page every time.
const skip = process.env.EMBERGLASS_EXHAUSTIVE ? false : "only with --exhaustive";
test("the GPU computes the same page", { timeout: PATIENCE, skip }, async () => {
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
