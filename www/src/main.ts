// Wires the parts of the page together; what each part does is in its own file.
import { type EmberglassError, type Generation, supported } from "emberglass";
import { announce } from "./announcer.js";
import { streamAnswer } from "./answer.js";
import { AutoScroll } from "./auto-scroll.js";
import { type Action, clearError, showError } from "./banner.js";
import { coded, isFatal } from "./coded.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { cpuMayHelp, loadOptions, requestedDevice } from "./device-choice.js";
import { need } from "./dom.js";
import { modelFiles } from "./file-drop.js";
import { LoadPanel } from "./load-panel.js";
import { MessageList } from "./message-list.js";
import { defaultOffer, type Offer, requestedOffer } from "./model-choice.js";
import type { AnswerView } from "./message-view.js";
import { type ModelRequest, ModelSession } from "./model-session.js";
import { generateOptions, loadSettings } from "./settings.js";
import { settingsPanel } from "./settings-panel.js";
import { StatusLine } from "./status-line.js";
import { suggestions } from "./suggestions.js";
import { hideUnusable, showUnusable } from "./unusable.js";

const settings = loadSettings();
const conversation = new Conversation();
const session = new ModelSession();
const status = new StatusLine();
const messages = new MessageList(new AutoScroll(need("scroll"), need("to-latest")), () => void regenerate());
const composer = new Composer((text) => void send(text), () => generation?.abort());
const files = modelFiles((list) => void load({ source: { shards: list }, name: list[0]?.name ?? "" }));
const panel = new LoadPanel({
  onLoad: (offer) => void load({ source: offer.url, name: offer.name }),
  onOpenFile: files.open,
  onCancel: () => session.cancel(),
  onDecline: () => void decline(),
});

let usable = false;
let offer: Offer | undefined;
let generation: Generation | undefined;

void begin();

async function begin(): Promise<void> {
  suggestions(false, (text) => void send(text));
  settingsPanel(settings, {
    onChange: () => {},
    onOpenFile: files.open,
    onReload: reload,
    canReload: () => session.last !== undefined && !session.isLoading,
  });
  need("new-chat").addEventListener("click", newChat);
  messages.show(conversation.turns);
  status.setModel(undefined);
  arrange();
  const { device, refused } = requestedDevice(location.search);
  if (device) settings.deviceThisVisit = device;
  const asked = requestedOffer(location.search);
  offer = typeof asked === "object" ? asked : await defaultOffer();
  const wrong = typeof asked === "string" ? asked : refused;
  if (wrong !== undefined) showError({ code: "invalid-option", message: wrong });
  await checkSupport();
}

async function checkSupport(): Promise<void> {
  const support = await supported();
  usable = support.simd;
  composer.enabled = usable;
  if (!usable) {
    showUnusable(support, () => void checkSupport());
    arrange();
    return;
  }
  hideUnusable();
  arrange();
  if (!session.model && !session.isLoading) panel.offer(offer);
}

/** The welcome shows while nothing has been said; the load panel moves out of its way afterwards. */
function arrange(): void {
  const empty = need("messages").childElementCount === 0;
  need("welcome").hidden = !empty || !need("unusable").hidden;
  need<HTMLButtonElement>("new-chat").disabled = empty;
  panel.place(empty ? "welcome" : "dock");
}

async function load(request: ModelRequest): Promise<void> {
  if (!usable) return;
  clearError();
  panel.loading(request.name);
  await stopAnswer();
  forgetModel();
  try {
    const model = await session.load(request, loadOptions(settings), (progress) => panel.progress(progress));
    if (!model) {
      // Cancelled; if by loading another model, that one's progress stays.
      if (!session.isLoading) abandonLoad();
      return;
    }
    conversation.attach(model);
    setContinues(!model.info.hasChatTemplate);
    panel.hide();
    status.setModel(model.info);
    need("model-name").textContent = model.info.name || request.name;
    announce("The model is ready.");
    composer.modelReady();
  } catch (thrown) {
    abandonLoad();
    const error = coded(thrown);
    const onCpu = (request.device ?? loadOptions(settings).device) === "cpu";
    showError(error, [{ label: "Try again", run: () => void load(request).then(answerPending) }, ...(onCpu ? [] : cpuInstead(error, request))]);
  }
}

/** What the page says of the model that was. */
function forgetModel(): void {
  conversation.detach();
  status.setModel(undefined);
  need("model-name").textContent = "";
  need("continues").hidden = true;
}

/** A model without a chat template continues texts; the page then shows no roles. */
function setContinues(continues: boolean): void {
  composer.continues = continues;
  if (messages.continues === continues) return;
  messages.continues = continues;
  suggestions(continues, (text) => void send(text));
  messages.show(conversation.turns);
  arrange();
}

function abandonLoad(): void {
  panel.offer(offer);
  composer.waiting = false;
}

/** Stops the answer under way and waits for what it leaves behind, but not for an engine that hangs. */
async function stopAnswer(): Promise<void> {
  generation?.abort();
  const late = new Promise((resolve) => setTimeout(resolve, 1000));
  await Promise.race([generation?.result.catch(() => {}), late]);
}

/** With the settings as they are now, whatever the last load had to fall back on. */
function reload(): void {
  if (!session.last) return;
  const { source, name } = session.last;
  void load({ source, name });
}

async function decline(): Promise<void> {
  offer = await defaultOffer();
  panel.offer(offer);
}

async function send(text: string): Promise<void> {
  if (generation) return;
  if (!session.model) {
    // A link's model is never loaded as a side effect of typing: it has to be accepted first.
    const canLoad = !session.isLoading && offer && offer.askedHost === undefined;
    if (!session.isLoading && !canLoad) {
      composer.text = text;
      announce("Load a model first.");
      document.querySelector<HTMLElement>(".loader button")?.focus();
      return;
    }
    composer.text = text;
    composer.waiting = true;
    if (canLoad && offer) await load({ source: offer.url, name: offer.name });
    return;
  }
  composer.text = "";
  messages.addUser(text);
  await answer(text, true, () => conversation.send(text, settings.system, generateOptions(settings)));
}

async function regenerate(): Promise<void> {
  if (generation) return;
  if (!session.model) {
    document.querySelector<HTMLElement>(".loader button")?.focus();
    return;
  }
  messages.removeLastAnswer();
  const asked = conversation.turns.findLast(({ role }) => role === "user")?.content ?? "";
  const view = await answer(asked, false, () => conversation.regenerate(settings.system, generateOptions(settings)));
  // When nothing better came, the conversation has kept the old answer: show that again.
  const last = conversation.turns.at(-1);
  if (last?.role === "assistant" && last.content !== view.text) messages.show(conversation.turns);
}

/** `isNew`: the message has just been written. */
async function answer(asked: string, isNew: boolean, start: () => Generation): Promise<AnswerView> {
  clearError();
  const view = messages.addAnswer(asked);
  arrange();
  const running = start();
  generation = running;
  composer.busy = true;
  announce(messages.continues ? "Continuing…" : "Answering…");
  conversation.save();
  const error = await streamAnswer(running, view, status);
  // A new chat or another model may have begun meanwhile.
  if (generation !== running) return view;
  generation = undefined;
  composer.busy = false;
  conversation.save();
  if (error) failed(error, isNew && !isLast(asked) ? asked : undefined);
  return view;
}

/** `refused` is a message that the model cannot read; the conversation has not kept it. */
function failed(error: EmberglassError, refused?: string): void {
  if (refused !== undefined) giveBack(refused);
  const actions: Action[] = [];
  const { last } = session;
  const onCpu = session.model?.info.device.kind === "cpu";
  if (isFatal(error)) {
    forgetModel();
    void session.release();
    panel.offer(offer);
    if (last) actions.push({ label: "Load again", run: () => void load(last).then(answerPending) });
  } else if (error.code === "context-overflow" || refused !== undefined) {
    actions.push({ label: "Edit the message", run: () => (refused === undefined ? editLast() : composer.focus()) });
    if (error.code === "context-overflow") actions.push({ label: "New chat", run: newChat });
  } else {
    actions.push({ label: "Try again", run: () => void regenerate() });
  }
  if (last && !onCpu) actions.push(...cpuInstead(error, last));
  showError(error, actions);
}

/** What the GPU could not do, the CPU may: the same model, the same conversation. */
function cpuInstead(error: EmberglassError, request: ModelRequest): Action[] {
  if (!cpuMayHelp(error)) return [];
  return [{ label: "Go on on the CPU", run: () => void load({ ...request, device: "cpu" }).then(answerPending) }];
}

/** The message that the model before did not answer. */
function answerPending(): void {
  if (session.model && conversation.turns.at(-1)?.role === "user") void regenerate();
}

/** Whether this message is the conversation's last, unanswered. */
function isLast(asked: string): boolean {
  const last = conversation.turns.at(-1);
  return last?.role === "user" && last.content === asked;
}

function editLast(): void {
  giveBack(conversation.undo() ?? "");
  composer.focus();
}

/** Puts a message back where it was written, and shows the conversation without it. */
function giveBack(text: string): void {
  messages.show(conversation.turns);
  arrange();
  composer.text = text;
}

function newChat(): void {
  generation?.abort();
  generation = undefined;
  composer.busy = false;
  clearError();
  conversation.reset();
  messages.show([]);
  status.resetContext();
  arrange();
  announce("New chat.");
  composer.focus();
}
