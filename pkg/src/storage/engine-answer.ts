// Answers for the engine, which reads status and headers as strictly as those of any server. It follows an answer that ends
// before the file does (status 206) at once with a request for what comes next, so an answer need not have more than one part.
import type { FileVersion } from "./answer-head.js";

/** Bytes of the file from `from` on, and how the whole file is known. */
export function partOf(body: BodyInit, from: number, to: number, { bytes, etag, lastModified }: FileVersion): Response {
  const headers = new Headers({ "Content-Range": spanOf(from, to, bytes), "Content-Length": String(to - from) });
  if (etag !== undefined) headers.set("ETag", etag);
  if (lastModified !== undefined) headers.set("Last-Modified", lastModified);
  return new Response(body, { status: 206, headers });
}

/** There are no bytes there. */
export function nothingThere(total: number): Response {
  return new Response(null, { status: 416, headers: { "Content-Range": `bytes */${total}` } });
}

/**
 * The server's answer with another body. With `span`, its head says that these are the bytes from there to there. The engine
 * also reads whether the answer came from another origin and by a redirect; a response that is made here says neither by itself.
 */
export function serversAnswer(
  answer: Response,
  body: ReadableStream<Uint8Array>,
  span?: { from: number; to: number; total: number | undefined },
): Response {
  const headers = new Headers(answer.headers);
  if (span) {
    headers.delete("Content-Encoding");
    headers.set("Content-Range", spanOf(span.from, span.to, span.total));
    headers.set("Content-Length", String(span.to - span.from));
  }
  const made = new Response(body, { status: span ? 206 : answer.status, headers });
  const { type, url, redirected } = answer;
  return Object.defineProperties(made, { type: { value: type }, url: { value: url }, redirected: { value: redirected } });
}

/** A body that is made piece by piece, each when it is asked for. An empty piece says that more will come. */
export function bodyOf(next: () => Promise<Uint8Array | undefined>): ReadableStream<Uint8Array> {
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
    const piece = await next();
    if (piece === undefined) controller.close();
    else controller.enqueue(piece);
  };
  return new ReadableStream({ pull }, { highWaterMark: 0 });
}

function spanOf(from: number, to: number, total: number | undefined): string {
  return `bytes ${from}-${to - 1}/${total ?? "*"}`;
}
