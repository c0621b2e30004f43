import assert from "node:assert/strict";
import { test } from "node:test";
import { LineRate } from "../src/line-rate.js";

/** A line on which pieces arrive at these milliseconds; what the reader gets, and the rate. */
async function measured(pieces: [ms: number, bytes: number][]): Promise<[number, number | null]> {
  let clock = 0;
  const line = new LineRate(() => clock);
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

test("an answer without a body passes, and addresses stay", async () => {
  const line = new LineRate();
  const none = new Response(null, { status: 204 });
  assert.equal(await line.over(async () => none)("https://e.test/m", {}), none);
  const some = Object.defineProperty(new Response("x"), "url", { value: "https://e.test/other" });
  const passed = await line.over(async () => some)("https://e.test/m", {});
  assert.equal(passed.url, "https://e.test/other");
  assert.ok(passed instanceof Response);
});
