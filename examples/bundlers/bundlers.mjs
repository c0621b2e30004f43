// The set-ups in which the package is tried, each as its users begin: by the bundler's own defaults.
// `cargo xtask bundlers` runs tests/e2e/bundlers.mjs, which builds and opens them.
// `build` is a command line, run in a copy of this folder. `serve` is the folder that it wrote, or with `dev` the command of
// a server that runs until it is ended, to which the port is added. `page` is the address to open.
// `packed` says that the bundler leaves the package's files behind, so that the packed copy runs.
const vite = (version) => `node node_modules/vite${version}/bin/vite.js`;

const WORKERS = { "own-worker": "own-worker/index.html", "shared-worker": "shared-worker/index.html" };

function viteOf(version, { devPacked }) {
  const name = `vite${version}`;
  const each = Object.entries(WORKERS).map(([kind, page]) => ({
    name: `${name}-${kind}`,
    // Vite before 8 builds a page's own worker without chunks, unless it is told otherwise.
    build: `${vite(version)} build ${kind} --base ./ --outDir ../dist --emptyOutDir${version < 8 ? " --config vite.worker.config.js" : ""}`,
    serve: "dist",
    page: "index.html",
    // Chromium's shared workers start no workers, and so no threads.
    alone: kind === "shared-worker",
  }));
  return [
    { name, build: `${vite(version)} build --base ./`, serve: "dist", page: "index.html" },
    { name: `${name}-dev`, dev: `${vite(version)} --force --strictPort --port`, page: "index.html", packed: devPacked },
    ...each,
  ];
}

export const BUNDLERS = [
  ...viteOf(5, { devPacked: true }),
  ...viteOf(6, { devPacked: true }),
  ...viteOf(7, { devPacked: true }),
  ...viteOf(8, { devPacked: false }),
  { name: "webpack", build: "npx webpack ./main.js --mode production -o dist", serve: "dist", script: "main.js" },
  { name: "webpack-own-worker", build: "npx webpack ./own-worker/main.js --mode production -o dist", serve: "dist", script: "main.js" },
  { name: "next", app: "next", build: "npx next build", serve: "out", page: "index.html" },
  { name: "esbuild", build: "npx esbuild main.js --bundle --outfile=dist/main.js", serve: "dist", script: "main.js", packed: true },
  { name: "esbuild-splitting", build: "npx esbuild main.js --bundle --format=esm --splitting --outdir=dist", serve: "dist", script: "main.js", packed: true },
  { name: "rollup", build: "npx rollup main.js -p node-resolve -d dist", serve: "dist", script: "main.js", packed: true },
  { name: "inline", build: "npx esbuild inline.js --bundle --outfile=dist/main.js", serve: "dist", script: "main.js" },
  // No bundler: a page imports the package from another origin.
  { name: "cdn", cdn: true, page: "cdn.html", script: "main.js" },
  { name: "parcel", build: "npx parcel build index.html --no-cache --public-url ./", serve: "dist", page: "index.html" },
];
