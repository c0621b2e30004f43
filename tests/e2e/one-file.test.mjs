// `cargo xtask one-file`: one HTML file, opened from disk. It chats, decodes pictures, and asks the network for nothing.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { canvasBytes, launch, openPage, PATIENCE } from "./harness.mjs";
import { tinyModel } from "./tiny-model.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const XTASK = process.env.EMBERGLASS_XTASK ?? here("../../target/debug/xtask");
const EMOJI = here("../../www/public/emoji/emoji-vae.safetensors");

let browser, folder, model;

/** Runs the command; rejects with what it wrote to stderr. The page is the one that was built with the site. */
const oneFile = (out, ...options) => promisify(execFile)(XTASK, ["one-file", out, "--page-as-it-is", ...options]);

/** Opens a file of the folder. */
const open = (name, query = "") => openPage(browser, { site: pathToFileURL(join(folder, name)).href, path: query });

/** Nothing was asked for but the file itself and what the page made. */
function assertSilent({ site, requests, complaints }) {
  const isOwn = (url) => url.replace(/\?.*/, "") === site || /^(blob:null\/|data:)/.test(url);
  assert.deepEqual(requests.filter((url) => !isOwn(url)), []);
  assert.deepEqual(complaints, []);
}

before(async () => {
  browser = await launch();
  folder = await mkdtemp(join(tmpdir(), "emberglass-one-file-"));
  model = join(folder, "tiny <model>.gguf");
  // Enough for several blocks of the page.
  await writeFile(model, tinyModel({ chats: true, more: [["test.ballast", "x".repeat(1_500_000)]] }));
  await oneFile(join(folder, "both.html"), "--model", model, "--image", EMOJI);
  await oneFile(join(folder, "chat.html"), "--model", model);
});
after(async () => {
  await browser?.close();
  if (folder) await rm(folder, { recursive: true });
});

test("it chats, and keeps the conversation over a reload", { timeout: PATIENCE }, async () => {
  const visit = await open("both.html");
  const { page } = visit;
  await visit.get("load-button").waitFor();
  await visit.screenshot("one-file");
  assert.match(await visit.page.locator("#welcome-loader").innerText(), /tiny <model>.* in this file/s);
  await visit.load();
  await visit.set({ temperature: 0, maxTokens: 8 });
  const answer = await visit.ask("abc");
  assert.notEqual(answer, "");
  await page.reload();
  assert.deepEqual((await visit.conversation()).map((text) => text.trim()), ["abc", answer]);
  // The blocks do not stay in the document.
  await visit.get("load-button").waitFor();
  assert.equal(await page.locator("script[data-file]").count(), 0);
  assertSilent(visit);
  await visit.close();
});

test("it decodes pictures, and the way there and back needs no server", { timeout: PATIENCE }, async () => {
  const visit = await open("both.html");
  await visit.get("to-pictures").click();
  await visit.get("sample-picture").nth(11).waitFor();
  assert.match(await visit.get("image-model").innerText(), /^emoji-vae\.safetensors/);
  assert.ok(new Set(await canvasBytes(visit.page, "middle")).size > 30, "the picture is blank");
  // It would lead to this disk.
  assert.equal(await visit.get("link").isVisible(), false);
  await visit.screenshot("one-file-pictures");
  await visit.page.locator("a", { hasText: "Chat" }).click();
  await visit.get("load-button").waitFor();
  assertSilent(visit);
  await visit.close();
});

test("without weights of an image decoder there is no picture page", { timeout: PATIENCE }, async () => {
  const visit = await open("chat.html", "?pictures");
  await visit.get("load-button").waitFor();
  assert.equal(await visit.get("to-pictures").count(), 0);
  assertSilent(visit);
  await visit.close();
});

test("it takes another model from disk, and none from the network", { timeout: PATIENCE }, async () => {
  const visit = await open("chat.html", "?model=https://example.com/a.gguf");
  assert.equal(await visit.errorCode(), "invalid-option");
  assert.match(await visit.shownError(), /uses no network/);
  await visit.page.getByText("Dismiss").click();
  await visit.get("model-file").setInputFiles({ name: "other.gguf", mimeType: "", buffer: tinyModel() });
  await visit.ready();
  assert.equal(await visit.page.locator("#model-name").innerText(), "other.gguf");
  assertSilent(visit);
  // Not even a script in the page gets anything out.
  const refused = await visit.page.evaluate(() => fetch("https://example.com/").then(() => "answered", (error) => error.name));
  assert.equal(refused, "TypeError");
  assert.match(visit.complaints[0], /Content Security Policy/);
  await visit.close();
});

test("the licences are inside", { timeout: PATIENCE }, async () => {
  const visit = await open("chat.html");
  await visit.page.getByText("Licences", { exact: true }).click();
  const text = await visit.page.locator(".licences pre").innerText();
  for (const line of ["dompurify", "Apache License", "MIT"]) assert.ok(text.includes(line), line);
  await visit.close();
});

test("a damaged or a shortened file says so", { timeout: PATIENCE }, async () => {
  const html = await readFile(join(folder, "chat.html"), "latin1");
  const place = html.indexOf("eHh4", html.indexOf('data-file="model"')); // Three of the ballast.
  await writeFile(join(folder, "damaged.html"), `${html.slice(0, place)}eHg4${html.slice(place + 4)}`, "latin1");
  await writeFile(join(folder, "short.html"), html, "latin1");
  await truncate(join(folder, "short.html"), html.length - 300_000);
  for (const name of ["damaged.html", "short.html"]) {
    const visit = await open(name);
    assert.equal(await visit.errorCode(), "io");
    assert.match(await visit.shownError(), /damaged or not whole/);
    assert.equal(await visit.get("load-button").count(), 0);
    assertSilent(visit);
    await visit.close();
  }
});

test("the command refuses what it cannot use, and writes over nothing of others", { timeout: PATIENCE }, async () => {
  const notes = join(folder, "notes.html");
  await writeFile(notes, "<!doctype html>");
  const refused = (words, ...given) => assert.rejects(oneFile(...given), ({ stderr }) => stderr.includes(words) || assert.fail(stderr));
  await refused("choose another name", notes, "--model", model);
  await refused("not a GGUF model", join(folder, "x.html"), "--model", notes);
  await refused("not a .safetensors file", join(folder, "x.html"), "--model", model, "--image", model);
  assert.equal(await readFile(notes, "utf8"), "<!doctype html>");
  // One of its own is replaced.
  await oneFile(join(folder, "chat.html"), "--model", model);
});
