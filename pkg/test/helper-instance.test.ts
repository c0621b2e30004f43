// A helper's instance of a module: a small one, assembled here, in the place of the engine's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startInstance } from "../src/helper-instance.js";

const text = (name: string) => [name.length, ...new TextEncoder().encode(name)];
const section = (id: number, ...bytes: number[]) => [id, bytes.length, ...bytes];

/**
 * Its `crew_help(control, index)` notes the stack pointer at control + 4, the index at + 8 and one call more at + 12. It returns
 * the word at control, and leaves -1 there. With `calls`, it calls the function that it imports.
 */
function moduleThat(calls: boolean): WebAssembly.Module {
  const [control, index, first] = [0, 1, 2].map((local) => [0x20, local]) as [number[], number[], number[]];
  const load = (offset: number) => [0x28, 2, offset];
  const store = (offset: number) => [0x36, 2, offset];
  const body = [
    ...[1, 1, 0x7f], // one local of 32 bits
    ...(calls ? [0x10, 0] : []),
    ...control, ...load(0), 0x21, 2,
    ...control, ...[0x23, 0], ...store(4),
    ...control, ...index, ...store(8),
    ...control, ...control, ...load(12), 0x41, 1, 0x6a, ...store(12),
    ...control, 0x41, 0x7f, ...store(0),
    ...first, 0x0b,
  ];
  return new WebAssembly.Module(
    Uint8Array.of(
      ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
      ...section(1, 2, 0x60, 0, 0, 0x60, 2, 0x7f, 0x7f, 1, 0x7f), // types: () and (i32, i32) -> i32
      ...section(2, 2, ...text("env"), ...text("memory"), 2, 3, 1, 2, ...text("glue"), ...text("alert"), 0, 0),
      ...section(3, 1, 1),
      ...section(6, 1, 0x7f, 1, 0x41, 7, 0x0b), // a mutable global, 7
      ...section(7, 2, ...text("__stack_pointer"), 3, 0, ...text("crew_help"), 0, 1),
      ...section(10, 1, body.length, ...body),
    ),
  );
}

const PLACE = { control: 16, stackTop: 4096, bell: 64, dead: 68 };
const shared = () => new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true });

test("a helper computes on the engine's memory, on its own stack, until it is told to leave", async () => {
  const memory = shared();
  const words = new Int32Array(memory.buffer);
  words[4] = 5; // what the first call returns
  words[16] = 6; // the bell has been rung since
  const run = await startInstance({ module: moduleThat(false), memory, place: PLACE, index: 3 });
  assert.equal(words[7], 0, "it computes nothing before it is told to");
  run();
  assert.deepEqual([...words.slice(4, 8)], [-1, 4096, 3, 2]);
});

test("a helper whose bell is silent sleeps until it is rung", async () => {
  const memory = shared();
  const words = new Int32Array(memory.buffer);
  words[4] = words[16] = 5;
  const run = await startInstance({ module: moduleThat(false), memory, place: PLACE, index: 0 });
  const slept: unknown[][] = [];
  const { wait } = Atomics;
  Atomics.wait = ((...given: unknown[]) => {
    slept.push(given.slice(1));
    return "ok";
  }) as typeof wait;
  try {
    run();
  } finally {
    Atomics.wait = wait;
  }
  assert.deepEqual(slept, [[16, 5]]);
});

test("what only the engine may call is an error that names it", async () => {
  const run = await startInstance({ module: moduleThat(true), memory: shared(), place: PLACE, index: 0 });
  assert.throws(run, /^Error: a helper called alert, which only the engine may$/);
});
