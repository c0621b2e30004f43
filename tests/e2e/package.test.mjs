// The npm package in a page of its own: a language model and an image decoder share one worker, and its GPU device;
// decodes leave the page its frames, and can be cancelled. On the CPU as Chromium comes, then on the software adapter,
// for which the default model is too large.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launch, openPage, PATIENCE, SITE, watch, watched, WEBGPU } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";

let server;

before(async () => {
  server = await packageServer(SITE);
});
after(() => server?.close());

/** An answer takes as long as a few small decodes. `large` latents take a second or more, in rows and columns. */
for (const { device, flags, tiny, answers, tokens, large } of [
  { device: "cpu", flags: [], tiny: false, answers: /Paris/, tokens: 40, large: [40, 40] },
  { device: "webgpu", flags: WEBGPU, tiny: true, answers: /./, tokens: 16, large: [2, 32] },
]) {
  // A software adapter takes long: `cargo xtask test --exhaustive` asks it, too.
  const skip = device === "webgpu" && !process.env.EMBERGLASS_EXHAUSTIVE;
  describe(`on ${device}`, { skip }, () => {
    let browser, visit, page;

    before(async () => {
      browser = await launch(flags);
      visit = await openPage(browser, { site: server.site, path: "/package/" });
      ({ page } = visit);
      await page.evaluate(prepare, { device, tokens, large });
    });
    after(() => browser?.close());

    test("a decoder is loaded into a language model's worker", { timeout: PATIENCE }, async () => {
      await page.evaluate(async (tiny) => {
        const { default: offered } = await (await fetch("/models/manifest.json")).json();
        await loadModel(tiny ? "tiny.gguf" : `/${offered.url}`);
        window.alone = await answer().result;
      }, tiny);
      await engine().evaluate(keepLedger);
      const [text, picture] = await page.evaluate(async () => {
        window.vae = await loadDecoder();
        window.small = await vae.sample(1);
        window.right = await digest(vae.decode(small));
        return [model.info, await vae.refreshInfo()];
      });
      assert.deepEqual([text.device.kind, picture.device.kind], [device, device]);
      const { devices, bytes } = await ledger();
      assert.equal(devices, 0, "the language model's device serves the decoder too");
      assert.equal(picture.gpuBytes, bytes, "the decoder counts what WebGPU gave to it, and no more");
      if (device === "webgpu") {
        console.log(`GPU bytes: language model ${text.gpuBytes}, decoder ${picture.gpuBytes}`);
        assert.ok(text.gpuBytes > text.weightBytes);
        assert.ok(picture.gpuBytes > picture.weightBytes);
      }
    });

    test("decodes amid an answer change neither", { timeout: PATIENCE }, async () => {
      const { before, amid, pictures } = await page.evaluate(async () => {
        const generation = answer();
        let ended = false;
        const result = generation.result.finally(() => (ended = true));
        await generation[Symbol.asyncIterator]().next();
        const pictures = [];
        while (!ended) pictures.push((await digest(vae.decode(small))) === right);
        return { before: alone, amid: await result, pictures };
      });
      console.log(`${device}: ${pictures.length} decodes during ${amid.generatedTokens} tokens: ${JSON.stringify(amid.text)}`);
      assert.match(amid.text, answers);
      assert.deepEqual([amid.text, amid.generatedTokens], [before.text, before.generatedTokens]);
      assert.ok(pictures.length > 1, "a decode ended before the answer did");
      assert.ok(!pictures.includes(false), "all are the picture that was decoded alone");
    });

    test("the page has its frames while pictures are decoded", { timeout: PATIENCE }, async () => {
      await watch(page);
      const { decodes, ms } = await page.evaluate(async () => {
        const canvas = document.querySelector("canvas");
        const begun = performance.now();
        let decodes = 0;
        for (; performance.now() - begun < 1000; decodes++) {
          const { image } = await vae.decode(large);
          [canvas.width, canvas.height] = [image.width, image.height];
          canvas.getContext("2d").putImageData(image, 0, 0);
        }
        return { decodes, ms: performance.now() - begun };
      });
      const { frames, median, worst } = await watched(page);
      console.log(`${device}: ${decodes} decoded in ${ms.toFixed(0)} ms; ${frames} frames, gap median ${median.toFixed(1)} ms, worst ${worst.toFixed(1)} ms`);
      assert.ok(frames > 10, `${frames} frames`);
      assert.ok(worst < ms / 4, `no frame for ${worst} of ${ms} ms`);
    });

    // Painted by the worker: a real GPU would copy to it, which Chromium's software adapter does not survive.
    test("a canvas shows what a decode gives", { timeout: PATIENCE }, async () => {
      const shown = await page.evaluate(async () => {
        window.shown = document.body.appendChild(document.createElement("canvas"));
        // Twice: the second goes to a canvas that the worker has already.
        await vae.decodeTo(window.shown, small);
        const { width, height } = await vae.decodeTo(window.shown, small);
        return [width, height];
      });
      assert.deepEqual(shown, [64, 64]);
      const { apart, again } = await page.evaluate(async () => {
        const { data } = await vae.decode(small);
        const read = async () => {
          await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
          const bitmap = await createImageBitmap(window.shown);
          const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
          context.drawImage(bitmap, 0, 0);
          return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
        };
        let pixels = await read();
        for (let tries = 0; tries < 50 && pixels.join() !== data.join(); tries++) pixels = await read();
        const apart = pixels.reduce((top, value, i) => Math.max(top, Math.abs(value - data[i])), 0);
        const used = document.createElement("canvas");
        used.getContext("2d");
        return { apart: [pixels.length, apart], again: await vae.decodeTo(used, small).catch(({ code }) => code) };
      });
      assert.deepEqual(apart, [64 * 64 * 4, 0]);
      assert.equal(again, "invalid-option");
    });

    test("several decodes are cancelled on their way, and the one that waits is right", { timeout: PATIENCE }, async () => {
      const { failed, pictures, waited } = await page.evaluate(async () => {
        const cancel = new AbortController();
        let pictures = 0;
        const onTile = () => {
          pictures += 1;
          cancel.abort();
        };
        const decoding = fate(vae.decode([small, small, small], { signal: cancel.signal, onTile }));
        const waiting = digest(vae.decode(small));
        return { failed: await decoding, pictures, waited: (await waiting) === right };
      });
      assert.equal(failed, "AbortError, aborted");
      assert.equal(pictures, 1, "one was done, and the next not");
      assert.ok(waited);
    });

    test("a decode is cancelled in its midst, and the one that waits is right", { timeout: PATIENCE }, async () => {
      const { failed, events, waited } = await page.evaluate(async () => {
        const cancel = new AbortController();
        const events = [];
        const onPreview = () => {
          events.push("preview");
          cancel.abort();
        };
        const decoding = fate(vae.decode(large, { signal: cancel.signal, onPreview, onTile: () => events.push("tile") }));
        const waiting = digest(vae.decode(small));
        return { failed: await decoding, events, waited: (await waiting) === right };
      });
      assert.equal(failed, "AbortError, aborted");
      assert.deepEqual(events, ["preview"], "it had begun, and did not come to its end");
      assert.ok(waited);
    });

    test("the decoder gives its memory back, and the answer is the same", { timeout: PATIENCE }, async () => {
      assert.equal((await ledger()).bytes > 0, device === "webgpu");
      const { late, same } = await page.evaluate(async () => {
        await vae.dispose();
        const late = await fate(vae.decode(small));
        return { late, same: (await answer().result).text === alone.text };
      });
      assert.equal(late, "EmberglassError, disposed");
      assert.ok(same);
      assert.equal((await ledger()).bytes, 0);
    });

    test("the worker ends with the language model, whatever else is in it", { timeout: PATIENCE }, async () => {
      await page.evaluate(async () => {
        window.vae = await loadDecoder();
        await vae.decode(small);
      });
      const end = engine().waitForEvent("close", { timeout: 30_000 });
      const late = await page.evaluate(async () => {
        await model.dispose();
        const late = await Promise.all([vae.decode(small), model.tokenize("a")].map(fate));
        await vae.dispose();
        return late;
      });
      assert.deepEqual(late, ["EmberglassError, disposed", "EmberglassError, disposed"]);
      await end;
      assert.deepEqual(visit.complaints, []);
    });

    /** The one worker, helper threads aside. */
    function engine() {
      // Helper threads run the same script. The engine's worker was started first.
      const [engine] = page.workers().filter((worker) => worker.url().endsWith("/emberglass-worker.js"));
      assert.ok(engine);
      return engine;
    }

    const ledger = () => engine().evaluate(() => self.ledger);
  });
}

/** What the tests use inside the page. */
function prepare({ device, tokens, large: [height, width] }) {
  window.loadModel = async (source) => {
    window.model = await emberglass.loadTextModel(source, { device, contextLength: 256 });
  };
  window.loadDecoder = () => emberglass.loadImageDecoder("/emoji/emoji-vae.safetensors", { device, shareWith: model });
  window.answer = () => model.generate("The capital of France is", { temperature: 0, maxTokens: tokens });
  window.digest = async (decode) => {
    const { width, height, data } = await decode;
    return `${width} × ${height}: ${new Uint8Array(await crypto.subtle.digest("SHA-256", data))}`;
  };
  window.fate = (call) => call.then(() => "it was answered", ({ name, code }) => `${name}, ${code}`);
  const values = Float32Array.from({ length: 16 * height * width }, (_, i) => Math.sin(i));
  window.large = { channels: 16, height, width, data: values };
}

/** From here on the worker counts its GPU devices, and the bytes of its buffers until they are destroyed. */
function keepLedger() {
  self.ledger = { devices: 0, bytes: 0 };
  if (typeof GPUDevice === "undefined") return;
  const living = new Set();
  wrap(GPUAdapter, "requestDevice", () => (self.ledger.devices += 1));
  wrap(GPUDevice, "createBuffer", (buffer) => {
    living.add(buffer);
    self.ledger.bytes += buffer.size;
  });
  wrap(GPUBuffer, "destroy", (_, buffer) => {
    if (living.delete(buffer)) self.ledger.bytes -= buffer.size;
  });
  function wrap({ prototype }, name, note) {
    const method = prototype[name];
    prototype[name] = function (...args) {
      const result = method.apply(this, args);
      note(result, this);
      return result;
    };
  }
}
