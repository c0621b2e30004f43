// The site again, on another port, but with a line to the model that can be slow or break.
import http from "node:http";
import { Transform } from "node:stream";

/**
 * Passes everything on to `site`. Model files come at `bytesPerSecond` once that is set, and once
 * `breakAfter` is set the connection dies after that many bytes of them, as does every later one.
 */
export async function unreliableServer(site) {
  const line = { bytesPerSecond: Infinity, breakAfter: Infinity, open: 0, modelBytes: 0 };
  const server = http.createServer((request, response) => {
    const isModel = request.url.endsWith(".gguf");
    if (isModel && line.modelBytes >= line.breakAfter) {
      request.socket.destroy();
      return;
    }
    const { host: _, connection: __, ...headers } = request.headers;
    const upstream = http.request(site + request.url, { method: request.method, headers }, (reply) => {
      response.writeHead(reply.statusCode, reply.headers);
      if (!isModel) {
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
