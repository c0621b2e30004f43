import assert from "node:assert/strict";
import { test } from "node:test";
import { type Generate, untilAborted } from "./fake-engine.js";
import { collect, load, rejects, settle } from "./harness.js";

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
  throw { code: "out-of-memory", message: "no room" };
};
/** As the engine: before the first piece, and only where a message holds this. */
const overflows: Generate = async ({ messages }) => {
  if (messages?.some(({ content }) => content.includes("long"))) throw { code: "context-overflow", message: "too long" };
  return { text: "ok" };
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
  await rejects(chat.send("hi").result, "out-of-memory");
  assert.deepEqual(chat.messages, [user("hi")]);
  await chat.regenerate().result;
  assert.deepEqual(chat.messages, [user("hi"), assistant("ok")]);
  assert.deepEqual(worker.requests[1]?.messages, [user("hi")]);
});

test("a message after an unanswered one is read together with it", async () => {
  const { model, worker } = await load({ generate: script(fails, says("ok")) });
  const chat = model.createChat();
  await rejects(chat.send("one").result, "out-of-memory");
  await chat.send("two").result;
  assert.deepEqual(worker.requests[1]?.messages, [user("one\n\ntwo")]);
  assert.deepEqual(chat.messages, [user("one"), user("two"), assistant("ok")]);
});

test("a message that overflows the context is not kept, and the next one is answered", async () => {
  const { model, worker } = await load({ generate: overflows });
  const chat = model.createChat({ system: "s" });
  await chat.send("one").result;
  const before = chat.messages;
  await rejects(chat.send("a long text").result, "context-overflow");
  await rejects(collect(chat.send("a long text")), "context-overflow");
  assert.deepEqual(chat.messages, before);
  await chat.send("two").result;
  assert.deepEqual(worker.requests.at(-1)?.messages, [...before, user("two")]);
  assert.deepEqual(chat.messages, [...before, user("two"), assistant("ok")]);
  // What comes after is about the last message that was read.
  await rejects(chat.send("a long text").result, "context-overflow");
  await chat.regenerate().result;
  assert.deepEqual(chat.messages, [...before, user("two"), assistant("ok")]);
  assert.equal(chat.undo(), "two");
  assert.deepEqual(chat.messages, before);
  // The same before anything was said, behind a message that waits, and amid an unanswered one.
  const fresh = model.createChat();
  const [first, second] = [fresh.send("a long text"), fresh.send("b")];
  await rejects(first.result, "context-overflow");
  await second.result;
  assert.deepEqual(fresh.messages, [user("b"), assistant("ok")]);
  const pending = model.createChat({ messages: [user("a")] });
  await rejects(pending.send("long").result, "context-overflow");
  assert.deepEqual(pending.messages, [user("a")]);
});

test("once the conversation fills the context each message overflows, and undo or reset make room", async () => {
  const generate: Generate = async ({ messages }) => {
    if ((messages ?? []).length > 3) throw { code: "context-overflow", message: "too long" };
    return { text: "ok" };
  };
  const { model } = await load({ generate });
  const chat = model.createChat();
  await chat.send("one").result;
  await chat.send("two").result;
  for (const text of ["three", "four"]) await rejects(chat.send(text).result, "context-overflow");
  assert.equal(chat.messages.length, 4);
  await chat.regenerate().result;
  assert.equal(chat.undo(), "two");
  await chat.send("three").result;
  await rejects(chat.send("four").result, "context-overflow");
  chat.reset();
  await chat.send("four").result;
  assert.deepEqual(chat.messages, [user("four"), assistant("ok")]);
});

test("a message with a wrong option is not kept either, nor one of no text", async () => {
  const generate: Generate = async ({ temperature = 0, messages }) => {
    if (temperature > 100) throw { code: "invalid-option", message: "option temperature = 101 is out of range (0 to 100)" };
    if (messages?.every(({ content }) => content === "")) throw { code: "empty-prompt", message: "the prompt is empty" };
    return { text: "ok" };
  };
  const { model } = await load({ generate });
  const chat = model.createChat();
  await rejects(chat.send("a", { temperature: 101 }).result, "invalid-option");
  await rejects(chat.send("a", { temprature: 1 } as never).result, "invalid-option");
  await rejects(chat.send("").result, "empty-prompt");
  assert.deepEqual(chat.messages, []);
});

test("regenerate replaces the answer; a failing or empty one leaves the old", async () => {
  const { model, worker } = await load({ generate: script(says("old"), says("new"), fails, says("")) });
  const chat = model.createChat();
  await chat.send("hi").result;
  await chat.regenerate({ temperature: 1 }).result;
  assert.deepEqual(chat.messages, [user("hi"), assistant("new")]);
  assert.deepEqual(worker.requests[1]?.messages, [user("hi")]);
  await rejects(chat.regenerate().result, "out-of-memory");
  assert.deepEqual(chat.messages, [user("hi"), assistant("new")]);
  await chat.regenerate().result;
  assert.deepEqual(chat.messages, [user("hi"), assistant("new")]);
});

test("regenerate with nothing said is empty-prompt", async () => {
  const { model } = await load();
  await rejects(model.createChat({ system: "x" }).regenerate().result, "empty-prompt");
});

test("undo takes nothing from a conversation in which the user has said nothing", async () => {
  const { model } = await load();
  const messages = [{ role: "assistant" as const, content: "How can I help?" }];
  const chat = model.createChat({ messages });
  assert.equal(chat.undo(), undefined);
  assert.deepEqual(chat.messages, messages);
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
