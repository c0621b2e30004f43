// Writes tests/data/tokenizer_smollm2.json and tools/reference/prompts.json: token ids by llama.cpp.
//
//   node generate.mjs MODEL.gguf [--check]
//
// With --check nothing is written; the exit status is 1 if a file would change.

import { readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Template } from "@huggingface/jinja";
import { chromium } from "playwright-core";
import { CHROMIUM, serve } from "../serve.mjs";
import { GROUPS, PIECES } from "./cases.mjs";
import { BENCH, CHATS, SEQUENCE } from "./prompts.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../..");
const args = process.argv.slice(2);
const check = args.includes("--check");
const model = args.find((arg) => !arg.startsWith("--"));
if (!model) throw new Error("usage: node generate.mjs MODEL.gguf [--check]");

function fail(message) {
  throw new Error(message);
}

/** JSON with one list item a line, and every invisible, combining or private character escaped. */
function toJson(value) {
  const escape = (text) => text.replace(/[^\P{C}\n]|[^\P{Z} ]|\p{M}|\ufffd/gu, (c) => {
    let out = "";
    for (let i = 0; i < c.length; i++) out += `\\u${c.charCodeAt(i).toString(16).padStart(4, "0")}`;
    return out;
  });
  const fields = Object.entries(value).map(([key, field]) => {
    const list = Array.isArray(field) && typeof field[0] === "object";
    const text = list ? `[\n${field.map((item) => `    ${JSON.stringify(item)}`).join(",\n")}\n  ]` : JSON.stringify(field);
    return `  ${JSON.stringify(key)}: ${text}`;
  });
  const json = `${escape(`{\n${fields.join(",\n")}`)}\n}\n`;
  if (JSON.stringify(JSON.parse(json)) !== JSON.stringify(value)) fail("the JSON does not read back as written");
  return json;
}

const server = await serve({
  "/page.html": join(here, "page.html"),
  "/wllama": join(here, "node_modules/@wllama/wllama/esm"),
  "/model.gguf": resolve(model),
});
const browser = await chromium.launch(CHROMIUM);
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(error));
  await page.goto(`${server.origin}/page.html`);
  await page.waitForFunction(() => window.ready);
  const info = await page.evaluate(() => window.load("/model.gguf"));
  const tokenize = (texts, special) => page.evaluate(([t, s]) => window.tokenize(t, s), [texts, special]);
  const pieces = (sequences) => page.evaluate((s) => window.pieces(s), sequences);
  if (info.addsBos) fail("this vocabulary adds a BOS token; the goldens assume none");

  const { version } = JSON.parse(await readFile(join(here, "node_modules/@wllama/wllama/package.json"), "utf8"));
  const source = `llama.cpp ${info.llamaCpp} through the npm package @wllama/wllama ${version}, in Chromium`;

  const cases = Object.entries(GROUPS).flatMap(([group, texts]) => texts.map((text) => ({ group, text })));
  if (new Set(cases.map((c) => c.text)).size !== cases.length) fail("two cases have the same text");
  const ids = await tokenize(cases.map((c) => c.text), false);
  const bytes = await pieces(ids);
  cases.forEach((c, i) => {
    c.ids = ids[i];
    // Byte-level BPE loses nothing, so the tokens' bytes must be the text's: this also catches text cut at a NUL on the way in.
    if (!Buffer.from(c.text).equals(Buffer.from(bytes[i].flat()))) fail(`${JSON.stringify(c.text)} does not survive the round trip: ${ids[i]}`);
  });

  const pieceIds = await tokenize(PIECES, false);
  const pieceBytes = await pieces(pieceIds);
  const split = PIECES.map((text, i) => ({ text, ids: pieceIds[i], bytes: pieceBytes[i] }));

  // The GGUF's own template, by a Jinja that is neither llama.cpp's nor minijinja.
  const template = new Template(info.template);
  const chats = CHATS.map(({ name, messages }) => ({ name, messages, text: template.render({ messages, add_generation_prompt: true }) }));
  const chatIds = await tokenize(chats.map((chat) => chat.text), true);
  chats.forEach((chat, i) => (chat.ids = chatIds[i]));

  const [sequence, bench] = await tokenize([SEQUENCE, BENCH], true);
  if (sequence.length < 256 || sequence.length > 320) fail(`the sequence has ${sequence.length} tokens, not 256 to 320`);
  const benchText = Buffer.from((await pieces([bench.slice(0, 128)])).flat(2)).toString();
  const [benchIds] = await tokenize([benchText], true);
  if (benchIds.length !== 128) fail(`the speed prompt has ${benchIds.length} tokens, not 128`);

  const outputs = {
    "tests/data/tokenizer_smollm2.json": toJson({ source, parse_special: false, add_special: false, cases, pieces: split }),
    "tools/reference/prompts.json": toJson({ source, parse_special: true, sequence: { text: SEQUENCE, ids: sequence }, bench: { text: benchText, ids: benchIds }, chats }),
  };
  for (const [path, text] of Object.entries(outputs)) {
    const file = join(root, path);
    if (!check) await writeFile(file, text);
    else if ((await readFile(file, "utf8").catch(() => "")) !== text) {
      console.error(`${path} would change`);
      process.exitCode = 1;
    }
  }
  console.log(`${source}: ${cases.length} texts, ${split.length} piece lists, sequence of ${sequence.length} tokens, chats of ${chatIds.map((c) => c.length)} tokens`);
} finally {
  await browser.close();
  await server.close();
}
