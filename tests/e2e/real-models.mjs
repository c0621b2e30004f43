// Two models that people download, in the page: `cargo xtask real-models --page`. No part of the everyday tests.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch, openPage } from "./harness.mjs";

const MINUTES = 10 * 60_000;
/** Tokens of the answer that are compared: a page's K and V are f16, so the texts may part later. */
const SURE = 24;

const root = new URL("../../", import.meta.url);
const answers = JSON.parse(readFileSync(new URL("tests/data/real-models.json", root), "utf8"));
let browser;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

async function load(name) {
  const chat = await openPage(browser);
  chat.page.setDefaultTimeout(MINUTES);
  await chat.get("load-button").waitFor();
  await chat.set({ temperature: 0, maxTokens: 64 });
  const begun = performance.now();
  await chat.get("model-file").setInputFiles(fileURLToPath(new URL(`.cache/models/${answers[name].file}`, root)));
  await chat.ready();
  console.log(`${name}: loaded in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  return chat;
}

/** The longest beginning of llama.cpp's text that does not depend on a near tie, at most SURE of its 64 tokens. */
function beginning({ greedy, greedy_text: text, low_margins: low }) {
  const sure = Math.min(SURE, low[0] ?? greedy.length);
  return text.slice(0, Math.floor((text.length * sure) / greedy.length)).trim();
}

async function report(chat, name) {
  console.log(`${name}: ${await chat.status()}`);
  await chat.screenshot(`real-${name}`);
  assert.deepEqual(chat.complaints, []);
  chat.assertNoStrangers();
  await chat.close();
}

test("Gemma 3 270M, which has no chat template, continues a text", { timeout: MINUTES }, async () => {
  const chat = await load("gemma3");
  assert.match(await chat.get("continues").innerText(), /no chat template: it continues a text/);
  const [prompt] = answers.gemma3.prompts;
  const shown = await chat.ask(prompt.text);
  assert.ok(shown.startsWith(prompt.text + prompt.greedy_text.slice(0, 1)), shown);
  assert.ok(shown.slice(prompt.text.length).trim().startsWith(beginning(prompt)), shown);
  await report(chat, "gemma3");
});

test("Qwen2.5-Coder 0.5B answers", { timeout: MINUTES }, async () => {
  const chat = await load("qwen2");
  assert.equal(await chat.get("continues").isVisible(), false);
  const prompt = answers.qwen2.prompts.find(({ messages }) => messages);
  const [system, question] = prompt.messages;
  await chat.set({ system: system.content });
  const shown = await chat.ask(question.content);
  assert.match(shown, /def is_prime/);
  await report(chat, "qwen2");
});
