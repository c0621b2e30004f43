// Makes the icons of the installed page out of www/public/favicon.svg: `node tools/icons/make.mjs`, after `npm ci` in tests/e2e.
import { mkdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "../../tests/e2e/node_modules/playwright-core/index.mjs";

const PUBLIC = fileURLToPath(new URL("../../www/public/", import.meta.url));
/** A maskable icon may be cut to a circle of 80 % of its width, and has a ground of its own. */
const ICONS = [
  { name: "icon-192", size: 192, drawn: 1, ground: "transparent" },
  { name: "icon-512", size: 512, drawn: 1, ground: "transparent" },
  { name: "maskable-512", size: 512, drawn: 0.64, ground: "#fbf8f5" },
];

const svg = (await readFile(`${PUBLIC}favicon.svg`)).toString("base64");
await mkdir(`${PUBLIC}icons`, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
for (const { name, size, drawn, ground } of ICONS) {
  const page = await browser.newPage({ viewport: { width: size, height: size } });
  const image = `<img src="data:image/svg+xml;base64,${svg}" width="${size * drawn}" height="${size * drawn}">`;
  await page.setContent(`<body style="margin:0;height:100vh;display:grid;place-items:center;background:${ground}">${image}`);
  await page.screenshot({ path: `${PUBLIC}icons/${name}.png`, omitBackground: true });
}
await browser.close();
