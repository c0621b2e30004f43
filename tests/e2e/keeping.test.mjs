// What was said outlives a reload: answers that were cut off, messages that were not answered, what is typed. What is
// stored may be anything, and may be impossible to store.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, prefaceWorkers } from "./harness.mjs";

const KEY = "emberglass.conversation";

let browser, chat;

before(async () => {
  browser = await launch();
  chat = await openPage(browser);
});
after(() => browser?.close());

/** Puts a conversation into the tab's storage and reloads. */
async function stored(text, page = chat.page) {
  await page.evaluate(([key, text]) => {
    sessionStorage.setItem(key, text);
    // The page stores what it has when it is left.
    Storage.prototype.setItem = () => {};
  }, [KEY, text]);
  await page.reload();
}

/** What the model was given to read, request by request. */
const read = () => chat.page.workers()[0].evaluate(() => self.requests);

test("a reload in mid-answer keeps what was said, and the answer can be had anew", { timeout: PATIENCE }, async () => {
  await chat.set({ temperature: 0, maxTokens: 1000 });
  await chat.load();
  await chat.send("Write a long story about a lighthouse keeper and a storm.");
  await chat.page.waitForFunction(() => document.querySelector('[data-testid="message-assistant"] .body')?.textContent.length > 60);
  const seen = await chat.answerText();
  await chat.get("composer").fill("not sent yet");
  await chat.page.reload();
  const kept = await chat.answered("stopped");
  assert.ok(kept.startsWith(seen.slice(0, 60)), `${seen}\n→ ${kept}`);
  assert.match(await chat.answer.innerText(), /Stopped when the page was reloaded/);
  assert.equal((await chat.conversation()).length, 2);
  assert.equal(await chat.get("composer").inputValue(), "not sent yet");
  await chat.screenshot("kept-over-reload");

  await chat.get("composer").fill("");
  await chat.set({ maxTokens: 12 });
  await chat.load();
  assert.equal((await chat.conversation()).length, 2, "nothing is answered without being asked");
  await chat.get("regenerate").last().click();
  const anew = await chat.answered();
  assert.ok(kept.startsWith(anew.slice(0, 20)), anew);
  await chat.page.reload();
  assert.equal(await chat.answered(), anew);
});

test("a message without an answer is shown as such, and not sent along with the next", { timeout: PATIENCE }, async () => {
  await prefaceWorkers(chat.page, () => {
    self.requests = [];
    self.addEventListener("message", ({ data }) => data.verb === "generate" && self.requests.push(data.args.messages.map(({ content }) => content)));
  });
  await stored(JSON.stringify([{ role: "user", content: "First" }]));
  await chat.get("unanswered").getByText("Not answered").waitFor();
  await chat.screenshot("not-answered");
  await chat.load();
  await chat.ask("Second");
  assert.deepEqual(await read(), [["Second"]]);
  assert.equal(await chat.get("answer-it").isVisible(), false, "only the last message can be answered");
  assert.equal(await chat.get("message-user").count(), 2);
  await chat.get("remove-message").click();
  assert.equal(await chat.get("unanswered").count(), 0);
  assert.equal((await chat.conversation())[0], "Second");

  await stored(JSON.stringify([{ role: "user", content: "Third" }]));
  await chat.load();
  await chat.get("answer-it").click();
  await chat.answered();
  assert.deepEqual(await read(), [["Third"]]);
  assert.equal(await chat.get("unanswered").count(), 0);
});

test("a full storage is said once, and the chat goes on", { timeout: PATIENCE }, async () => {
  assert.equal(await chat.get("unsaved").isVisible(), false);
  await chat.page.evaluate(() => {
    window.__setItem = Storage.prototype.setItem;
    Storage.prototype.setItem = () => {
      throw new DOMException("full", "QuotaExceededError");
    };
  });
  await chat.ask("Hello");
  assert.match(await chat.get("unsaved").innerText(), /A reload would lose the latest messages/);
  assert.equal(await chat.get("error").count(), 0);
  await chat.page.evaluate(() => (Storage.prototype.setItem = window.__setItem));
  await chat.ask("Hello again");
  assert.equal(await chat.get("unsaved").isVisible(), false);
});

test("each tab has its own conversation", { timeout: PATIENCE }, async () => {
  const mine = await chat.conversation();
  const other = await chat.page.context().newPage();
  await other.goto(chat.site);
  assert.equal(await other.getByTestId("message-user").count(), 0);
  await stored(JSON.stringify([{ role: "user", content: "In another tab" }]), other);
  await other.getByText("In another tab").waitFor();
  await chat.page.reload();
  assert.deepEqual(await chat.conversation(), mine);
  await other.close();
});

test("a stored conversation that is none, or only in part, does no harm", { timeout: PATIENCE }, async () => {
  for (const text of ["{", "null", '{"length":3}', JSON.stringify(Array(3000).fill({ role: "user", content: "x" })), `["${"x".repeat(4_100_000)}"]`]) {
    await stored(text);
    await chat.get("load-button").waitFor();
    assert.deepEqual(await chat.conversation(), [], text.slice(0, 40));
  }
  const answer = { role: "assistant", content: "<img src=x onerror=window.__x=1>[a](javascript:window.__x=2)", ended: "__proto__" };
  await stored(JSON.stringify([null, 7, answer, { role: "system", content: "s" }, { role: "user", content: "<b>u</b>" }, answer, answer, { role: "user" }]));
  await chat.get("load-button").waitFor();
  assert.deepEqual((await chat.conversation()).map((text) => text.slice(0, 8)), ["<b>u</b>", "<img src"]);
  assert.equal(await chat.page.evaluate(() => window.__x), undefined);
  chat.assertNoStrangers();
});
