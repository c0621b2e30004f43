// Loads at random over faults of servers, versions of a file, damage, want of room, tabs and cancelling: what the engine gets is always
// one version of the file as a whole, whatever goes wrong, and a healthy server mends everything.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser, bytesOf, CHUNK, digestOf, type Faults, MemoryStore, open, Reader, Server } from "./stored-load.js";

const SIZES = [1, 999, 1000, 1001, 2000, 3700, 5000, 5300];
/** The last ones have found faults that the others have not. */
const SEEDS = [...Array.from({ length: 250 }, (_, i) => i + 1), 711, 826, 1881];

/** The same numbers for the same seed. */
function randomly(seed: number): (below: number) => number {
  let state = seed * 7919;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function faults(random: (below: number) => number): Faults {
  const some: Faults = {};
  if (random(3) === 0) some.breaks = Array.from({ length: random(4) }, () => random(2500));
  if (random(6) === 0) some.ignoresRanges = true;
  if (random(6) === 0) some.noLength = true;
  // A wrong start that is hidden, too, cannot be found.
  if (random(8) === 0) some.startsAtZero = true;
  else if (random(10) === 0) some.hides = true;
  if (random(6) === 0) some.cap = 1 + random(1500);
  else if (random(5) === 0) some.gzip = true;
  if (random(20) === 0) some.status = [404, 416, 503, 500, 403][random(5)] as number;
  return some;
}

async function run(seed: number): Promise<void> {
  const random = randomly(seed);
  const [server, store, browser] = [new Server(bytesOf(SIZES[random(SIZES.length)] as number, seed)), new MemoryStore(), new Browser()];
  const versions = [server.bytes];
  const isOne = (bytes: Uint8Array, length = Infinity) => versions.some((version) => Buffer.compare(bytes, version.slice(0, length)) === 0);

  const change = (step: number) => {
    server.bytes = bytesOf([server.bytes.length, Math.max(1, server.bytes.length - 700), server.bytes.length + 1300][random(3)] as number, seed + 1000 * step);
    server.sent = new Uint8Array(server.bytes.length);
    server.etag = `"${step}"`;
    versions.push(server.bytes);
  };
  const damage = () => {
    const indices = store.indices();
    const index = indices[random(indices.length)];
    if (index === undefined) return;
    const { bytes } = store.chunk(index);
    if (random(2) === 0) store.drop(index);
    else bytes[random(bytes.length)]! ^= 1;
  };
  /** The error; undefined where the load succeeded, or was given up. */
  const tab = async (isCancelled: boolean, sha256: string[] | undefined): Promise<unknown> => {
    const files = await open(server, { store, browser, stallMs: 90, request: sha256 ? { sha256 } : {} });
    const length = isCancelled ? random(3000) : undefined;
    try {
      const reader = new Reader(files);
      reader.mostRetries = 3;
      const bytes = await reader.read(0, length);
      assert.ok(isOne(bytes, length), `${bytes.length} bytes are of no version`);
      if (!isCancelled) await files.finish();
      return undefined;
    } catch (thrown) {
      if (thrown instanceof assert.AssertionError) throw thrown;
      return files.fault ?? thrown;
    } finally {
      await files.close();
    }
  };

  for (let step = 1; step <= 4; step++) {
    server.faults = faults(random);
    if (random(3) === 0) change(step);
    if (random(2) === 0 && store.models.size > 0) damage();
    store.room = random(8) === 0 ? random(4) : Infinity;
    const sha256 = random(4) === 0 ? [digestOf(server.bytes)] : undefined;
    await Promise.all(Array.from({ length: 1 + random(3) }, () => tab(random(4) === 0, sha256)));
    assert.deepEqual(browser.held, []);
  }
  server.faults = {};
  store.room = Infinity;
  // Where the first finds that the file has changed, the second gets the new one.
  const error = await tab(false, undefined);
  if (error !== undefined) assert.equal(await tab(false, undefined), undefined);
  const whole = versions.find((version) => store.indices().every((i) => Buffer.compare(store.chunk(i).bytes, version.slice(i * CHUNK, (i + 1) * CHUNK)) === 0));
  assert.ok(whole && store.indices().length === Math.ceil(whole.length / CHUNK), "what is stored is no version as a whole");
}

test("loads at random", { timeout: 60_000 }, async () => {
  for (const seed of SEEDS) {
    await run(seed).catch((thrown: Error) => {
      throw new Error(`seed ${seed}: ${thrown.message}`, { cause: thrown });
    });
  }
});
