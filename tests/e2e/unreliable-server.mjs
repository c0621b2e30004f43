// The site again, on another port, but with a line to the model that can be slow or break; and a file behind a server
// with one fault of many.
import http from "node:http";
import { Transform } from "node:stream";
import { gzipSync } from "node:zlib";

/**
 * Passes everything on to `site`. Model files come at `bytesPerSecond` once that is set. Once `breakAfter` is set the
 * connection dies after that many bytes of them; afterwards the model is another file, one byte longer.
 */
export async function unreliableServer(site) {
  const line = { bytesPerSecond: Infinity, breakAfter: Infinity, open: 0, modelBytes: 0 };
  const server = http.createServer((request, response) => {
    const isModel = request.url.endsWith(".gguf");
    const changed = isModel && line.modelBytes >= line.breakAfter;
    const { host: _, connection: __, ...headers } = request.headers;
    const upstream = http.request(site + request.url, { method: request.method, headers }, (reply) => {
      const range = reply.headers["content-range"];
      // It has the ETag of the file before, so the browser's own cache would mix the two.
      if (changed) reply.headers["cache-control"] = "no-store";
      if (changed && range) reply.headers["content-range"] = range.replace(/\d+$/, (total) => String(Number(total) + 1));
      response.writeHead(reply.statusCode, reply.headers);
      if (!isModel || changed) {
        reply.pipe(response);
        return;
      }
      line.open += 1;
      response.on("close", () => {
        line.open -= 1;
        upstream.destroy();
      });
      reply.on("error", () => response.destroy());
      reply.pipe(throttle(line, () => request.socket.destroy())).pipe(response);
    });
    upstream.on("error", () => response.destroy());
    upstream.end();
  });
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  return {
    line,
    site: `http://localhost:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

function throttle(line, cut) {
  return new Transform({
    transform(chunk, _encoding, done) {
      line.modelBytes += chunk.length;
      if (line.modelBytes >= line.breakAfter) {
        cut();
        return;
      }
      const wait = (1000 * chunk.length) / line.bytesPerSecond;
      if (wait > 0) setTimeout(() => done(null, chunk), wait);
      else done(null, chunk);
    },
  });
}

/**
 * Answers requests for one small file at `/line/KIND/…`, each kind with a fault of its own. `log` has the `Range` of
 * each request, or "whole".
 */
export function faultyLine(file, elsewhere) {
  const log = [];
  const etag = '"the file"';
  const answer = (request, response) => {
    const [, line, kind] = request.url.split("/");
    if (line !== "line") return false;
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const from = Number(range?.[1] ?? 0);
    log.push(request.headers.range ?? "whole");
    const nth = log.length;
    // A browser's cache asks for ranges of its own.
    response.setHeader("cache-control", "no-store");

    const whole = (headers = {}) => response.writeHead(200, { "content-length": file.length, etag, ...headers });
    const part = (start, end, headers = {}) =>
      response.writeHead(206, { "content-range": `bytes ${start}-${end - 1}/${file.length}`, "content-length": end - start, etag, ...headers });
    const right = (headers) => {
      if (range) part(from, file.length, headers).end(file.subarray(from));
      else whole(headers).end(file);
    };
    const capped = (bytes) => part(from, Math.min(from + bytes, file.length)).end(file.subarray(from, from + bytes));
    /** The bytes, and then the connection breaks. */
    const broken = (bytes, headers) => {
      if (range) part(from, file.length, headers);
      else whole(headers);
      response.write(file.subarray(from, from + bytes), () => setTimeout(() => request.socket.destroy(), 50));
    };
    const first = (once) => (nth === 1 ? once() : right());
    const after = (ms, then) => setTimeout(then, ms);

    const kinds = {
      right,
      noranges: () => (nth === 1 ? broken(100_000) : whole().end(file)),
      // Behind the first break it starts from the first byte again, with status 206.
      wrongstart: () => (nth === 1 ? broken(100_000) : part(0, file.length).end(file)),
      ahead: () => part(from + 10, file.length).end(file.subarray(from + 10)),
      cap64k: () => capped(64 << 10),
      cap4k: () => capped(4 << 10),
      stuck: () => (nth === 1 ? broken(100_000) : part(0, 50_000).end(file.subarray(0, 50_000))),
      breaks: () => (nth < 4 ? broken(80_000) : right()),
      vanishes: () => (nth === 1 ? broken(100_000) : request.socket.destroy()),
      changed: () => broken(100_000, { etag: `"${nth}"` }),
      garbage: () => response.writeHead(206, { "content-range": "bytes -5--1/abc" }).end(file),
      /** Time to go offline before the connection breaks. */
      breakslater: () => (nth > 1 ? right() : whole().write(file.subarray(0, 100_000), () => after(1500, () => request.socket.destroy()))),
      silent: () => {},
      silentbody: () => (range ? part(from, file.length) : whole()).write(file.subarray(from, from + 100)),
      silentonce: () => (nth === 1 ? whole().write(file.subarray(0, 100_000)) : right()),
      drip: () => {
        if (range) part(from, file.length);
        else whole();
        const drip = (at) => {
          if (at >= file.length) response.end();
          else response.write(file.subarray(at, at + 50_000), () => after(300, () => drip(at + 50_000)));
        };
        drip(from);
      },
      gzip: () => (nth === 1 ? whole({ "content-encoding": "gzip", "content-length": gzipSync(file).length }).end(gzipSync(file)) : right()),
      /** Half of the encoded body, then the connection breaks. What comes later is the file as it is. */
      gzipbreaks: () => {
        if (nth > 1) return right();
        const encoded = gzipSync(file);
        whole({ "content-encoding": "gzip", "content-length": encoded.length, etag: '"the file-gzip"' });
        response.write(encoded.subarray(0, encoded.length / 2), () => after(300, () => request.socket.destroy()));
      },
      /** No length at all, as when a server makes the body while it sends it. */
      chunked: () => {
        response.writeHead(200);
        response.write(file.subarray(0, 100_000), () => response.end(file.subarray(100_000)));
      },
      notgzip: () => whole({ "content-encoding": "gzip" }).end(file),
      busy: () => first(() => response.writeHead(429, { "retry-after": "1" }).end()),
      overloaded: () => first(() => response.writeHead(503).end()),
      broken: () => response.writeHead(500).end(),
      missing: () => response.writeHead(404).end(),
      redirect: () => response.writeHead(302, { location: `${elsewhere}/line/right/m.gguf?signature=secret` }).end(),
      lost: () => response.writeHead(302, { location: `${elsewhere}/line/missing/m.gguf?signature=secret` }).end(),
      forbidden: () => response.writeHead(302, { location: `${elsewhere}/line/closed/m.gguf` }).end(),
    };
    const known = kinds[kind];
    if (known) known();
    else response.writeHead(400).end();
    return true;
  };
  return { answer, log };
}
