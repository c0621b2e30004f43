// Builds dist-one-file/index.html: the chat page and the picture page in one HTML file that needs no other, and asks the
// network for nothing. `cargo xtask one-file` puts a model into it, at the two places marked `embedded`.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { defineConfig, type Plugin, type Rollup } from "vite";

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");
const hash = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** In place of the icon's address. Neither quotes nor brackets, so that it fits into HTML and into any string of JavaScript. */
const ICON = `data:image/svg+xml;base64,${Buffer.from(read("public/favicon.svg")).toString("base64")}`;
/** Pages are reached by these addresses; src/one-file.ts knows the second. */
const LINKS: [string, string][] = [["./favicon.svg", ICON], ["./image.html", "?pictures"], ['href="./"', 'href="?"']];
const NOTICES = ["../NOTICE.md", "public/emoji/NOTICE.md", "../LICENSE-MIT", "../LICENSE-APACHE"];

const oneFile: Plugin = {
  name: "one-file",
  generateBundle: {
    order: "post",
    handler(_, bundle) {
      const files = Object.values(bundle);
      const chunks = files.filter((file): file is Rollup.OutputChunk => file.type === "chunk");
      const style = files.find((file): file is Rollup.OutputAsset => file.type === "asset" && file.fileName.endsWith(".css"));
      const [script] = chunks;
      if (!script || chunks.length > 1 || !style) {
        throw new Error(`one script and one style were to come out, not ${Object.keys(bundle).join(", ")}`);
      }
      // The rest are the engine's own files, of which the script holds a packed copy.
      for (const name of Object.keys(bundle)) delete bundle[name];
      this.emitFile({ type: "asset", fileName: "index.html", source: page(script.code, String(style.source)) });
    },
  },
};

function page(code: string, css: string): string {
  // In HTML these would end the script, or change how its end is found. Inside strings and patterns, where they are, \x3c is the same.
  const script = relinked(code).replace(/<(?=!--|\/?script)/gi, "\\x3c");
  if (/<\/style|url\(|@import/i.test(css)) throw new Error("the style would end early, or asks for a file");
  const policy = [
    "default-src 'none'",
    `script-src ${hash(script)} 'wasm-unsafe-eval'`,
    "worker-src blob:",
    `style-src ${hash(css)}`,
    "img-src data: blob:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const chat = read("index.html");
  const head = part(chat, "head")
    .replace(/(http-equiv="Content-Security-Policy"\s+content=")[^"]*/, `$1${policy}`)
    .replace(/ *<link rel="stylesheet".*\n/g, "")
    .replace(/ *<link rel="manifest".*\n/g, "");
  const html = `<!doctype html>
<html lang="en">
  <head>
    <meta name="generator" content="Emberglass one-file" />${relinked(head)}  <style>${css}</style>
    <script type="application/json" id="embedded"></script>
  </head>
  <body>
    <noscript><p class="noscript">Emberglass computes in this page, so it needs JavaScript.</p></noscript>
    <template id="chat-page">${body(chat)}</template>
    <template id="pictures-page">${body(read("image.html"))}</template>
    <template id="licences">${escaped(NOTICES.map(read).join("\n\n"))}</template>
    <script type="module" async>${script}</script>
    <!-- embedded -->
  </body>
</html>
`;
  const address = /(?:src|href)="(?!data:|#|\?)[^"]*"/.exec(html.replace(script, ""));
  if (address) throw new Error(`the page would ask for a file: ${address[0]}`);
  return html;
}

function body(html: string): string {
  return relinked(part(html, "body").replace(/ *<(script|noscript)\b[^]*?<\/\1>\n/g, ""));
}

function part(html: string, name: "head" | "body"): string {
  const found = new RegExp(`<${name}[^>]*>([^]*)</${name}>`).exec(html)?.[1];
  if (found === undefined) throw new Error(`a page has no ${name}`);
  return found;
}

function relinked(text: string): string {
  return LINKS.reduce((text, [from, to]) => text.replaceAll(from, to), text);
}

export default defineConfig({
  plugins: [oneFile],
  publicDir: false,
  // The engine comes out of the script, since nothing lies beside it.
  resolve: { alias: [{ find: /^emberglass$/, replacement: "emberglass/inline" }] },
  build: {
    outDir: "dist-one-file",
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: false,
    chunkSizeWarningLimit: 4000,
    rollupOptions: { input: "src/one-file.ts", output: { codeSplitting: false } },
  },
});
