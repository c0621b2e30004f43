import assert from "node:assert/strict";
import { test } from "node:test";
import { readLatents, writeLatents } from "../src/latent-file.js";
import { openImageDecoder, openTextModel } from "../src/load.js";
import { toWireSource as wired } from "../src/source.js";
import { FakeWorker } from "./fake-engine.js";
import { rejects } from "./harness.js";

const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

const toWireSource = (source: unknown) => wired(source, {});

/** The one file's bytes and name. */
async function one(source: unknown): Promise<[number[], string]> {
  const wire = await toWireSource(source);
  assert.ok("blobs" in wire && wire.blobs.length === 1);
  return [[...new Uint8Array(await wire.blobs[0]!.arrayBuffer())], wire.names[0]!];
}

/** A `FileSystemFileHandle`, which Node lacks. */
function handle(getFile: () => Promise<File>): unknown {
  return { name: "m.gguf", getFile, [Symbol.toStringTag]: "FileSystemFileHandle" };
}

test("addresses stay addresses, and relative ones are resolved against the document", async (t) => {
  assert.deepEqual(await toWireSource(new URL("https://e.test/a")), { addresses: [["https://e.test/a"]] });
  assert.deepEqual(await toWireSource({ shards: ["https://e.test/1", new URL("https://e.test/2")] }), {
    addresses: [["https://e.test/1"], ["https://e.test/2"]],
  });
  Object.assign(globalThis, { document: { baseURI: "https://e.test/app/index.html" } });
  t.after(() => Reflect.deleteProperty(globalThis, "document"));
  assert.deepEqual(await toWireSource("models/m.gguf"), { addresses: [["https://e.test/app/models/m.gguf"]] });
});

test("mirrors are addresses of one file, and a stored model has its id", async () => {
  assert.deepEqual(await toWireSource({ mirrors: ["https://a.test/m", new URL("https://b.test/m")] }), {
    addresses: [["https://a.test/m", "https://b.test/m"]],
  });
  assert.deepEqual(await toWireSource({ stored: "0af9".repeat(8) }), { stored: "0af9".repeat(8) });
});

test("the address of the hub's page about a file becomes that of the file", async () => {
  const into: [string, string][] = [
    ["https://huggingface.co/o/r/blob/main/a/m.gguf", "https://huggingface.co/o/r/resolve/main/a/m.gguf"],
    ["https://huggingface.co/o/r/blob/main/m.gguf?show=1#L3", "https://huggingface.co/o/r/resolve/main/m.gguf"],
    ["https://hf.co/o/r/blob/refs%2Fpr%2F1/m%20x.gguf", "https://hf.co/o/r/resolve/refs%2Fpr%2F1/m%20x.gguf"],
    ["https://huggingface.co/datasets/o/r/blob/main/m.gguf", "https://huggingface.co/datasets/o/r/resolve/main/m.gguf"],
  ];
  for (const [page, file] of into) assert.deepEqual(await toWireSource(page), { addresses: [[file]] });
  assert.deepEqual(await toWireSource({ mirrors: [into[0]![0]] }), { addresses: [[into[0]![1]]] });
  for (const other of [
    "https://huggingface.co/o/r/resolve/main/m.gguf?download=true",
    "https://huggingface.co/o/r/blob/main/",
    "https://huggingface.co/blob/main/m.gguf",
    "https://huggingface.co.test/o/r/blob/main/m.gguf",
    "https://github.com/o/r/blob/main/m.gguf",
  ]) {
    assert.deepEqual(await toWireSource(other), { addresses: [[other]] });
  }
});

test("the hub's page about a repository, and its address without a scheme, are told how to name the model", async () => {
  const cases: [string, RegExp][] = [
    ["https://huggingface.co/o/r", /is the page of a repository and no file: give hf:o\/r, or with a quantization hf:o\/r:Q4_K_M$/],
    ["https://huggingface.co/o/r/?x=1", /give hf:o\/r, or/],
    ["https://www.huggingface.co/o/r/tree/main/a", /give hf:o\/r, or/],
    ["https://hf.co/o/r/tree/v1", /give hf:o\/r@v1, or with a quantization hf:o\/r@v1:Q4_K_M$/],
    ["hf.co/o/r:Q8_0", /give hf:o\/r:Q8_0$/],
    ["huggingface.co/o/r", /give hf:o\/r, or/],
    ["huggingface.co/o/r/resolve/main/m.gguf", /is no address without https:\/\/ in front; a model of the hub may be named as hf:owner\/repo:Q4_K_M$/],
  ];
  for (const [address, words] of cases) {
    for (const source of [address, { mirrors: [address] }]) assert.match((await rejects(toWireSource(source), "invalid-option")).message, words);
  }
  for (const other of ["https://huggingface.co/datasets/o", "https://huggingface.co.test/o/r", "https://a.test/huggingface.co/o/r", "https://huggingface.co/m.gguf"]) {
    assert.deepEqual(await toWireSource(other), { addresses: [[other]] });
  }
});

test("files come in every form that pages have", async () => {
  const all = [...bytes];
  assert.deepEqual(await one(new Blob([bytes])), [all, "the given Blob"]);
  assert.deepEqual(await one(new File([bytes], "m.gguf")), [all, "m.gguf"]);
  assert.deepEqual(await one(bytes.buffer), [all, "the given ArrayBuffer"]);
  assert.deepEqual(await one(bytes.subarray(2, 4)), [[3, 4], "the given Uint8Array"]);
  assert.deepEqual(await one(new DataView(bytes.buffer, 1, 2)), [[2, 3], "the given DataView"]);
  const shared = new Uint8Array(new SharedArrayBuffer(2));
  shared.set([8, 9]);
  assert.deepEqual(await one(shared), [[8, 9], "the given Uint8Array"]);
  assert.deepEqual(await one(shared.buffer), [[8, 9], "the given SharedArrayBuffer"]);
  assert.deepEqual(await one(new Response(bytes)), [all, "the given Response"]);
  class Named extends File {
    override get name(): string {
      throw new Error("boo");
    }
  }
  assert.deepEqual(await one(new Named([bytes], "m.gguf")), [all, "m.gguf"]);
  assert.deepEqual(await one(handle(async () => new File([bytes], "other"))), [all, "m.gguf"]);
  const split = await toWireSource({ shards: [new Blob([bytes]), bytes, new Response(bytes)] });
  assert.deepEqual("names" in split && split.names, ["the given Blob", "the given Uint8Array", "the given Response"]);
});

test("what is no source is named, with what is taken instead", async () => {
  const used = new Response(bytes);
  await used.arrayBuffer();
  const given = new ArrayBuffer(8);
  const view = new Uint8Array(given);
  structuredClone(given, { transfer: [given] });
  const wrong: [unknown, RegExp][] = [
    [null, /^source = null is no file that can be read: give an address \(a string or URL\), a Blob, File, ArrayBuffer/],
    [undefined, /^source = undefined/],
    [5, /^source = 5/],
    [5n, /^source = 5n/],
    [Symbol("x"), /^source = Symbol\(x\)/],
    [true, /^source = true/],
    [() => {}, /^source = a function/],
    [new Date(0), /^source = a Date/],
    ["", /^source = "" is not an address/],
    ["not an address", /^source = "not an address" is not an address/],
    [new ReadableStream(), /a ReadableStream.*new Response\(stream\)/],
    [new Request("https://e.test/m"), /a Request.*await fetch\(request\)/],
    [Promise.resolve("m"), /a Promise.*await it/],
    [["https://e.test/1"], /\{ shards: \[\.\.\.\] \}/],
    [{}, /^source has to have one of shards, mirrors and stored$/],
    [{ shards: ["https://e.test/1"], stored: "0af9".repeat(8) }, /^source has to have one of shards, mirrors and stored$/],
    [{ url: "m" }, /^source has no member url: there are shards, mirrors, stored$/],
    [{ mirrors: [] }, /^source.mirrors has 0 addresses: give 1 to 16/],
    [{ mirrors: new Array(17).fill("https://e.test/1") }, /^source.mirrors has 17 addresses/],
    [{ mirrors: ["https://e.test/1", ""] }, /^source.mirrors\[1\] = "" is not an address/],
    [{ mirrors: [new Blob([bytes])] }, /^source.mirrors\[0\] = a Blob is not an address/],
    [{ mirrors: ["hf:owner/repo"] }, /^source.mirrors\[0\] = "hf:owner\/repo" is a whole model of a hub: give it alone/],
    [{ shards: ["hf:owner/repo/a.safetensors"] }, /^source.shards\[0\] = .* is a whole model of a hub/],
    [{ stored: "" }, /^source.stored = "" is not the id/],
    [{ stored: "../x" }, /is not the id/],
    [{ shards: "m" }, /^source.shards = "m" is not an array/],
    [{ shards: [] }, /source.shards is empty/],
    [{ shards: [null] }, /^source.shards\[0\] = null/],
    [{ shards: ["https://e.test/1", new Blob([bytes])] }, /all addresses or all files/],
    [new Uint8Array(0), /^source = a Uint8Array is without bytes/],
    [given, /transferred/],
    [view, /transferred/],
    // Look-alikes: a worker would get nothing that it can read, or nothing at all.
    [{ [Symbol.toStringTag]: "Blob", size: 8 }, /^source = a Blob is a copy or a proxy/],
    [{ [Symbol.toStringTag]: "File", name: "m" }, /^source = a File is a copy or a proxy/],
    [{ [Symbol.toStringTag]: "Response", ok: true, type: "basic", url: "" }, /^source = a Response is a copy or a proxy/],
    [{ [Symbol.toStringTag]: "URL", toString: () => "https://e.test/m" }, /^source = a URL is a copy or a proxy/],
    [{ shards: new Array(2 ** 32 - 1) }, /^source.shards\[0\] = undefined/],
    [used, /^source is a Response whose body has been read/],
    [Response.error(), /a Response of type error/],
    [new Response(bytes, { status: 206 }), /part of a file/],
  ];
  for (const [source, words] of wrong) {
    for (const loading of [
      openTextModel(source as never, {}, () => assert.fail("a worker")),
      openImageDecoder(source as never, {}, () => assert.fail("a worker")),
    ]) {
      assert.match((await rejects(loading, "invalid-option")).message, words);
    }
  }
  const failed = await rejects(toWireSource(new Response("no", { status: 404 })), "http-status");
  assert.equal(failed.status, 404);
  const broken = new Response(new ReadableStream({ start: (stream) => stream.error(new Error("reset")) }));
  assert.match((await rejects(toWireSource(broken), "network")).message, /reset/);
  const gone = handle(() => Promise.reject(new DOMException("it was deleted", "NotFoundError")));
  assert.match((await rejects(toWireSource(gone), "io")).message, /m.gguf failed: "it was deleted"/);
});

test("a response that does not come to its end can be cancelled", async () => {
  const stop = new AbortController();
  const endless = new Response(new ReadableStream());
  const loading = openTextModel(endless, { signal: stop.signal }, () => assert.fail("a worker"));
  stop.abort();
  await rejects(loading, "aborted");
});

test("latents come out of the same files", async () => {
  const latents = { channels: 1, height: 1, width: 2, data: Float32Array.of(3, 4) };
  const file = writeLatents(latents);
  const buffer = await file.arrayBuffer();
  for (const source of [file, buffer, new Uint8Array(buffer), new Response(buffer)]) assert.deepEqual(await readLatents(source), [latents]);
  for (const source of [null, undefined, 5, "latents.npy", {}, [file]]) await rejects(readLatents(source as never), "invalid-option");
});

test("a decoder takes them too", async () => {
  const vae = await openImageDecoder(bytes, {}, () => new FakeWorker({ image: {} }));
  assert.equal(vae.info.architecture, "TAESD");
});
