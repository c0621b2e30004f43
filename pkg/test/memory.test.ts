// Which memory the engine gets.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { newMemory } from "../src/memory.js";

/** A browser that reserves so many pages at most. */
function reserves(t: TestContext, most: number): number[] {
  const asked: number[] = [];
  const { Memory } = WebAssembly;
  t.after(() => {
    WebAssembly.Memory = Memory;
  });
  WebAssembly.Memory = class extends Memory {
    constructor(descriptor: WebAssembly.MemoryDescriptor) {
      asked.push(descriptor.maximum!);
      if (descriptor.maximum! > most) throw new RangeError("could not allocate memory");
      super(descriptor);
    }
  };
  return asked;
}

test("the memory is shared, and grows as far as addresses reach", () => {
  const { memory, mostBytes } = newMemory();
  assert.ok(memory.buffer instanceof SharedArrayBuffer);
  assert.equal(mostBytes, 2 ** 32);
});

test("a browser that reserves less gives a smaller one", (t) => {
  const asked = reserves(t, 20_000);
  const { memory, mostBytes } = newMemory();
  assert.deepEqual(asked, [65_536, 32_768, 16_384]);
  assert.equal(mostBytes, 2 ** 30);
  assert.throws(() => memory.grow(16_384), RangeError);
});

test("a browser that gives none says why", (t) => {
  reserves(t, 0);
  assert.throws(newMemory, /^Error: the browser gives the engine no memory \(could not allocate memory\)$/);
});
