// Loading that is cancelled or goes wrong: a clear message, nothing lost, and it can be tried again. The
// CPU computes: what is loaded onto does not matter here, and it is fast.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE } from "./harness.mjs";
import { unreliableServer } from "./unreliable-server.mjs";

const MEGABYTE = 1 << 20;

let browser, server, chat, folder, talk;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "emberglass-e2e-"));
  server = await unreliableServer(SITE);
  browser = await launch();
  chat = await openPage(browser, server);
});
after(async () => {
  await browser?.close();
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

test("a load is cancelled, ends at once, and works the next time", { timeout: 2 * PATIENCE }, async () => {
  server.line.bytesPerSecond = 4 * MEGABYTE;
  await chat.get("load-button").click();
  await chat.get("progress").waitFor();
  await chat.page.waitForFunction(() => {
    const bar = document.querySelector('[data-testid="progress"] [role="progressbar"]');
    return Number(bar?.getAttribute("aria-valuenow") ?? 0) >= 3;
  });
  await chat.screenshot("loading");
  await chat.get("cancel-load").click();
  await chat.get("load-button").waitFor();
  assert.equal(await chat.get("progress").count(), 0);
  assert.equal(await chat.get("error").count(), 0, "cancelling is no error");
  // The offer asks the server for a few bytes.
  await chat.get("offer-line").getByText("loading goes on from there. Runs on").waitFor();
  await eventually(() => server.line.open === 0, "the download goes on after Cancel");
  const { modelBytes } = server.line;
  await chat.page.waitForTimeout(1000);
  assert.equal(server.line.modelBytes, modelBytes, "the download goes on after Cancel");

  server.line.bytesPerSecond = Infinity;
  await chat.load();
  await chat.set({ temperature: 0, maxTokens: 64 });
  assert.match(await chat.ask("What is the capital of France?"), /Paris/);
  talk = await chat.conversation();
  assert.deepEqual(chat.complaints, []);
});

test("a file that is no model", { timeout: PATIENCE }, async () => {
  await openModel("notes.gguf", Buffer.from("These are notes, and not a model at all.\n".repeat(1000)));
  assert.equal(await chat.errorCode(), "not-gguf");
  await kept();
  assert.match(await chat.status(), /CPU · /, "the model that was there stays");
  await chat.screenshot("error");
});

test("models cut off in the header and in the weights", { timeout: PATIENCE }, async () => {
  for (const bytes of [1000, 20 * MEGABYTE]) {
    await openModel(`first-${bytes}.gguf`, await firstBytes(bytes));
    assert.equal(await chat.errorCode(), "truncated", `cut off after ${bytes} bytes`);
    await kept();
    await chat.get("error").getByText("Dismiss").click();
  }
});

test("a file that changes on the server in the middle of the download", { timeout: 2 * PATIENCE }, async () => {
  await chat.forget();
  server.line.breakAfter = server.line.modelBytes + 30 * MEGABYTE;
  await chat.get("settings").click();
  await chat.get("reload-model").click();
  assert.equal(await chat.errorCode(), "network");
  assert.match(await chat.get("error").innerText(), /The file changed on the server[^]*Load the former model/);
  await kept();
  await chat.get("load-button").waitFor();
});

test("afterwards the conversation goes on, with the device and the threads that were set meanwhile", { timeout: 2 * PATIENCE }, async () => {
  await chat.set({ device: "cpu", threads: 1 });
  await chat.get("offer-line").getByText("Runs on").waitFor();
  server.line.breakAfter = Infinity;
  // The offer may have kept a part of the changed file.
  await chat.page.evaluate(async () => {
    const all = await navigator.storage.getDirectory();
    for await (const name of all.keys()) await all.removeEntry(name, { recursive: true });
  });
  await chat.load();
  assert.match(await chat.status(), /CPU · relaxed SIMD · 1 thread /);
  assert.match(await chat.why(), /asked for/);
  const text = await chat.ask("Name a river in that city.");
  assert.match(text, /Paris|Seine/);
  assert.equal((await chat.conversation()).length, 4);
  chat.assertNoStrangers();
});

/** The page says so, and the words exchanged so far are all there. */
async function kept() {
  assert.deepEqual(await chat.conversation(), talk);
  assert.ok((await chat.get("error").innerText()).length > 20);
}

async function openModel(name, contents) {
  const file = join(folder, name);
  writeFileSync(file, contents);
  await chat.get("model-file").setInputFiles(file);
}

async function firstBytes(count) {
  const { default: model } = await (await fetch(`${SITE}/models/manifest.json`)).json();
  const reply = await fetch(`${SITE}/${model.url}`, { headers: { range: `bytes=0-${count - 1}` } });
  assert.equal(reply.status, 206);
  return Buffer.from(await reply.arrayBuffer());
}

async function eventually(condition, otherwise) {
  for (let tries = 0; tries < 100; tries += 1) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(otherwise);
}
