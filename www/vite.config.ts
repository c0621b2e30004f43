import { defineConfig, type Plugin } from "vite";
import { siteFiles } from "./site-files.ts";

/** The dev server injects styles and a web socket, which the page's own policy rightly refuses. */
const devPolicy: Plugin = {
  name: "dev-content-security-policy",
  apply: "serve",
  transformIndexHtml: (html) =>
    html.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace("connect-src 'self'", "connect-src 'self' ws:"),
};

export default defineConfig({
  // Relative addresses, so that the built folder works on any static host and in any subfolder.
  base: "./",
  plugins: [devPolicy, siteFiles()],
  build: {
    // Inlined assets are data: addresses, which the page's policy refuses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // The package's packed copy of the engine, which this page's policy does not let run.
    chunkSizeWarningLimit: 1300,
    rollupOptions: { input: ["index.html", "image.html", "bench.html"] },
  },
  server: { fs: { allow: [".."] } },
});
