// scripts/build.mjs writes dist/packed-simd128.js.
/** emberglass-simd128.wasm, compressed with gzip, as base64. */
declare const text: string;
export default text;
