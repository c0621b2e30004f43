// A plugin for Vite: builds the service worker, sw.js, with the list of the files that it stores, and adds the legal notices.
import { createHash } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build, type Plugin, type Rollup } from "vite";

/** The pages that work without a network. The bench page downloads its peers and models, and so it needs one. */
const PAGES = ["index.html", "image.html"];
const NOTICES = ["NOTICE.md", "LICENSE-MIT", "LICENSE-APACHE"];
/**
 * Parts of the package that these pages never run: the engine packed into JavaScript, which their policy refuses, and the engine
 * in the thread of a worker that calls it.
 */
const NEVER_RUN = /^assets\/(packed-|in-thread-)/;
const HASHED = /^assets\//;

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export function siteFiles(): Plugin {
  return {
    name: "site-files",
    apply: "build",
    async generateBundle() {
      for (const fileName of NOTICES) this.emitFile({ type: "asset", fileName, source: await readFile(here(`../${fileName}`)) });
    },
    async writeBundle({ dir }, bundle) {
      if (dir === undefined) throw new Error("the site is built into a folder");
      const names = [...PAGES, ...neededBy(PAGES, bundle), ...NOTICES, ...(await publicFiles())];
      const list = await Promise.all(names.map(async (url) => siteFile(url, await readFile(`${dir}/${url}`))));
      await buildServiceWorker(dir, list);
    },
  };
}

/** The files that the pages load, directly and by one another. */
function neededBy(pages: string[], bundle: Rollup.OutputBundle): string[] {
  const found = new Set<string>();
  const follow = (name: string) => {
    if (found.has(name) || NEVER_RUN.test(name)) return;
    found.add(name);
    const file = bundle[name];
    if (file?.type !== "chunk") return;
    const { importedAssets = new Set(), importedCss = new Set() } = file.viteMetadata ?? {};
    for (const other of [...file.imports, ...file.dynamicImports, ...importedAssets, ...importedCss]) follow(other);
  };
  for (const page of pages) {
    const html = bundle[page];
    if (html?.type !== "asset") throw new Error(`the build has no page ${page}`);
    // Relative, as `base` makes them.
    for (const [, name] of String(html.source).matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)) follow(name!);
  }
  return [...found].sort();
}

/** The files of public/, which Vite copies as they are. The large icons are asked for once, when the page is installed. */
async function publicFiles(): Promise<string[]> {
  const entries = await readdir(here("public"), { withFileTypes: true, recursive: true });
  const root = here("public/");
  return entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith("-512.png"))
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(root.length).replaceAll("\\", "/"))
    .sort();
}

function siteFile(url: string, content: Buffer) {
  const digest = createHash("sha256").update(content);
  const integrity = digest.copy().digest("base64");
  return { url, revision: HASHED.test(url) ? null : digest.digest("hex").slice(0, 16), integrity: `sha256-${integrity}` };
}

/** A classic script in one file: Firefox has no service workers that are modules before version 147. */
async function buildServiceWorker(outDir: string, list: unknown[]): Promise<void> {
  await build({
    configFile: false,
    publicDir: false,
    logLevel: "warn",
    define: { SITE_FILES: JSON.stringify(list) },
    build: {
      outDir,
      emptyOutDir: false,
      rollupOptions: { input: here("service-worker/main.ts"), output: { format: "iife", entryFileNames: "sw.js" } },
    },
  });
}
