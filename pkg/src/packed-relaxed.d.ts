// scripts/build.mjs writes dist/packed-relaxed.js.
/** emberglass-relaxed.wasm, compressed with gzip, as base64. */
declare const text: string;
export default text;
