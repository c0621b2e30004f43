import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { hasRelaxedSimd, hasSimd, simdLevel } from "../src/simd.js";

test("this Node.js has fixed-width SIMD", () => {
  assert.equal(hasSimd(), true);
});

test("relaxed SIMD is found where it is, and only there", (t) => {
  const flag = "--experimental-wasm-relaxed-simd";
  const known = spawnSync(process.execPath, ["--v8-options"], { encoding: "utf8" }).stdout.includes(flag);
  if (!known) {
    // A V8 in which it is no experiment any more.
    assert.equal(simdLevel(), "relaxed");
    return;
  }
  t.diagnostic(`Node.js ${process.version} has relaxed SIMD as an experiment`);
  const print = `import(${JSON.stringify(new URL("../src/simd.js", import.meta.url))}).then((m) => console.log(m.simdLevel()))`;
  const level = (...flags: string[]) => spawnSync(process.execPath, [...flags, "-e", print], { encoding: "utf8" }).stdout.trim();
  assert.equal(level("--no-experimental-wasm-relaxed-simd"), "simd128");
  assert.equal(level(flag), "relaxed");
});

test("a browser whose WebAssembly validates nothing has no level", (t) => {
  t.mock.method(WebAssembly, "validate", () => false);
  assert.equal(hasRelaxedSimd(), false);
  assert.equal(simdLevel(), undefined);
});

test("the bytes are modules but for the instructions: SIMD alone decides", (t) => {
  const seen: Uint8Array[] = [];
  t.mock.method(WebAssembly, "validate", (bytes: Uint8Array) => seen.push(bytes) > 0);
  hasSimd();
  hasRelaxedSimd();
  assert.equal(seen.length, 2);
  for (const bytes of seen) {
    // A body that is nothing but `unreachable` fits the type as well.
    const plain = Uint8Array.of(...bytes.slice(0, bytes.indexOf(0x0a)), 0x0a, 0x05, 0x01, 0x03, 0x00, 0x00, 0x0b);
    assert.doesNotThrow(() => new WebAssembly.Module(plain));
  }
});
