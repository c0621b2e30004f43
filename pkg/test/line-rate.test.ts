import assert from "node:assert/strict";
import { test } from "node:test";
import { LineRate } from "../src/line-rate.js";

/** A line on which pieces arrive at these milliseconds; what the reader gets, and the rate. */
async function measured(pieces: [ms: number, bytes: number][]): Promise<[number, number | null]> {
  let clock = 0;
  const line = new LineRate(Infinity, () => clock);
  let at = 0;
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      pull(controller) {
        const piece = pieces[at++];
        if (!piece) return controller.close();
        clock = piece[0];
        controller.enqueue(new Uint8Array(piece[1]));
      },
    },
    { highWaterMark: 0 },
  );
  const response = await line.over(async () => new Response(body))("https://e.test/m", {});
  const got = await new Response(response.body).arrayBuffer();
  return [got.byteLength, line.bytesPerSecond];
}

test("the rate is that of what follows the first piece, whose wait is the server's", async () => {
  // 800 kB in 40 ms.
  assert.deepEqual(await measured([[500, 200_000], [520, 400_000], [540, 400_000]]), [1_000_000, 20_000_000]);
});

test("too little, or too fast to tell, is no rate", async () => {
  assert.deepEqual(await measured([[0, 500_000], [5, 500_000]]), [1_000_000, null]);
  assert.deepEqual(await measured([[0, 1000], [50, 1000]]), [2000, null]);
  assert.deepEqual(await measured([[0, 2_000_000]]), [2_000_000, null]);
  assert.deepEqual(await measured([]), [0, null]);
});

test("a line that falls silent, or breaks, is the engine's to judge", async () => {
  const line = new LineRate(10);
  const silent = new ReadableStream<Uint8Array<ArrayBuffer>>({ start: (controller) => controller.enqueue(new Uint8Array(3)), pull: () => new Promise(() => {}) });
  const reader = (await line.over(async () => new Response(silent))("https://e.test/m", {})).body!.getReader();
  assert.equal((await reader.read()).value?.length, 3);

  let pulls = 0;
  const broken = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      if (pulls++ > 0) throw new TypeError("network error");
      controller.enqueue(new Uint8Array(4));
    },
  });
  const rest = (await line.over(async () => new Response(broken))("https://e.test/m", {})).body!.getReader();
  assert.equal((await rest.read()).value?.length, 4);
  await assert.rejects(rest.read(), /network error/);
});

test("of a long answer a mebibyte is read ahead, and the rest as the engine asks", async () => {
  let [pulled, cancelled] = [0, false];
  const long = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      pulled += 256 << 10;
      controller.enqueue(new Uint8Array(256 << 10));
    },
    cancel: () => void (cancelled = true),
  });
  const { body } = await new LineRate().over(async () => new Response(long))("https://e.test/m", {});
  assert.ok(pulled <= 2 << 20, String(pulled));
  await body!.cancel();
  assert.equal(cancelled, true);
});

test("an answer without a body passes, and addresses stay", async () => {
  const line = new LineRate();
  const none = new Response(null, { status: 204 });
  assert.equal(await line.over(async () => none)("https://e.test/m", {}), none);
  const some = Object.defineProperty(new Response("x"), "url", { value: "https://e.test/other" });
  const passed = await line.over(async () => some)("https://e.test/m", {});
  assert.equal(passed.url, "https://e.test/other");
  assert.ok(passed instanceof Response);
});
