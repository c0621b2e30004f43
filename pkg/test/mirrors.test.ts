import assert from "node:assert/strict";
import { test } from "node:test";
import type { WireError } from "../src/errors.js";
import type { ModelFile } from "../src/sources/find-files.js";
import { mirroredFetch } from "../src/sources/mirrors.js";

const [A, B, C] = ["https://a.test/m", "https://b.test/m", "https://c.test/m"] as const;
const BYTES = Uint8Array.from({ length: 100 }, (_, i) => i);

type Answer = (init: RequestInit) => Response | Promise<Response>;

/** The file, or its rest where a range is asked for, with a tag. */
const gives =
  (tag: string, bytes = BYTES): Answer =>
  ({ headers }) => {
    const from = Number(/^bytes=(\d+)-$/.exec(new Headers(headers).get("range") ?? "")?.[1] ?? 0);
    const common = { etag: tag, "content-length": String(bytes.length - from), "last-modified": tag };
    return from === 0
      ? new Response(bytes, { headers: common })
      : new Response(bytes.slice(from), { status: 206, headers: { ...common, "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } });
  };
const says =
  (status: number, headers: HeadersInit = {}): Answer =>
  () =>
    new Response("", { status, headers });
const fails: Answer = () => Promise.reject(new TypeError("failed"));
/** Rejects once the request is aborted, as a browser does. */
function aborted(signal: AbortSignal | null | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const abort = () => reject(signal?.reason as Error);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort);
  });
}

/** Ten bytes, and then what `end` does. */
const begins =
  (end: (out: ReadableStreamDefaultController<Uint8Array>) => void): Answer =>
  ({ signal }) => {
    let sent = false;
    const body = new ReadableStream<Uint8Array>(
      {
        pull(out) {
          if (sent) {
            end(out);
            return aborted(signal);
          }
          sent = true;
          out.enqueue(BYTES.slice(0, 10));
          return undefined;
        },
      },
      { highWaterMark: 0 },
    );
    return new Response(body, { headers: { "content-length": "100", etag: '"begun"' } });
  };

function mirrored(answers: Record<string, Answer>, file: Partial<ModelFile> = {}, limits = {}) {
  const asked: string[] = [];
  const seen: RequestInit[] = [];
  const state: { fault: WireError | undefined } = { fault: undefined };
  const addresses = Object.keys(answers) as [string, ...string[]];
  const fetch = mirroredFetch(
    [{ addresses, ...file }],
    async (url, init) => {
      asked.push(url);
      seen.push(init);
      return answers[url]!(init);
    },
    { limits, onFault: (fault) => (state.fault = fault) },
  );
  const ask = (from = 0, signal?: AbortSignal) =>
    fetch(addresses[0], { headers: from === 0 ? {} : { range: `bytes=${from}-` }, ...(signal ? { signal } : {}) });
  return { ask, asked, seen, state, fetch };
}

const bytesOf = async (response: Response) => [...new Uint8Array(await response.arrayBuffer())];

test("the next address is asked where one fails, and the one that works stays", async () => {
  for (const first of [fails, says(404), says(401), says(403), says(429), says(500)]) {
    const { ask, asked, state } = mirrored({ [A]: first, [B]: gives('"b"') });
    assert.deepEqual(await bytesOf(await ask()), [...BYTES]);
    await ask(50);
    assert.deepEqual(asked, [A, B, B]);
    assert.equal(state.fault, undefined);
  }
});

test("a mirror that breaks off is left, and the next goes on with the rest", async () => {
  const breaks = [begins((out) => out.error(new Error("reset"))), begins((out) => out.close())];
  for (const first of breaks) {
    const { ask, asked } = mirrored({ [A]: first, [B]: gives('"b"') });
    await bytesOf(await ask()).catch(() => {});
    const rest = await ask(10);
    assert.deepEqual(await bytesOf(rest), [...BYTES.slice(10)]);
    assert.deepEqual(asked, [A, B]);
    // Tags of two servers differ for the same file, and the engine would take that for another file.
    assert.deepEqual([rest.headers.get("etag"), rest.headers.get("last-modified")], [null, null]);
  }
});

test("a mirror that falls silent is left when the engine gives the request up; one that was read enough is not", async () => {
  const { ask, asked } = mirrored({ [A]: begins(() => {}), [B]: gives('"b"') });
  const stall = new AbortController();
  const reader = (await ask(0, stall.signal)).body!.getReader();
  assert.equal((await reader.read()).value?.length, 10);
  const waiting = reader.read();
  stall.abort();
  await assert.rejects(waiting);
  await ask(10);
  assert.deepEqual(asked, [A, B]);

  const enough = mirrored({ [A]: begins(() => {}), [B]: gives('"b"') });
  const jump = new AbortController();
  await (await enough.ask(0, jump.signal)).body!.getReader().read();
  jump.abort();
  await enough.ask(50);
  assert.deepEqual(enough.asked, [A, A]);
});

test("a silent mirror does not take the time of the next", async () => {
  const silent: Answer = ({ signal }) => aborted(signal);
  const { ask, asked } = mirrored({ [A]: silent, [B]: gives('"b"') }, {}, { stallTimeoutMs: 10 });
  assert.deepEqual(await bytesOf(await ask()), [...BYTES]);
  assert.deepEqual(asked, [A, B]);
});

test("another file is refused: of another length, or changed on its mirror", async () => {
  const longer = gives('"longer"', new Uint8Array(101));
  const first = mirrored({ [A]: longer, [B]: gives('"b"') }, { bytes: 100 });
  assert.deepEqual(await bytesOf(await first.ask()), [...BYTES]);
  assert.deepEqual(first.asked, [A, B]);

  const later = mirrored({ [A]: begins((out) => out.error(new Error("reset"))), [B]: longer });
  await bytesOf(await later.ask()).catch(() => {});
  // B has another file, A breaks again: it is the only one.
  assert.equal((await later.ask(10)).status, 200);
  assert.deepEqual(later.asked, [A, B, A]);

  // Sizes that other origins hide are told from the length of what they send.
  const hidden = (answer: Answer): Answer => async (init) => {
    const response = await answer(init);
    response.headers.delete("content-range");
    return Object.defineProperty(response, "type", { value: "cors" });
  };
  const begun = hidden(begins((out) => out.error(new Error("reset"))));
  const same = mirrored({ [A]: begun, [B]: hidden(gives('"b"')) });
  await bytesOf(await same.ask()).catch(() => {});
  assert.deepEqual(await bytesOf(await same.ask(10)), [...BYTES.slice(10)]);
  assert.deepEqual(same.asked, [A, B]);
  const mute: Answer = async (init) => {
    const response = await hidden(gives('"b"'))(init);
    response.headers.delete("content-length");
    return response;
  };
  for (const wrong of [hidden(longer), mute]) {
    const crossed = mirrored({ [A]: begun, [B]: wrong });
    await bytesOf(await crossed.ask()).catch(() => {});
    await crossed.ask(10);
    assert.deepEqual(crossed.asked, [A, B, A]);
  }

  const none = mirrored({ [A]: longer, [B]: says(404) }, { bytes: 100 });
  await assert.rejects(none.ask(), { fatal: true, message: "https://a.test/m has another file, of 101 bytes instead of 100" });
  assert.deepEqual([none.state.fault?.code, none.state.fault?.detail], ["network", "wrong-answer"]);

  let nth = 0;
  const changing = mirrored({ [A]: (init) => gives(nth++ === 0 ? '"1"' : '"2"')(init), [B]: says(404) });
  await ask(changing);
  await assert.rejects(changing.ask(10), { fatal: true, message: /has another file than before/ });
  const encoded = mirrored({ [A]: (init) => gives(nth++ % 2 === 0 ? '"1"' : 'W/"1-gzip"')(init), [B]: says(404) });
  await ask(encoded);
  assert.equal((await encoded.ask(10)).status, 206);
});

async function ask({ ask }: { ask: () => Promise<Response> }): Promise<void> {
  await ask();
}

test("where none gives the file, the error names each and what it said", async () => {
  const statuses = mirrored({ [`${A}?signature=secret`]: says(404), [B]: says(403) });
  assert.equal((await statuses.ask()).status, 404);
  assert.deepEqual(statuses.state.fault, {
    code: "http-status",
    message: "no mirror gives the file: https://a.test/m answered 404; https://b.test/m answered 403",
    url: "https://a.test/m",
    status: 404,
  });
  // The engine gets the one after which it asks again: then all are asked again.
  const mixed = mirrored({ [A]: says(404), [B]: says(429, { "retry-after": "1" }), [C]: says(410) });
  assert.equal((await mixed.ask()).status, 429);
  assert.equal((await mixed.ask()).headers.get("retry-after"), "1");
  assert.deepEqual(mixed.asked, [A, B, C, A, B, C]);
  const lost = mirrored({ [A]: says(404), [B]: fails });
  await assert.rejects(lost.ask(), TypeError);
  assert.deepEqual([lost.state.fault?.code, lost.state.fault?.detail], ["network", "lost"]);
  assert.match(lost.state.fault?.message ?? "", /a\.test\/m answered 404; https:\/\/b\.test\/m could not be reached$/);
});

test("cancelling asks no other mirror", async () => {
  const stop = new AbortController();
  stop.abort();
  const { ask, asked } = mirrored({ [A]: ({ signal }) => Promise.reject(signal?.reason as Error), [B]: gives('"b"') });
  await assert.rejects(ask(0, stop.signal), { name: "AbortError" });
  assert.deepEqual(asked, [A]);
});

test("one address: its answer as it is, with the file's headers, and a hub's refusal in words", async () => {
  const answer = new Response(BYTES);
  const gated = "https://a.test/o/r/resolve/main/m.gguf";
  const one = mirrored({ [A]: () => answer }, { headers: { Authorization: "Bearer secret" } });
  assert.equal(await one.fetch(A, { headers: { range: "bytes=5-" } }), answer);
  assert.deepEqual([...new Headers(one.seen[0]!.headers)], [["authorization", "Bearer secret"], ["range", "bytes=5-"]]);
  const refused = mirrored({ [gated]: says(401, { "x-error-code": "GatedRepo" }) });
  assert.equal((await refused.ask()).status, 401);
  assert.equal(refused.state.fault?.detail, "gated");
  assert.match(refused.state.fault?.message ?? "", /answered 401 for .*: the model is gated: ask for access at https:\/\/a\.test\/o\/r, and give/);
  const plain = mirrored({ [A]: says(404) });
  assert.equal((await plain.ask()).status, 404);
  assert.equal(plain.state.fault, undefined);
});
