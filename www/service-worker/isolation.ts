// Cross-origin isolation for hosts that cannot set headers, such as GitHub Pages. Only an isolated page may share memory
// between workers, and so compute with several threads.

/**
 * What makes a page isolated. `require-corp` and not `credentialless`: Safari knows only the first, and both let through what
 * these pages ask of other origins, which is always a request with CORS.
 */
const HEADERS = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/** A page or a script of a worker. An isolated page may start no worker without these headers. */
export function needsIsolation({ mode, destination }: Request): boolean {
  return mode === "navigate" || destination === "worker";
}

/** The answer to a request, with the headers that its server did not set. */
export function isolated(request: Request, response: Response): Response {
  // A redirection cannot be read, and the browser follows it by another request.
  if (!needsIsolation(request) || response.type === "opaqueredirect" || response.type === "error") return response;
  const missing = Object.entries(HEADERS).filter(([name]) => !response.headers.has(name));
  if (missing.length === 0) return response;
  const { status, statusText } = response;
  const headers = new Headers(response.headers);
  for (const [name, value] of missing) headers.set(name, value);
  return new Response(response.body, { status, statusText, headers });
}
