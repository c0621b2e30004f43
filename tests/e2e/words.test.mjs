// Errors in a visitor's words, and what they leave standing: a wrong file does not take the model that is loaded. Names out
// of files and addresses stay names.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";

const LOGIN = "<!doctype html><title>Sign in</title>";

let browser, server, chat, folder;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "emberglass-e2e-"));
  // A server that is asked for more patience than the page has is not asked again.
  const answer = (request, response) => {
    const [, answers, status] = request.url.split("/");
    if (answers !== "answers") return false;
    const body = status === "200" ? LOGIN : "";
    response.writeHead(Number(status), { "retry-after": "3600", "content-length": body.length }).end(body);
    return true;
  };
  server = await packageServer(SITE, { answer });
  browser = await launch();
  chat = await openPage(browser, { site: server.site });
});
after(async () => {
  await browser?.close();
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function open(name, contents) {
  const file = join(folder, name);
  writeFileSync(file, contents);
  await chat.get("model-file").setInputFiles(file);
}

/** What a visitor reads of the error, without what is behind “Details”. */
async function told() {
  await chat.get("error").waitFor();
  return chat.get("error").innerText();
}

/** The tiny model with other bytes in one place. */
function changed(from, to) {
  const bytes = tinyModel();
  const at = bytes.indexOf(from);
  assert.ok(at > 0 && from.length === to.length);
  bytes.write(to, at, "latin1");
  return bytes;
}

test("a wrong file is named, and the loaded model stays", { timeout: PATIENCE }, async () => {
  await chat.get("load-button").waitFor();
  await chat.set({ temperature: 0, maxTokens: 8 });
  await open("\u202efugg.tiny <b>.gguf", tinyModel());
  await chat.ready();
  assert.equal(await chat.page.locator("#model-name bdi").innerText(), "[U+202E]fugg.tiny <b>.gguf", "the file's name");
  const talk = await chat.ask("Once");
  for (const [name, contents, code, words] of [
    ["notes.gguf", "These are notes, and not a model.\n".repeat(99), "not-gguf", /not a GGUF model file[^]*It is a text/],
    ["model.zip", "PK\x03\x04\x14\0\0\0\x08\0", "not-gguf", /It is an archive\. Unpack it/],
    ["vae.safetensors", '\x40\0\0\0\0\0\0\0{"a":{}}        ', "not-gguf", /safetensors[^]*Pictures page/],
    ["login.gguf", LOGIN, "not-gguf", /It is a web page/],
    ["pointer.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "not-gguf", /Git LFS/],
    ["empty.gguf", "", "truncated", /The file is empty/],
    ["cut.gguf", tinyModel().subarray(0, 100_000), "truncated", /The file is incomplete/],
    ["other.gguf", changed("llama", "llam\x1b"), "unsupported-architecture", /Its architecture is llam\[U\+001B\]\./],
  ]) {
    await open(name, Buffer.from(contents, "latin1"));
    assert.equal(await chat.errorCode(), code, name);
    assert.match(await told(), words, name);
    assert.match(await told(), /The model that was loaded is still there/, name);
    assert.doesNotMatch(await told(), /\[[0-9a-f]{2}, |went wrong/, name);
    if (name === "notes.gguf") await chat.screenshot("wrong-file");
    await chat.get("error").getByText("Dismiss").click();
    assert.equal(await chat.page.evaluate(() => document.activeElement.id), "scroll", "the focus stays on the page");
  }
  assert.equal(await chat.get("progress").count(), 0);
  assert.equal(await chat.ask("Once"), talk, "the model that was there still answers");
});

test("a model that breaks off in its weights leaves the way back", { timeout: PATIENCE }, async () => {
  const talk = await chat.conversation();
  const bytes = tinyModel();
  bytes.writeFloatLE(NaN, bytes.length - 4);
  await open("broken.gguf", bytes);
  assert.equal(await chat.errorCode(), "not-finite");
  assert.match(await told(), /weights are damaged/);
  assert.deepEqual(await chat.conversation(), talk);
  await chat.get("error").getByText("Load the former model").click();
  await chat.ready();
  assert.match(await chat.page.locator("#model-name").innerText(), /fugg\.tiny/);
  assert.equal(await chat.ask("Once"), talk[0]);
});

test("a message that does not fit comes back to be shortened", { timeout: PATIENCE }, async () => {
  const talk = await chat.conversation();
  const long = "x".repeat(300);
  await chat.send(long);
  assert.equal(await chat.errorCode(), "context-overflow");
  assert.match(await told(), /no longer fits into the context/);
  await chat.get("error").getByText("Edit the message").click();
  assert.equal(await chat.get("composer").inputValue(), long);
  assert.deepEqual(await chat.conversation(), talk);
  await chat.get("composer").fill("");
  assert.equal(await chat.ask("Once"), talk[0]);
});

test("several files that are no model, and a folder", { timeout: PATIENCE }, async () => {
  const files = ["a.gguf", "b.txt"].map((name) => join(folder, name));
  for (const file of files) writeFileSync(file, "x");
  await chat.get("model-file").setInputFiles(files);
  assert.match(await told(), /not one whole model/);
  await chat.page.evaluate(() => {
    DataTransferItem.prototype.webkitGetAsEntry = () => ({ isDirectory: true, name: "models\u202e" });
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(["x"], "models"));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  });
  await chat.get("error").getByText("This is a folder").waitFor();
  assert.match(await told(), /models\[U\+202E\]/);
});

test("a server's answer is told as what it is", { timeout: PATIENCE }, async () => {
  for (const [status, words] of [
    [401, /does not give this file to everybody[^]*login/],
    [404, /no file at this address/],
    [429, /too much to do/],
    [500, /The server has a fault/],
    [200, /It is a web page[^]*hf:owner\/repo/],
  ]) {
    await chat.page.goto(`${server.site}/?model=/answers/${status}/m.gguf`);
    await chat.get("load-button").click();
    assert.match(await told(), words, String(status));
    if (status === 500) await chat.screenshot("server-fault");
  }
  await chat.get("error").getByText("Details").click();
  assert.match(await told(), /not-gguf/);
});

test("a link's model cannot speak for the page", { timeout: PATIENCE }, async () => {
  const name = "SmolLM2.gguf” from huggingface.co. \u202e.gguf";
  await chat.page.goto(`${server.site}/?model=https://evil.example/${encodeURIComponent(name)}`);
  const asked = chat.page.locator(".loader");
  assert.match(await asked.locator("p").first().innerText(), /^This link asks to load a model from evil\.example\. The file is called:$/);
  assert.equal(await chat.get("asked-file").innerText(), name.replace("\u202e", "[U+202E]"));
  assert.equal(await chat.get("asked-file").locator("bdi").count(), 1);
  assert.match(await chat.get("load-button").innerText(), /^Load from evil\.example$/);
  await chat.screenshot("asked-name");
  // The end of the host is what tells whose it is. Marks without number would reach over the host.
  await chat.page.setViewportSize({ width: 360, height: 640 });
  await chat.page.goto(`${server.site}/?model=https://${"huggingface.co.".repeat(12)}evil.example/z${encodeURIComponent(encodeURIComponent("\u0300".repeat(30)))}\u3164.gguf`);
  await chat.get("asked-file").waitFor();
  assert.equal(await chat.page.locator("#scroll").evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth), 0);
  assert.match(await chat.get("asked-file").innerText(), /^z\u0300{4}\[U\+0300\].*\[U\+3164\]\.gguf$/);
  await chat.page.setViewportSize({ width: 1100, height: 800 });
  await chat.page.goto(`${server.site}/?model=javascript:alert(1)%E2%80%AE`);
  assert.match(await told(), /begins with javascript:/);
});

test("nothing went wrong unseen", () => {
  // The browser itself reports statuses that are no success.
  assert.deepEqual(chat.complaints.filter((text) => !/status of (4|5)\d\d/.test(text)), []);
});
