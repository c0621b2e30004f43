// A model hub as the public one behaves: a listing in pages, files behind a redirect to a signed address of another origin, CORS headers
// that show some headers and hide others, gated and private repositories, and limits of requests. Header by header as
// huggingface.co sent them in 2026.
import { createHash } from "node:crypto";
import http from "node:http";

const EXPOSED =
  "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash";
const COMMIT = "0123456789abcdef0123456789abcdef01234567";
/** Files from this size on are kept by their SHA-256. */
const LARGE = 1000;

/**
 * `repositories`: by `owner/repo`, their `files` by path, and `gated` or `private`. `tokens`: what each may read, by the
 * token: a list of repositories. `line` changes what the next answers are: see {@link freshLine}. `log` has all requests, to
 * the hub (`api`, `resolve`) and to the store behind it (`store`), with their `Range` and `Authorization`.
 */
export async function hubServer({ repositories, tokens = {}, pageSize = 1000 }) {
  const log = [];
  const line = freshLine();
  const store = await listen((request, response) => serveStored(request, response));
  const hub = await listen((request, response) => {
    // The hub names the page that asks, the store everybody.
    response.setHeader("access-control-allow-origin", request.headers.origin ?? "https://huggingface.co");
    response.setHeader("access-control-expose-headers", EXPOSED + line.alsoExposed);
    response.setHeader("vary", "Origin");
    if (request.method === "OPTIONS") {
      response.writeHead(204, { "access-control-allow-methods": "GET, HEAD, POST", "access-control-allow-headers": "Authorization,Range,Content-Type" }).end();
      return;
    }
    const { pathname, searchParams } = new URL(request.url, "http://hub");
    const [, api, owner, repo, revision, path] =
      /^\/(?:(api\/models)\/)?([^/]+)\/([^/]+)\/(?:tree|resolve)\/([^/]+)(?:\/(.*))?$/.exec(pathname) ?? [];
    if (owner === undefined) return void fail(response, 404);
    note(request, api ? "api" : "resolve");
    const limit = api ? line.api.shift() : line.resolve.shift();
    if (limit) return void response.writeHead(limit.status, limit.headers).end();
    const name = `${owner}/${repo}`;
    const repository = repositories[name];
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? "")?.[1];
    const knows = token !== undefined && Object.hasOwn(tokens, token);
    const may = knows && tokens[token].includes(name);
    // Without a login the hub does not tell what is private from what is not there.
    if (!repository || (repository.private && !may)) return void fail(response, knows ? 404 : 401, "RepoNotFound");
    if (!(repository.revisions ?? ["main"]).includes(decodeURIComponent(revision))) return void fail(response, 404, "RevisionNotFound");
    if (api) return void list(repository, Number(searchParams.get("cursor") ?? 0), request, response);
    if (repository.gated && !may) return void fail(response, knows ? 403 : 401, "GatedRepo");
    const file = repository.files[path.split("/").map(decodeURIComponent).join("/")];
    if (!file) return void fail(response, 404, "EntryNotFound");
    const headers = { "x-repo-commit": COMMIT, "accept-ranges": "bytes" };
    if (file.length < LARGE) {
      response.writeHead(200, { ...headers, etag: `"${digest("sha1", file)}"`, "content-length": file.length }).end(file);
      return;
    }
    const sha256 = digest("sha256", file);
    const location = `${store.origin}/xet-bridge/${sha256}?Signature=secret-${log.length}&Key-Pair-Id=K`;
    response.writeHead(302, { ...headers, location, "x-linked-etag": `"${sha256}"`, "x-linked-size": file.length }).end();
  });

  function note(request, to) {
    log.push({ to, url: request.url, range: request.headers.range, authorization: request.headers.authorization });
  }

  function list({ files }, from, request, response) {
    const entries = Object.entries(files).map(([path, file]) => {
      const common = { type: "file", oid: digest("sha1", file), size: file.length, path };
      if (file.length < LARGE) return common;
      return { ...common, lfs: { oid: digest("sha256", file), size: file.length, pointerSize: 134 }, xetHash: digest("sha256", path) };
    });
    const folders = new Set(Object.keys(files).flatMap((path) => path.split("/").slice(0, -1).map((_, i, all) => all.slice(0, i + 1).join("/"))));
    const all = [...[...folders].map((path) => ({ type: "directory", oid: digest("sha1", path), size: 0, path })), ...entries];
    const headers = { "content-type": "application/json; charset=utf-8", "cache-control": "no-store" };
    if (from + pageSize < all.length) {
      const next = new URL(request.url, hub.origin);
      next.searchParams.set("cursor", String(from + pageSize));
      headers.link = `<${next}>; rel="next"`;
    }
    response.writeHead(200, headers).end(JSON.stringify(all.slice(from, from + pageSize)));
  }

  function fail(response, status, code) {
    const headers = { "content-type": "application/json", ...(code ? { "x-error-code": code, "x-error-message": "no access" } : {}) };
    response.writeHead(status, headers).end(JSON.stringify({ error: code ?? "not found" }));
  }

  /** The store knows no login: a token that reaches it has leaked. */
  function serveStored(request, response) {
    response.setHeader("access-control-allow-origin", "*");
    response.setHeader("access-control-expose-headers", "*");
    // A browser asks again by itself where a connection breaks that had served a request before.
    response.setHeader("connection", "close");
    // Firefox asks, though it sends no token on.
    if (request.method === "OPTIONS") {
      response.writeHead(204, { "access-control-allow-methods": "GET, HEAD", "access-control-allow-headers": "Range" }).end();
      return;
    }
    note(request, "store");
    const { pathname, searchParams } = new URL(request.url, "http://store");
    if (!searchParams.get("Signature")?.startsWith("secret-")) return void response.writeHead(403).end();
    const sha256 = pathname.split("/").at(-1);
    const file = Object.values(repositories).flatMap(({ files }) => Object.values(files)).find((file) => digest("sha256", file) === sha256);
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const part = file.subarray(from);
    const headers = { etag: `"${sha256}"`, "accept-ranges": "bytes", "content-type": "application/octet-stream", "cache-control": "no-store", "content-length": part.length };
    if (request.headers.range === undefined) response.writeHead(200, headers);
    else response.writeHead(206, { ...headers, "content-range": `bytes ${from}-${file.length - 1}/${file.length}` });
    const breakAfter = line.breaks.shift();
    if (breakAfter === undefined) return void response.end(part);
    response.write(part.subarray(0, breakAfter), () => setTimeout(() => request.socket.destroy(), 50));
  }

  return {
    origin: hub.origin,
    store: store.origin,
    log,
    line,
    close: () => Promise.all([hub.close(), store.close()]),
  };
}

/** `api`, `resolve`: statuses and headers of the next answers. `breaks`: after how many bytes the next downloads break. */
function freshLine() {
  return { api: [], resolve: [], breaks: [], alsoExposed: "" };
}

function digest(algorithm, bytes) {
  return createHash(algorithm).update(bytes).digest("hex");
}

async function listen(answer) {
  const server = http.createServer(answer);
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  return {
    origin: `http://localhost:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
