// What a visitor sees of models that are kept on the device: the offer before a load, a start without the model's server, a
// download that goes on, the list of models, too little room, models by address. The CPU computes: it is fast.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, prefaceWorkers, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";
import { unreliableServer } from "./unreliable-server.mjs";

const MEGABYTE = 1 << 20;
const TINY = "/tiny/tiny-chat.gguf";
const FILE = tinyModel({ chats: true });

let browser, line, tiny, folder;
/** Of the tiny model's server. */
const server = { isGone: false, asked: 0 };

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "emberglass-e2e-"));
  line = await unreliableServer(SITE);
  const answer = (request, response) => {
    if (request.url.endsWith("/models/manifest.json")) {
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ default: { url: TINY, name: "Tiny", bytes: FILE.length } }));
    } else if (request.url !== TINY) return false;
    else if ((server.asked += 1) && server.isGone) request.socket.destroy();
    else {
      response.writeHead(200, { "content-length": FILE.length, "cache-control": "no-store" }).end(FILE);
    }
    return true;
  };
  tiny = await packageServer(SITE, { answer });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await line?.close();
  await tiny?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A visitor who was never here, on the site of the tiny model. */
const visit = (path = "/?device=cpu", more = {}) => openPage(browser, { site: tiny.site, path, ...more });

/** The line below the button that loads, once it says this. */
async function offered(chat, words) {
  const found = chat.get("offer-line").filter({ hasText: words });
  await found.waitFor();
  return found.innerText();
}

/** What the progress of a load says on its way. */
const watchProgress = (chat) =>
  chat.page.evaluate(() => {
    window.__phases = new Set();
    new MutationObserver(() => {
      const phase = document.querySelector('[data-testid="progress"] .phase')?.textContent;
      if (phase) window.__phases.add(phase);
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
const phases = (chat) => chat.page.evaluate(() => [...window.__phases]);

test("the offer says before the download whether the model runs here, and how fast", { timeout: PATIENCE }, async () => {
  const chat = await visit();
  const text = await offered(chat, /Runs on your processor/);
  assert.match(text, /about [\d.]+ tokens a second/);
  assert.match(await chat.get("load-button").innerText(), /^Load Tiny · \d+ kB$/);
  await chat.get("offer-details").locator("summary").click();
  assert.match(await chat.get("offer-details").innerText(), /Download[^]*Memory/);
  await chat.screenshot("offer");
  assert.deepEqual(chat.complaints, []);
  await chat.close();
});

test("Load does not wait for the check, and ends it", { timeout: PATIENCE }, async () => {
  const chat = await visit();
  // Without helpers, which are workers too.
  await chat.set({ threads: 1 });
  await chat.load();
  assert.equal(await chat.get("offer-line").count(), 0);
  await chat.ask("Once");
  assert.equal(chat.page.workers().length, 1, "the check's worker is gone");
  await chat.close();
});

test("a loaded model starts when its server is gone", { timeout: PATIENCE }, async () => {
  const chat = await visit();
  await chat.load();
  const said = await chat.ask("Once");
  assert.equal(await chat.get("kept").isVisible(), false, "nothing is to be said of it");
  await chat.page.reload();
  server.isGone = true;
  server.asked = 0;
  await offered(chat, /all of it stored on this device/);
  assert.equal(await chat.get("load-button").innerText(), "Start Tiny");
  await chat.screenshot("offer-stored");
  await watchProgress(chat);
  await chat.load();
  assert.ok(!(await phases(chat)).includes("Loading weights"), "it does not pretend to download");
  assert.equal(server.asked, 0, "the server was not asked");
  await chat.get("new-chat").click();
  await chat.set({ temperature: 0 });
  assert.ok((await chat.ask("Once")).length > 0, said);
  server.isGone = false;
  assert.deepEqual(chat.complaints, []);
  await chat.close();
});

test("a download that was stopped goes on from there after a reload", { timeout: 2 * PATIENCE }, async () => {
  const chat = await openPage(browser, { site: line.site, path: "/?device=cpu" });
  line.line.bytesPerSecond = 16 * MEGABYTE;
  await chat.get("load-button").click();
  await chat.page.waitForFunction(() => {
    const bar = document.querySelector('[data-testid="progress"] [role="progressbar"]');
    return Number(bar?.getAttribute("aria-valuenow") ?? 0) >= 30;
  });
  await chat.page.reload();
  line.line.bytesPerSecond = Infinity;
  const text = await offered(chat, /stored on this device, and loading goes on from there/);
  const kept = Number(/([\d.]+) MB of 98 MB/.exec(text)?.[1]);
  assert.ok(kept >= 12, text);
  assert.match(await chat.get("load-button").innerText(), /^Continue SmolLM2.* · [\d.]+ MB to go$/);
  await chat.screenshot("offer-continues");
  const before = line.line.modelBytes;
  await chat.load();
  const { modelBytes } = line.line;
  assert.ok(modelBytes - before < (98.4 - kept) * 1e6 + 5 * MEGABYTE, `${modelBytes - before} bytes came again`);
  await chat.close();
});

test("models on this device: used, checked, saved as a file, deleted", { timeout: PATIENCE }, async () => {
  const chat = await visit();
  await chat.load();
  await chat.get("settings").click();
  await chat.get("settings-stored").click();
  const model = chat.get("stored-model");
  await model.waitFor();
  assert.match(await model.innerText(), /tiny-chat\.gguf\n+\d+ kB · used today/);
  assert.match(await chat.get("stored-usage").innerText(), /kB of models; .* that this page may use\. The browser/);
  await chat.get("check-stored").click();
  await model.getByText(/All \d+ kB are right/).waitFor();
  const download = chat.page.waitForEvent("download");
  await chat.get("export-stored").click();
  const saved = await (await download).path();
  assert.ok(readFileSync(saved).equals(FILE));
  await chat.screenshot("models-on-this-device");

  await chat.get("delete-stored").click();
  assert.equal(await focused(chat), "keep-stored", "the harmless button has the focus");
  await chat.page.keyboard.press("Enter");
  assert.equal(await focused(chat), "delete-stored");
  await chat.page.keyboard.press("Enter");
  assert.match(await chat.get("confirm-delete").innerText(), /^Delete \d+ kB$/);
  await chat.get("confirm-delete").click();
  await chat.get("stored-usage").getByText("No model is stored here").waitFor();
  assert.equal(await focused(chat), "stored-close");
  await chat.page.keyboard.press("Escape");
  assert.equal(await chat.get("stored-panel").isVisible(), false);
  assert.ok((await chat.ask("Once")).length > 0, "the loaded model goes on");
  assert.deepEqual(chat.complaints, []);
  await chat.close();
});

test("a file that was opened is kept if the visitor wants that, and started the next time", { timeout: PATIENCE }, async () => {
  const chat = await visit();
  await chat.get("load-button").waitFor();
  const file = join(folder, "my <b>own.gguf");
  writeFileSync(file, FILE);
  await chat.get("model-file").setInputFiles(file);
  await chat.ready();
  await chat.get("keep-file").click();
  await chat.get("kept").getByText("The file is kept").waitFor();
  await chat.screenshot("kept-file");
  await chat.page.reload();
  await chat.get("start-stored").waitFor();
  assert.equal(await chat.get("start-stored").innerText(), "Start my <b>own.gguf");
  await chat.get("start-stored").click();
  await chat.ready();
  assert.equal(await chat.get("kept").isVisible(), false, "it is kept already");
  assert.deepEqual(chat.complaints, []);
  await chat.close();
});

test("too little room: the error says what helps, and the model loads without being kept", { timeout: PATIENCE }, async () => {
  const chat = await visit();
  await chat.get("load-button").waitFor();
  // Chromium tells the same room whatever the quota is, so the true estimate of a full disk is made up.
  await prefaceWorkers(chat.page, () => (navigator.storage.estimate = async () => ({ usage: 2_000_000, quota: 2_050_000 })));
  await chat.get("load-button").click();
  assert.equal(await chat.errorCode(), "storage-full");
  assert.match(await chat.get("error").innerText(), /no room to keep the model/);
  await chat.screenshot("no-room");
  assert.ok(await chat.get("error").getByText("Models on this device").isVisible());
  await chat.get("error").getByText("Load without keeping it").click();
  await chat.ready();
  assert.equal(await chat.get("kept").isVisible(), false, "the visitor knows");
  assert.ok((await chat.ask("Once")).length > 0);
  await chat.close();
});

test("room that ends in the middle: the model loads, and a quiet line says that it is not kept", { timeout: PATIENCE }, async () => {
  const chat = await visit();
  await chat.get("load-button").waitFor();
  const devtools = await chat.page.context().newCDPSession(chat.page);
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: tiny.site, quotaSize: 1 });
  await chat.load();
  assert.match(await chat.get("kept").innerText(), /^(The model is not|Not all of the model is) kept on this device\. /);
  assert.equal(await chat.get("error").count(), 0);
  await chat.screenshot("not-kept");
  await chat.close();
});

test("without a network the offer says so, and what can be started", { timeout: PATIENCE }, async () => {
  const chat = await visit();
  await offered(chat, /Runs on/);
  await chat.page.context().setOffline(true);
  assert.match(await offered(chat, /offline/), /^This device is offline, and the model is not stored on it\.$/);
  await chat.screenshot("offer-offline");
  await chat.page.context().setOffline(false);
  await offered(chat, /Runs on/);
  await chat.close();
});

test("without a network, a visitor who was here before starts what is stored", { timeout: PATIENCE }, async () => {
  const chat = await visit("/?device=cpu", { serviceWorkers: "allow" });
  await chat.load();
  await chat.page.evaluate(() => navigator.serviceWorker.ready);
  const file = join(folder, "another.gguf");
  writeFileSync(file, FILE);
  await chat.get("model-file").setInputFiles(file);
  await chat.get("keep-file").click();
  await chat.get("kept").getByText("The file is kept").waitFor();
  await chat.page.reload();
  await offered(chat, /all of it stored/);
  await chat.page.context().setOffline(true);
  await chat.page.reload();
  await offered(chat, /all of it stored/);
  await chat.load();
  await chat.ask("Once");
  // A link's model is not here: what is here can be started.
  await chat.page.goto(`${tiny.site}/?device=cpu&model=https://example.org/elsewhere.gguf`);
  await chat.get("decline-model").waitFor();
  await chat.get("start-stored").nth(1).waitFor();
  assert.deepEqual((await chat.get("start-stored").allInnerTexts()).sort(), ["Start another.gguf", "Start tiny-chat.gguf"]);
  await chat.get("start-stored").first().click();
  await chat.ready();
  await chat.close();
});

test("a link to a hub's model is asked about, and its host hears nothing before", { timeout: PATIENCE }, async () => {
  const chat = await visit("/?model=hf:someone/some-model-GGUF:Q4_K_M");
  assert.match(await chat.page.locator(".asked").innerText(), /from huggingface\.co\. The file is called:$/);
  assert.equal(await chat.get("asked-file").innerText(), "someone/some-model-GGUF:Q4_K_M");
  assert.equal(await chat.get("load-button").innerText(), "Load from huggingface.co");
  await chat.get("decline-model").click();
  await offered(chat, /Runs on/);
  chat.assertNoStrangers();
  await chat.page.goto(`${tiny.site}/?model=https://huggingface.co/someone/some-model-GGUF/tree/v1`);
  assert.equal(await chat.get("asked-file").innerText(), "someone/some-model-GGUF@v1");
  await chat.page.goto(`${tiny.site}/?model=hf:../../secret`);
  assert.match(await chat.get("error").innerText(), /is not like hf:owner\/repo/);
  await chat.close();
});

test("an address that a visitor types", { timeout: PATIENCE }, async () => {
  const chat = await visit();
  await chat.get("from-address").click();
  assert.equal(await focused(chat), "address-field");
  for (const [typed, words] of [
    ["", /is missing/],
    ["javascript:alert(1)", /begins with javascript: instead of https:/],
    ["https://me:secret@example.org/a.gguf", /holds a user name or a password/],
    ["hf:owner", /is not like hf:owner\/repo/],
    ["owner/repo:Q4_K_M", /says where it is: a model of Hugging Face is hf:owner\/repo:Q4_K_M\.$/],
    ["x".repeat(3000), /is too long: 3,000 characters/],
  ]) {
    await chat.get("address-field").fill(typed);
    await chat.page.keyboard.press("Enter");
    assert.match(await chat.get("address-problem").innerText(), words);
    assert.equal(await focused(chat), "address-field");
  }
  await chat.screenshot("address");
  assert.equal(await chat.get("address-token").isVisible(), false, "a token has a use with the hub alone");
  for (const page of ["https://huggingface.co/owner/repo", "huggingface.co/owner/repo/tree/main", "hf.co/owner/repo:Q4_K_M", "hf://owner/repo"]) {
    await chat.get("address-field").fill("");
    await chat.get("address-token").waitFor({ state: "hidden" });
    await chat.get("address-field").fill(page);
    await chat.get("address-token").waitFor();
  }
  await chat.get("address-token").fill("hf_secret");
  await chat.page.keyboard.press("Escape");
  await chat.get("from-address").click();
  assert.equal(await chat.get("address-token").inputValue(), "", "the token is gone with the dialog");

  await chat.get("address-field").fill(TINY);
  await chat.get("address-submit").click();
  await offered(chat, /Runs on/);
  assert.match(await chat.get("load-button").innerText(), /^(Load|Start) tiny-chat\.gguf/);
  await chat.load();
  const kept = await chat.page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.doesNotMatch(kept, /hf_secret/);
  chat.assertNoStrangers();
  assert.deepEqual(chat.complaints, []);
  await chat.close();
});

const focused = (chat) => chat.page.evaluate(() => document.activeElement.dataset.testid);
