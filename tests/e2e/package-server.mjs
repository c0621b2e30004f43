// The site again, on another port, and beside it the npm package as it was built, with package.html to import it.
import { readFile } from "node:fs/promises";
import http from "node:http";
import { extname } from "node:path";
import { tinyModel } from "./tiny-model.mjs";

const PACKAGE = new URL("../../pkg/", import.meta.url);
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".wasm": "application/wasm" };
/** What threads need. */
const ISOLATION = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
};

/**
 * The page is `/package/`; beside it are `dist`, `wasm`, `tiny.gguf` and `tiny-chat.gguf`. `answer` may take a request and returns whether it
 * did. `headers` are sent with the package's files. All else comes from `site`.
 */
export async function packageServer(site, { answer = () => false, headers = {} } = {}) {
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, site);
    if (answer(request, response)) return;
    if (!pathname.startsWith("/package/")) {
      pass(site, request, response);
      return;
    }
    try {
      const [type, body] = await packaged(pathname.slice("/package/".length));
      response.writeHead(200, { "content-type": type, ...ISOLATION, ...headers }).end(body);
    } catch {
      response.writeHead(404, ISOLATION).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  return {
    site: `http://localhost:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

async function packaged(path) {
  if (path === "tiny.gguf") return ["application/octet-stream", tinyModel()];
  if (path === "tiny-chat.gguf") return ["application/octet-stream", tinyModel({ chats: true })];
  const file = path === "" ? new URL("package.html", import.meta.url) : new URL(path, PACKAGE);
  return [TYPES[extname(file.pathname)] ?? "application/octet-stream", await readFile(file)];
}

function pass(site, request, response) {
  const { host: _, connection: __, ...headers } = request.headers;
  const upstream = http.request(site + request.url, { method: request.method, headers }, (reply) => {
    response.writeHead(reply.statusCode, reply.headers);
    reply.on("error", () => response.destroy());
    reply.pipe(response);
  });
  response.on("close", () => upstream.destroy());
  upstream.on("error", () => response.destroy());
  upstream.end();
}
