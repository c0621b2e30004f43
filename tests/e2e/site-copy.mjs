// The built site in memory, served from a subfolder as a plain static host does: no headers but the type. It can stop, come
// back, and hold another version.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import http from "node:http";
import { extname, join, relative } from "node:path";

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
};
const TEXT = new Set([".html", ".js", ".css", ".json", ".webmanifest"]);

/** The files of a folder by their path in it; those that `leaveOut` matches are left out. */
export function filesOf(folder, leaveOut = /^$/) {
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
  const paths = entries.map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll("\\", "/"));
  return new Map(paths.filter((path) => !leaveOut.test(path)).map((path) => [path, readFileSync(join(folder, path))]));
}

/** The site as the next version would be: every file of assets/ has another name, and the page another title. */
export function nextVersion(files, title) {
  const renamed = (path) => path.replace(/^(assets\/.+)(\.\w+)$/, `$1-${title}$2`);
  const names = [...files.keys()].filter((path) => path.startsWith("assets/")).map((path) => path.slice("assets/".length));
  const pattern = new RegExp(names.map((name) => name.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|"), "g");
  const rename = (text) => text.replaceAll(pattern, (name) => renamed(`assets/${name}`).slice("assets/".length));
  const next = new Map(
    [...files].map(([path, content]) => [renamed(path), TEXT.has(extname(path)) ? Buffer.from(rename(content.toString())) : content]),
  );
  next.set("index.html", Buffer.from(next.get("index.html").toString().replace("<title>Emberglass", `<title>${title}`)));
  return withDigests(next);
}

/** The list in sw.js, made right again. */
function withDigests(files) {
  const entry = /url:`([^`]+)`,revision:(?:null|`[^`]+`),integrity:`[^`]+`/g;
  const list = files.get("sw.js").toString().replace(entry, (_, url) => {
    const digest = createHash("sha256").update(files.get(url)).digest("base64");
    const revision = url.startsWith("assets/") ? "null" : `\`${digest}\``;
    return `url:\`${url}\`,revision:${revision},integrity:\`sha256-${digest}\``;
  });
  return new Map([...files, ["sw.js", Buffer.from(list)]]);
}

/** Serves files below a subfolder. `log` has the path of every request; `stop` ends it, `start` takes the same port again. */
export class StaticHost {
  log = [];
  files;
  #server;
  #port = 0;

  constructor(files) {
    this.files = files;
  }

  get site() {
    return `http://localhost:${this.#port}/some/folder`;
  }

  async start() {
    this.#server = http.createServer((request, response) => this.#answer(request, response));
    await new Promise((resolve) => this.#server.listen(this.#port, "localhost", resolve));
    this.#port = this.#server.address().port;
  }

  async stop() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    // Not before: a connection that came in between would be waited for.
    this.#server.closeAllConnections();
    await closed;
  }

  #answer(request, response) {
    const { pathname } = new URL(request.url, this.site);
    const path = decodeURIComponent(pathname).replace(/^\/some\/folder\//, "").replace(/^$/, "index.html");
    this.log.push(path);
    const content = this.files.get(path);
    // So that nothing but a service worker can have kept it.
    const headers = { "cache-control": "no-store", "content-type": TYPES[extname(path)] ?? "application/octet-stream" };
    if (content === undefined) response.writeHead(404, { "content-type": "text/plain" }).end("not found\n");
    else response.writeHead(200, { ...headers, "content-length": content.length }).end(request.method === "HEAD" ? undefined : content);
  }
}
