// Functions of a browser that refuse shared memory work with it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { copySharedViews, type ViewScope } from "../src/shared-views.js";

function refuseShared({ buffer }: Uint8Array): void {
  if (buffer instanceof SharedArrayBuffer) throw new TypeError("must not be shared");
}

/** A scope as a browser's; what its queue was given lies in `written`. */
function scope() {
  const written: unknown[][] = [];
  const crypto = {
    getRandomValues(view: Uint8Array) {
      assert.equal(this, crypto);
      refuseShared(view);
      return view.fill(7);
    },
  };
  class GPUQueue {
    writeBuffer(...given: unknown[]): void {
      refuseShared(given[2] as Uint8Array);
      written.push([this, ...given]);
    }
  }
  const all = { crypto, GPUQueue } as unknown as ViewScope & { GPUQueue: typeof GPUQueue };
  copySharedViews(all);
  return { ...all, written };
}

const shared = () => new Uint8Array(new SharedArrayBuffer(8), 2, 4);

test("random bytes get into shared memory, and nowhere else", () => {
  const { crypto } = scope();
  for (const view of [shared(), new Uint8Array(new ArrayBuffer(8), 2, 4)]) {
    assert.equal(crypto.getRandomValues(view), view);
    assert.deepEqual([...new Uint8Array(view.buffer)], [0, 0, 7, 7, 7, 7, 0, 0]);
  }
});

test("the GPU's queue gets a copy of shared bytes, and everything else as it was", () => {
  const { GPUQueue, written } = scope();
  const queue = new GPUQueue();
  const view = shared().fill(3);
  queue.writeBuffer("buffer", 16, view, 0, 4);
  const own = Uint8Array.of(1);
  queue.writeBuffer("buffer", 32, own);
  assert.deepEqual(written, [[queue, "buffer", 16, Uint8Array.of(3, 3, 3, 3), 0, 4], [queue, "buffer", 32, own]]);
  assert.equal(written[1]![3], own);
});

test("a scope without WebGPU is as good", () => {
  const { crypto } = scope();
  copySharedViews({ crypto });
  assert.equal(crypto.getRandomValues(shared())?.constructor, Uint8Array);
});
