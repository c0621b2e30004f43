// scripts/build.mjs writes dist/packed-worker.js.
/** The text of emberglass-worker.js. */
declare const text: string;
export default text;
