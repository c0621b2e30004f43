// A static file server for the tools' pages: localhost only, byte ranges, no caching.
//
// `mounts` maps a URL prefix to a folder or a file; the longest prefix wins. Only with {@link ISOLATION} among the `more`
// headers is there a SharedArrayBuffer; without it a wasm runtime in the page has one thread.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, sep } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

/** What lets workers share memory. */
export const ISOLATION = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
};

/** Starts the server and resolves to `{ origin, close }`. */
export async function serve(mounts, more = {}) {
  const prefixes = Object.keys(mounts).sort((a, b) => b.length - a.length);

  function resolve(pathname) {
    const prefix = prefixes.find((p) => pathname === p || pathname.startsWith(p.endsWith("/") ? p : `${p}/`));
    if (prefix === undefined) return undefined;
    const rest = normalize(pathname.slice(prefix.length));
    if (rest.split(sep).includes("..")) return undefined;
    return join(mounts[prefix], rest);
  }

  const server = createServer(async (request, response) => {
    try {
      const pathname = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
      const path = resolve(pathname)?.replace(/[/\\]\.?$/, "");
      const info = path && (await stat(path).catch(() => undefined));
      if (!info?.isFile()) {
        response.writeHead(404, more).end();
        return;
      }
      const headers = {
        ...more,
        "content-type": TYPES[extname(path)] ?? "application/octet-stream",
        "accept-ranges": "bytes",
        "cache-control": "no-store",
      };
      const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
      const start = range ? Number(range[1]) : 0;
      const end = range && range[2] !== "" ? Math.min(Number(range[2]), info.size - 1) : info.size - 1;
      if (range && start > end) {
        response.writeHead(416, { "content-range": `bytes */${info.size}` }).end();
        return;
      }
      if (range) headers["content-range"] = `bytes ${start}-${end}/${info.size}`;
      headers["content-length"] = end - start + 1;
      response.writeHead(range ? 206 : 200, headers);
      if (request.method === "HEAD" || info.size === 0) response.end();
      else createReadStream(path, { start, end }).pipe(response);
    } catch (error) {
      response.destroy(error);
    }
  });

  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((done) => {
      server.close(done);
      server.closeAllConnections();
    }),
  };
}

/** The flags every tool starts Chromium with. */
export const CHROMIUM = {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
};
