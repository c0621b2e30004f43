import assert from "node:assert/strict";
import { test } from "node:test";
import { boundedFetch } from "../src/sources/bounded-fetch.js";

/** The ranges that a server hears. */
async function ranges(...asked: (string | undefined)[]): Promise<(string | null)[]> {
  const heard: (string | null)[] = [];
  const fetch = boundedFetch(async (_url, init) => {
    heard.push(new Headers(init.headers).get("range"));
    return new Response("");
  });
  for (const range of asked) await fetch("https://e.test/m", { headers: range === undefined ? {} : { range, accept: "*/*" } });
  return heard;
}

test("the rest of a file is asked for in pieces of a mebibyte", async () => {
  assert.deepEqual(await ranges(undefined, "bytes=0-", "bytes=1048576-"), ["bytes=0-1048575", "bytes=0-1048575", "bytes=1048576-2097151"]);
});

test("a range with an end stays, and so does all else of a request", async () => {
  assert.deepEqual(await ranges("bytes=5-9", "bytes=-4"), ["bytes=5-9", "bytes=-4"]);
  const signal = new AbortController().signal;
  const fetch = boundedFetch(async (url, init) => {
    assert.deepEqual([url, init.signal, new Headers(init.headers).get("accept")], ["https://e.test/m", signal, "*/*"]);
    return new Response("");
  });
  await fetch("https://e.test/m", { signal, headers: { accept: "*/*" } });
});
