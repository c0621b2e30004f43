// Builds dist/ out of src/ and wasm/: the modules that pages import, the worker's script in one file, both wasm builds, and
// the same script and builds packed into JavaScript, for pages that the files do not reach. tsc writes the types.
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const PACKAGE = fileURLToPath(new URL("../", import.meta.url));
const DIST = `${PACKAGE}dist`;
const LEVELS = ["simd128", "relaxed"];

const common = {
  absWorkingDir: PACKAGE,
  bundle: true,
  format: "esm",
  target: "es2022",
  sourcemap: true,
  metafile: true,
  logLevel: "warning",
};

await rm(DIST, { recursive: true, force: true });
await mkdir(DIST);
await copyFile(`${PACKAGE}../NOTICE.md`, `${PACKAGE}NOTICE.md`);

const builds = await Promise.all(LEVELS.map(readBuild));
if (builds.some(({ glue }) => glue !== builds[0].glue)) {
  throw new Error(`the builds ${LEVELS.join(" and ")} take different JavaScript, so one worker script cannot serve both`);
}
for (const { level, wasm } of builds) {
  await writeFile(`${DIST}/emberglass-${level}.wasm`, wasm);
  await writePacked(level, gzipSync(wasm, { level: 9 }).toString("base64"));
}

// Nothing else need be loaded for the worker's script, so it needs no import.meta, and works as text as well. It runs as a
// module and as a classic script.
const worker = await build({
  ...common,
  format: "iife",
  entryPoints: { "emberglass-worker": "src/worker.ts" },
  outdir: DIST,
  minify: true,
  plugins: [{ name: "one glue", setup: takeGlue }],
});
const script = await readFile(`${DIST}/emberglass-worker.js`, "utf8");
if (/import\.meta|\bimport\(/.test(script)) throw new Error("emberglass-worker.js is not complete in itself");
await writePacked("worker", script.replace(/^\/\/# sourceMappingURL=.*$/m, ""));

const modules = await build({
  ...common,
  entryPoints: ["src/index.ts", "src/inline.ts", "src/in-thread.ts"],
  outdir: DIST,
  splitting: true,
  // Written above.
  external: ["./packed-*.js"],
  plugins: [{ name: "one glue", setup: takeGlue }],
});

// NOTICE.md names the packages whose code is in dist/, from the same list.
const { bundled } = JSON.parse(await readFile(`${PACKAGE}package.json`, "utf8"));
const inputs = [worker, modules].flatMap(({ metafile }) => Object.keys(metafile.inputs));
const found = new Set(inputs.map((path) => /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean));
if ([...found].sort().join() !== [...bundled].sort().join()) {
  throw new Error(`"bundled" in package.json lists ${bundled.join()}, and dist/ contains ${[...found].join()}`);
}

/**
 * The generated JavaScript and wasm of a build. wasm-bindgen names closures by hashes that differ from build to build, and
 * nothing else does: they are numbered here, in both.
 */
async function readBuild(level) {
  const folder = `${PACKAGE}wasm/${level}`;
  let glue = await readFile(`${folder}/emberglass.js`, "utf8");
  let wasm = await readFile(`${folder}/emberglass_bg.wasm`, "latin1");
  const names = new Set(glue.match(/(?<=_invoke__h)[0-9a-f]{16}\b/g));
  [...names].forEach((name, index) => {
    // Of the same length, so that the lengths in the wasm stay right.
    const number = String(index).padStart(name.length, "0");
    glue = glue.replaceAll(name, number);
    wasm = wasm.replaceAll(name, number);
  });
  return { level, glue, wasm: Buffer.from(wasm, "latin1") };
}

function takeGlue({ onLoad }) {
  onLoad({ filter: /[/\\]wasm[/\\]simd128[/\\]emberglass\.js$/ }, () => ({ contents: builds[0].glue, loader: "js" }));
}

/** A chunk of JavaScript that is nothing but a text. */
function writePacked(name, text) {
  return writeFile(`${DIST}/packed-${name}.js`, `export default ${JSON.stringify(text)};\n`);
}
