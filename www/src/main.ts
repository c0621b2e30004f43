// Wires the parts of the page together; what each part does is in its own file.
import { type EmberglassError, type Generation, supported, type TextModel } from "emberglass";
import { AddressDialog } from "./address-dialog.js";
import { announce } from "./announcer.js";
import { streamAnswer } from "./answer.js";
import { AutoScroll } from "./auto-scroll.js";
import { type Action, clearError, showError, showRefusal } from "./banner.js";
import { isFatal } from "./coded.js";
import { Composer } from "./composer.js";
import { Conversation, isBlank } from "./conversation.js";
import { cpuMayHelp, loadOptions, requestedDevice } from "./device-choice.js";
import { el, need } from "./dom.js";
import { modelFiles } from "./file-drop.js";
import type { Turn } from "./history-store.js";
import { KeptNote } from "./kept-note.js";
import { Loader } from "./loader.js";
import { MessageList } from "./message-list.js";
import type { ModelRequest } from "./model-session.js";
import { nameElement, visible } from "./names.js";
import { workOffline } from "./offline.js";
import { generateOptions, loadSettings } from "./settings.js";
import { settingsPanel } from "./settings-panel.js";
import { StatusLine } from "./status-line.js";
import { StoredDialog } from "./stored-dialog.js";
import { suggestions } from "./suggestions.js";
import { hideUnusable, showUnusable } from "./unusable.js";

const settings = loadSettings();
const conversation = new Conversation(tellUnsaved);
const status = new StatusLine();
const messages = new MessageList(new AutoScroll(need("scroll"), need("to-latest")), () => void regenerate(), remove);
const composer = new Composer((text) => void send(text), () => generation?.abort());
const files = modelFiles((list) => void loader.load({ source: { shards: list }, name: list[0]?.name ?? "", hereBytes: Infinity }));
const address = new AddressDialog((offer) => loader.propose(offer));
const stored = new StoredDialog({ onLoad: (offer) => void loader.loadOffer(offer), onChange: () => loader.offers.refresh() });
const kept = new KeptNote(stored.open);
const loader = new Loader({
  isUsable: () => usable,
  wishes: () => loadOptions(settings),
  onOpenFile: files.open,
  onAddress: address.open,
  onStored: stored.open,
  onReplace: async () => {
    await stopAnswer();
    forgetModel();
  },
  onLoaded,
  onAbandoned: () => (composer.waiting = false),
  onMended: answerDue,
});
const { session } = loader;

let usable = false;
/** The last message failed for a reason that another load may mend: it is answered then. */
let answerIsDue = false;
let generation: Generation | undefined;

void begin();
workOffline();

async function begin(): Promise<void> {
  suggestions(false, (text) => void send(text));
  settingsPanel(settings, {
    onChange: () => {},
    onLoadChange: () => loader.offers.refresh(),
    onOpenFile: files.open,
    onAddress: () => address.open(),
    onStored: stored.open,
    onReload: () => loader.reload(),
    canReload: () => session.last !== undefined && !session.isLoading,
    model: () => session.model?.info,
  });
  need("new-chat").addEventListener("click", newChat);
  messages.show(conversation.turns);
  status.setModel(undefined);
  arrange();
  const { device, refused } = requestedDevice(location.search);
  if (device) settings.deviceThisVisit = device;
  const wrong = (await loader.offers.find(location.search)) ?? refused;
  if (wrong !== undefined) showRefusal("This link asks for something that is not possible", [el("bdi", {}, visible(wrong))]);
  await checkSupport();
}

async function checkSupport(): Promise<void> {
  const support = await supported();
  usable = support.simd;
  composer.enabled = usable;
  if (usable) hideUnusable();
  else showUnusable(support, () => void checkSupport());
  arrange();
  if (usable) loader.offer();
}

/** The welcome shows while nothing has been said; the load panel moves out of its way afterwards. */
function arrange(): void {
  const empty = need("messages").childElementCount === 0;
  need("welcome").hidden = !empty || !need("unusable").hidden;
  need<HTMLButtonElement>("new-chat").disabled = empty;
  loader.panel.place(empty ? "welcome" : "dock");
}

function onLoaded(model: TextModel, request: ModelRequest): void {
  conversation.attach(model);
  setContinues(!model.info.hasChatTemplate);
  status.setModel(model.info);
  need("model-name").replaceChildren(nameElement(request.name));
  kept.show(model.info.storage, request);
  announce("The model is ready.");
  composer.modelReady();
}

/** What the page says of the model that was. */
function forgetModel(): void {
  conversation.detach();
  kept.hide();
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
  showConversation();
}

/** Stops the answer under way and waits for what it leaves behind, but not for an engine that hangs. */
async function stopAnswer(): Promise<void> {
  generation?.abort();
  const late = new Promise((resolve) => setTimeout(resolve, 1000));
  await Promise.race([generation?.result.catch(() => {}), late]);
}

async function send(text: string): Promise<void> {
  if (generation) return;
  if (!session.model) {
    // A link's model is never loaded as a side effect of typing: it has to be accepted first.
    const offer = session.isLoading ? undefined : loader.offers.current;
    const canLoad = offer !== undefined && offer.askedHost === undefined;
    if (!session.isLoading && !canLoad) {
      composer.text = text;
      announce("Load a model first.");
      document.querySelector<HTMLElement>(".loader button")?.focus();
      return;
    }
    composer.text = text;
    composer.waiting = true;
    if (canLoad) await loader.loadOffer(offer);
    return;
  }
  composer.text = "";
  answerIsDue = false;
  messages.addUser(text);
  await answer(text, () => conversation.send(text, settings.system, generateOptions(settings)));
}

async function regenerate(): Promise<void> {
  if (generation) return;
  if (!session.model) {
    document.querySelector<HTMLElement>(".loader button")?.focus();
    return;
  }
  const asked = conversation.turns.findLast(({ role }) => role === "user")?.content;
  if (asked === undefined) return;
  answerIsDue = false;
  messages.removeLastAnswer();
  await answer(asked, () => conversation.regenerate(settings.system, generateOptions(settings)));
}

async function answer(asked: string, start: () => Generation): Promise<void> {
  clearError();
  const view = messages.addAnswer(asked);
  arrange();
  const running = start();
  generation = running;
  composer.busy = true;
  announce(messages.continues ? "Continuing…" : "Answering…");
  const error = await streamAnswer(running, view, status);
  await conversation.ended;
  // A new chat or another model may have begun meanwhile.
  if (generation !== running) return;
  generation = undefined;
  composer.busy = false;
  if (error) failed(error);
  // Without a word, the message is not answered, or has its old answer.
  if (isBlank(view.text)) showConversation();
}

function failed(error: EmberglassError): void {
  const actions: Action[] = [];
  const { last } = session;
  const onCpu = session.model?.info.device.kind === "cpu";
  answerIsDue = isFatal(error) || cpuMayHelp(error);
  if (isFatal(error)) {
    forgetModel();
    loader.lost();
    if (last) actions.push(loader.mend("Load again", last));
  } else if (["context-overflow", "text-too-long"].includes(error.code)) {
    actions.push({ label: "Edit the message", run: editLast }, { label: "New chat", run: newChat });
  } else {
    actions.push({ label: "Try again", run: () => void regenerate() });
  }
  if (last && !onCpu) actions.push(...loader.cpuInstead(error, last));
  showError(error, actions);
}

/** Answers the message that the model before failed to answer. */
function answerDue(): void {
  if (session.model && answerIsDue) void regenerate();
}

function showConversation(): void {
  messages.show(conversation.turns);
  arrange();
}

function remove(turn: Turn): void {
  if (generation) return;
  answerIsDue = false;
  conversation.remove(turn);
  showConversation();
  announce("The message is removed.");
  composer.focus();
}

/** Says once that the conversation is not stored, and takes it back when it is. */
function tellUnsaved(why: string | undefined): void {
  const line = need("unsaved");
  if (line.textContent === (why ?? "")) return;
  line.textContent = why ?? "";
  line.hidden = why === undefined;
}

function editLast(): void {
  const text = conversation.undo();
  showConversation();
  if (text !== undefined) composer.text = text;
  composer.focus();
}

function newChat(): void {
  generation?.abort();
  generation = undefined;
  composer.busy = false;
  answerIsDue = false;
  clearError();
  conversation.reset();
  showConversation();
  status.resetContext();
  announce("New chat.");
  composer.focus();
}
