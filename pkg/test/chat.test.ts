import assert from "node:assert/strict";
import { test } from "node:test";
import { type Generate, untilAborted } from "./fake-engine.js";
import { load, rejects, settle } from "./harness.js";

const user = (content: string) => ({ role: "user" as const, content });
const assistant = (content: string) => ({ role: "assistant" as const, content });
const system = (content: string) => ({ role: "system" as const, content });

/** One behaviour per call, the last one from then on. */
function script(...steps: Generate[]): Generate {
  return (...args) => (steps.length > 1 ? steps.shift()! : steps[0]!)(...args);
}
const says = (text: string): Generate => async (_request, onPiece) => {
  if (text) onPiece(text);
  return { text };
};
const fails: Generate = async (_request, onPiece) => {
  onPiece("half an ans");
  throw { code: "context-overflow", message: "too long" };
};

test("both sides are kept and sent again, system prompt first", async () => {
  const { model, worker } = await load();
  const chat = model.createChat({ system: "Be terse." });
  await chat.send("one").result;
  await chat.send("two").result;
  const expected = [system("Be terse."), user("one"), assistant("<one>"), user("two"), assistant("<two>")];
  assert.deepEqual(chat.messages, expected);
  assert.deepEqual(worker.requests[1]?.messages, expected.slice(0, 4));
});

test("a second message sent before the first answer is read after it", async () => {
  const { model, worker } = await load();
  const chat = model.createChat();
  await Promise.all([chat.send("one").result, chat.send("two").result]);
  assert.deepEqual(worker.requests[1]?.messages, [user("one"), assistant("<one>"), user("two")]);
});

test("a stopped answer is kept as far as it got", async () => {
  const { model } = await load({ generate: untilAborted("par", "tial") });
  const chat = model.createChat();
  for await (const _ of chat.send("hi")) break;
  await settle();
  assert.deepEqual(chat.messages, [user("hi"), assistant("partial")]);
});

test("stopped before the first word: the question stays, unanswered", async () => {
  const { model } = await load({ generate: untilAborted() });
  const chat = model.createChat();
  const generation = chat.send("hi");
  await settle();
  generation.abort();
  await generation.result;
  assert.deepEqual(chat.messages, [user("hi")]);
});

test("stopped while queued: nothing was said", async () => {
  const { model } = await load({ generate: untilAborted("a") });
  const chat = model.createChat();
  const first = chat.send("one");
  const second = chat.send("two");
  second.abort();
  await rejects(second.result, "aborted");
  first.abort();
  await first.result;
  await settle();
  assert.deepEqual(chat.messages, [user("one"), assistant("a")]);
});

test("after an error the question stays, and regenerate answers it", async () => {
  const { model, worker } = await load({ generate: script(fails, says("ok")) });
  const chat = model.createChat();
  await rejects(chat.send("hi").result, "context-overflow");
  assert.deepEqual(chat.messages, [user("hi")]);
  await chat.regenerate().result;
  assert.deepEqual(chat.messages, [user("hi"), assistant("ok")]);
  assert.deepEqual(worker.requests[1]?.messages, [user("hi")]);
});

test("a message after an unanswered one is read together with it", async () => {
  const { model, worker } = await load({ generate: script(fails, says("ok")) });
  const chat = model.createChat();
  await rejects(chat.send("one").result, "context-overflow");
  await chat.send("two").result;
  assert.deepEqual(worker.requests[1]?.messages, [user("one\n\ntwo")]);
  assert.deepEqual(chat.messages, [user("one"), user("two"), assistant("ok")]);
});

test("regenerate replaces the answer; a failing or empty one leaves the old", async () => {
  const { model, worker } = await load({ generate: script(says("old"), says("new"), fails, says("")) });
  const chat = model.createChat();
  await chat.send("hi").result;
  await chat.regenerate({ temperature: 1 }).result;
  assert.deepEqual(chat.messages, [user("hi"), assistant("new")]);
  assert.deepEqual(worker.requests[1]?.messages, [user("hi")]);
  await rejects(chat.regenerate().result, "context-overflow");
  assert.deepEqual(chat.messages, [user("hi"), assistant("new")]);
  await chat.regenerate().result;
  assert.deepEqual(chat.messages, [user("hi"), assistant("new")]);
});

test("regenerate with nothing said is empty-prompt", async () => {
  const { model } = await load();
  await rejects(model.createChat({ system: "x" }).regenerate().result, "empty-prompt");
});

test("undo gives the last message back", async () => {
  const { model } = await load();
  const chat = model.createChat({ system: "s" });
  await chat.send("one").result;
  await chat.send("two").result;
  assert.equal(chat.undo(), "two");
  assert.deepEqual(chat.messages, [system("s"), user("one"), assistant("<one>")]);
  chat.undo();
  assert.equal(chat.undo(), undefined);
});

test("reset stops the answer under way and forgets it", async () => {
  const { model } = await load({ generate: script(untilAborted("late"), says("fresh")) });
  const chat = model.createChat({ system: "s" });
  const running = chat.send("hi");
  await settle();
  chat.reset();
  await running.result;
  assert.deepEqual(chat.messages, [system("s")]);
  await chat.send("again").result;
  assert.deepEqual(chat.messages, [system("s"), user("again"), assistant("fresh")]);
});

test("a conversation outlives its model", async () => {
  const first = await load({ generate: script(says("one"), () => Promise.reject(new WebAssembly.RuntimeError("x"))) });
  const chat = first.model.createChat({ system: "s" });
  await chat.send("a").result;
  await rejects(chat.send("b").result, "wasm-trap");
  const second = await load();
  const again = second.model.createChat({ messages: chat.messages });
  await again.regenerate().result;
  assert.deepEqual(again.messages, [system("s"), user("a"), assistant("one"), user("b"), assistant("<b>")]);
});

test("two system prompts are refused, and messages is a copy", async () => {
  const { model } = await load();
  assert.throws(() => model.createChat({ system: "a", messages: [system("b")] }), { code: "invalid-option" });
  assert.throws(() => model.createChat({ messages: [user("a"), system("b")] }), { code: "invalid-option" });
  const chat = model.createChat({ messages: [user("a")] });
  chat.messages[0]!.content = "changed";
  chat.messages.pop();
  assert.deepEqual(chat.messages, [user("a")]);
});

test("a model without a chat template continues a text, and says so to who wants a chat", async () => {
  const { model, worker } = await load({ load: async () => ({ hasChatTemplate: false }) });
  assert.equal(model.info.hasChatTemplate, false);
  assert.throws(() => model.createChat(), (error: Error) => {
    assert.match(error.message, /generate\(text\)/);
    return "code" in error && error.code === "no-chat-template";
  });
  assert.equal((await model.generate("Once upon").result).text, "<Once upon>");
  assert.equal(worker.requests[0]?.prompt, "Once upon");
  assert.equal(worker.requests[0]?.messages, undefined);
});
