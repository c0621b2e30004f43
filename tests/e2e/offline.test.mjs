// After one visit the pages and the engine are there without a network; new versions are offered; plain hosts get threads.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { launch, openPage, PATIENCE } from "./harness.mjs";
import { filesOf, nextVersion, StaticHost } from "./site-copy.mjs";
import { tinyModel } from "./tiny-model.mjs";

const SITE_FOLDER = fileURLToPath(new URL("../../target/site/", import.meta.url));
/** The program behind `cargo xtask`. */
const XTASK = process.env.EMBERGLASS_XTASK ?? fileURLToPath(new URL("../../target/debug/xtask", import.meta.url));
/** Without models, of the site's own files. */
const MOST_BYTES = 3_000_000;
const MODEL = { name: "tiny.gguf", mimeType: "application/octet-stream", buffer: tinyModel({ chats: true }) };
const TEST = { timeout: PATIENCE };

let browser, host, chat, first;

before(async () => {
  browser = await launch();
  first = filesOf(SITE_FOLDER, /^models\/|wllama/);
  first.set("models/manifest.json", modelList("First model"));
});
after(() => browser?.close());

beforeEach(async () => {
  host = new StaticHost(first);
  await host.start();
  chat = undefined;
});
afterEach(async () => {
  await chat?.close();
  await host.stop();
});

function modelList(name) {
  return Buffer.from(JSON.stringify({ default: { url: "models/tiny.gguf", name, bytes: MODEL.buffer.length } }));
}

/** The first visit, to its end: the service worker has all it stores, and answers this page, too. */
async function visit(path = "/") {
  chat = await openPage(browser, { site: host.site, path, serviceWorkers: "allow" });
  await settled();
  // The tiny model has room for few words, and does not end by itself.
  await chat.set({ maxTokens: 12 });
}

async function settled(page = chat.page) {
  await page.evaluate(async () => {
    if (navigator.serviceWorker.controller) return;
    await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
  });
}

/** The server ends, and the browser knows no network. */
async function cutOff() {
  await host.stop();
  await chat.page.context().setOffline(true);
}

async function comeBack() {
  await host.start();
  await chat.page.context().setOffline(false);
}

async function openModel() {
  await chat.get("model-file").setInputFiles(MODEL);
  await chat.ready();
}

/** Looks for a new version, as a browser does at times, and waits for what comes of it: `installed`, or `redundant` if it failed. */
function update(page = chat.page) {
  return page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration();
    const found = new Promise((resolve) => registration.addEventListener("updatefound", () => resolve(registration.installing), { once: true }));
    await registration.update().catch(() => {});
    const next = await found;
    while (next.state === "installing") await new Promise((resolve) => next.addEventListener("statechange", resolve, { once: true }));
    return next.state;
  });
}

/** The paths of what is stored, without what Workbox adds. */
function stored(page = chat.page) {
  return page.evaluate(async () => {
    const found = [];
    for (const name of await caches.keys()) for (const { url } of await (await caches.open(name)).keys()) found.push(url);
    return found.map((url) => new URL(url).pathname.replace("/some/folder/", "")).sort();
  });
}

const title = (page = chat.page) => page.title();

test("the first visit stores what this browser needs, and nothing else; it stays below 3 MB", TEST, async () => {
  await visit();
  const asked = [...new Set(host.log)].sort();
  // The page itself asks for the header of the model that it offers.
  const unneeded = asked.filter((path) => /simd128|packed-|in-thread|bench|wllama|onnx/.test(path));
  assert.deepEqual(unneeded, []);
  assert.deepEqual(asked.filter((path) => !first.has(path) && !path.endsWith(".gguf")), [], "all of it is there");
  const kept = await stored();
  assert.ok(!kept.some((path) => path.endsWith(".gguf")), "models are kept by the package");
  for (const needed of [/^index\.html$/, /^image\.html$/, /relaxed.*\.wasm$/, /worker.*\.js$/, /^NOTICE\.md$/, /^emoji\/.*\.safetensors$/, /^models\/manifest\.json$/]) {
    assert.ok(kept.some((path) => needed.test(path)), `${needed} is stored`);
  }
  const bytes = kept.filter((path) => !/\.safetensors$/.test(path)).reduce((sum, path) => sum + first.get(path).length, 0);
  console.log(`  stored: ${kept.length} files of ${bytes} bytes, without the model of the picture page`);
  assert.ok(bytes < MOST_BYTES, `${bytes} bytes`);
  assert.ok(bytes > MOST_BYTES / 2, "the engine is among them");
  assert.deepEqual(chat.complaints, []);
});

test("a browser without relaxed SIMD stores the other build", TEST, async () => {
  // As where the browser refuses the first of these instructions.
  const without = "const { validate } = WebAssembly; WebAssembly.validate = (bytes) => !String(bytes).includes('253,147,2') && validate(bytes);";
  host.files = new Map([...first, ["sw.js", Buffer.from(without + first.get("sw.js"))]]);
  await visit();
  assert.deepEqual((await stored()).filter((path) => path.endsWith(".wasm")).map((path) => /relaxed|simd128/.exec(path)?.[0]), ["simd128"]);
});

test("network off: reload, chat, pictures; on a plain host with two threads", TEST, async () => {
  await visit();
  assert.equal(await chat.page.evaluate(() => performance.getEntriesByType("navigation")[0].type), "navigate", "nothing was reloaded");
  await openModel();
  await chat.ask("Before");
  const before = await chat.conversation();
  await cutOff();
  await assert.rejects(fetch(host.site), "the server is gone");
  await chat.page.reload();
  assert.equal(await chat.page.evaluate(() => crossOriginIsolated), true);
  assert.deepEqual(await chat.conversation(), before, "the conversation outlives the change to an isolated page");
  assert.match(await chat.get("load-button").innerText(), /First model/);
  await chat.set({ threads: 2 });
  await openModel();
  assert.match(await chat.status(), /CPU · relaxed SIMD · 2 threads/);
  await chat.ask("After");
  await chat.get("to-pictures").click();
  await picturesShown();
  await chat.page.goto(`${host.site}/image.html?seed=7`);
  await picturesShown();
  assert.equal(await chat.get("seed").inputValue(), "7");
  for (const notice of ["NOTICE.md", "LICENSE-MIT", "emoji/NOTICE.md"]) {
    const text = await chat.page.evaluate(async (path) => (await fetch(path)).text(), notice);
    assert.equal(text, first.get(notice).toString(), notice);
  }
  assert.deepEqual(chat.complaints, []);
});

/** The page's own model has decoded its samples. */
async function picturesShown() {
  await chat.get("sample-picture").nth(11).waitFor();
}

test("cargo xtask offline: a folder for a plain host, whose model is there without a network, too", TEST, async () => {
  const folder = await mkdtemp(join(tmpdir(), "emberglass-offline-"));
  try {
    const model = join(folder, "tiny model.gguf");
    const out = join(folder, "out");
    await writeFile(model, MODEL.buffer);
    const write = () => promisify(execFile)(XTASK, ["offline", out, "--model", model, "--site-as-it-is"]);
    await write();
    await assert.rejects(write(), ({ stderr }) => /is not empty/.test(stderr));
    host.files = filesOf(out, /wllama/);
    for (const path of ["README.txt", "_headers", "404.html", "NOTICE.md"]) assert.ok(host.files.has(path), path);
    const { bytes, sha256 } = JSON.parse(host.files.get("models/manifest.json")).default;
    assert.deepEqual({ bytes, sha256 }, { bytes: MODEL.buffer.length, sha256: createHash("sha256").update(MODEL.buffer).digest("hex") });

    await visit();
    await chat.load();
    await chat.ask("Before");
    await cutOff();
    await chat.page.reload();
    await chat.load();
    await chat.ask("After");
    assert.equal((await chat.conversation()).length, 4);
    const kept = await stored();
    assert.ok(!kept.some((path) => path.endsWith(".gguf")), "the service worker has not stored it a second time");
    assert.deepEqual(chat.complaints, []);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("the list of models comes from the network where there is one", TEST, async () => {
  await visit();
  host.files = new Map([...first, ["models/manifest.json", modelList("Second model")]]);
  await chat.page.reload();
  assert.match(await chat.get("load-button").innerText(), /Second model/);
  await cutOff();
  await chat.page.reload();
  assert.match(await chat.get("load-button").innerText(), /Second model/);
});

test("a new version is offered and not forced; the reload takes it, keeps what was said, and the former one is removed", TEST, async () => {
  await visit();
  await openModel();
  await chat.ask("Before");
  await chat.get("composer").fill("half a messa");
  assert.equal(await chat.get("notice").count(), 0, "the first version replaces nothing");
  const before = await chat.conversation();
  const former = (await stored()).filter((path) => path.startsWith("assets/"));
  const other = await anotherTab();

  host.files = nextVersion(first, "Second");
  await chat.page.evaluate(() => (window.sameDocument = true));
  assert.equal(await update(), "installed");
  await chat.get("notice").waitFor();
  assert.match(await chat.get("notice").innerText(), /A new version is there/);
  assert.equal(await title(), "Emberglass");
  await chat.ask("Meanwhile");
  assert.equal(await chat.page.evaluate(() => window.sameDocument), true, "nothing was forced");
  await chat.get("composer").fill("half a messa");
  const said = await chat.conversation();
  assert.deepEqual(said.slice(0, 2), before);

  await Promise.all([chat.page.waitForEvent("load"), chat.get("notice").getByRole("button", { name: "Reload" }).click()]);
  assert.equal(await title(), "Second");
  assert.deepEqual(await chat.conversation(), said);
  // The other tab has the former version, and its engine is not loaded yet.
  assert.equal(await title(other), "Emberglass");
  await other.getByTestId("model-file").setInputFiles(MODEL);
  await other.locator('[data-testid="status"][data-device="cpu"]').waitFor();
  assert.ok(await other.getByTestId("notice").isVisible());
  assert.ok(former.every((path) => !host.files.has(path)), "the server has none of the former files");
  assert.deepEqual((await stored()).filter((path) => former.includes(path)), former);
  await other.close();
  // The browser may take a while to see that a tab is gone; a later load of the page removes them, then.
  do await chat.page.reload();
  while ((await stored()).some((path) => former.includes(path)));
  await cutOff();
  await chat.page.reload();
  assert.equal(await title(), "Second");
  await openModel();
  await chat.ask("With the new engine");
  assert.deepEqual(chat.complaints, []);
});

async function anotherTab() {
  const page = await chat.page.context().newPage();
  await page.goto(`${host.site}/`);
  return page;
}

for (const [what, spoil] of [
  ["a file is missing", (files, path) => files.delete(path)],
  ["a file is not the one of this version", (files, path) => files.set(path, Buffer.from("<!doctype html><title>Elsewhere</title>"))],
]) {
  test(`an update that ends half-way does no harm: ${what}`, TEST, async () => {
    await visit();
    const next = nextVersion(first, "Second");
    // In the order in which they are asked for: what a try has stored, the next one does not ask for.
    for (const path of ["image.html", [...next.keys()].find((name) => /assets\/index-.*\.js$/.test(name))]) {
      host.files = new Map(next);
      spoil(host.files, path);
      assert.equal(await update(), "redundant", path);
    }
    assert.equal(await chat.get("notice").count(), 0);
    await cutOff();
    await chat.page.reload();
    assert.equal(await title(), "Emberglass");
    await openModel();
    await chat.ask("Still there");
    await comeBack();
    host.files = next;
    assert.equal(await update(), "installed", "the next try succeeds");
    await chat.get("notice").waitFor();
  });
}

test("a file that the browser has deleted comes from the network again", TEST, async () => {
  await visit();
  await chat.page.evaluate(async () => {
    for (const name of await caches.keys()) await caches.delete(name);
  });
  await chat.page.reload();
  assert.equal(await chat.page.evaluate(() => crossOriginIsolated), true);
  await openModel();
  await chat.ask("Again");
  assert.deepEqual(chat.complaints, []);
});

test("Chromium finds the site installable", TEST, async () => {
  await visit();
  const session = await chat.page.context().newCDPSession(chat.page);
  const { url, errors, data } = await session.send("Page.getAppManifest");
  assert.deepEqual(errors, []);
  assert.equal(url, `${host.site}/app.webmanifest`);
  const { start_url, display, icons } = JSON.parse(data);
  assert.deepEqual([start_url, display], ["./", "standalone"]);
  for (const { src } of icons) assert.ok(first.has(src.replace("./", "")), src);
  // Incognito windows, as those of tests, can never install.
  const { installabilityErrors } = await session.send("Page.getInstallabilityErrors");
  assert.deepEqual(installabilityErrors.filter(({ errorId }) => errorId !== "in-incognito"), []);
});

test("several cores and no GPU: the reload that brings threads is offered once, and not forced", TEST, async () => {
  chat = await openPage(browser, { site: host.site, path: "/favicon.svg", serviceWorkers: "allow" });
  await chat.page.addInitScript(() => Object.defineProperty(Navigator.prototype, "hardwareConcurrency", { get: () => 8 }));
  await chat.page.goto(`${host.site}/`);
  await settled();
  assert.equal(await chat.page.evaluate(() => crossOriginIsolated), false);
  const notice = chat.get("notice");
  await notice.waitFor();
  assert.match(await notice.innerText(), /several processor cores/);
  await Promise.all([chat.page.waitForEvent("load"), notice.getByRole("button", { name: "Reload" }).click()]);
  assert.equal(await chat.page.evaluate(() => crossOriginIsolated), true);
  await chat.page.reload();
  assert.equal(await notice.count(), 0);
});

test("a browser that refuses service workers, or a host without one: the page works, and the console says so", TEST, async () => {
  host.files = new Map(first);
  host.files.delete("sw.js");
  chat = await openPage(browser, { site: host.site, path: "/favicon.svg", serviceWorkers: "allow" });
  const said = chat.page.waitForEvent("console", (message) => /refuses a service worker/.test(message.text()));
  await chat.page.goto(`${host.site}/`);
  assert.equal((await said).type(), "info");
  await openModel();
  await chat.ask("Hello");
});
