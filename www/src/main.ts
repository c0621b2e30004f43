// Wires the parts of the page together; what each part does is in its own file.
import { type EmberglassError, type Generation, supported } from "emberglass";
import { announce } from "./announcer.js";
import { streamAnswer } from "./answer.js";
import { AutoScroll } from "./auto-scroll.js";
import { type Action, clearError, showError, showRefusal } from "./banner.js";
import { coded, isFatal, retryMayHelp } from "./coded.js";
import { Composer } from "./composer.js";
import { Conversation, isBlank } from "./conversation.js";
import { cpuMayHelp, loadOptions, requestedDevice } from "./device-choice.js";
import { el, need } from "./dom.js";
import { modelFiles } from "./file-drop.js";
import type { Turn } from "./history-store.js";
import { LoadPanel } from "./load-panel.js";
import { MessageList } from "./message-list.js";
import { defaultOffer, type Offer, requestedOffer } from "./model-choice.js";
import { type ModelRequest, ModelSession } from "./model-session.js";
import { nameElement, visible } from "./names.js";
import { workOffline } from "./offline.js";
import { generateOptions, loadSettings } from "./settings.js";
import { settingsPanel } from "./settings-panel.js";
import { StatusLine } from "./status-line.js";
import { suggestions } from "./suggestions.js";
import { hideUnusable, showUnusable } from "./unusable.js";

const settings = loadSettings();
const conversation = new Conversation(tellUnsaved);
const session = new ModelSession();
const status = new StatusLine();
const messages = new MessageList(new AutoScroll(need("scroll"), need("to-latest")), () => void regenerate(), remove);
const composer = new Composer((text) => void send(text), () => generation?.abort());
const files = modelFiles((list) => void load({ source: { shards: list }, name: list[0]?.name ?? "" }));
const panel = new LoadPanel({
  onLoad: (offer) => void load(requestOf(offer)),
  onOpenFile: files.open,
  onCancel: () => session.cancel(),
  onDecline: () => void decline(),
  onFormer: () => former && void load(former),
});

let usable = false;
let offer: Offer | undefined;
/** The model that went for one that was not loaded. */
let former: ModelRequest | undefined;
/** The last message failed for a reason that another load may mend: it is answered then. */
let answerIsDue = false;
let generation: Generation | undefined;

void begin();
workOffline();

async function begin(): Promise<void> {
  suggestions(false, (text) => void send(text));
  settingsPanel(settings, {
    onChange: () => {},
    onOpenFile: files.open,
    onReload: reload,
    canReload: () => session.last !== undefined && !session.isLoading,
    model: () => session.model?.info,
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
  if (wrong !== undefined) showRefusal("This link asks for something that is not possible", [el("bdi", {}, visible(wrong))]);
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

function requestOf({ source, name, sampling }: Offer): ModelRequest {
  return { source, name, sampling };
}

async function load(request: ModelRequest): Promise<void> {
  if (!usable) return;
  clearError();
  panel.loading(request.name);
  const onReplace = async () => {
    if (session.model) former = session.last;
    await stopAnswer();
    forgetModel();
  };
  try {
    const model = await session.load(request, loadOptions(settings), { onReplace, onProgress: (progress) => panel.progress(progress) });
    if (!model) {
      // Cancelled; if by loading another model, that one's progress stays.
      if (!session.isLoading) {
        abandonLoad();
        announce("Loading is cancelled.");
      }
      return;
    }
    former = undefined;
    conversation.attach(model);
    setContinues(!model.info.hasChatTemplate);
    panel.hide();
    status.setModel(model.info);
    need("model-name").replaceChildren(nameElement(request.name));
    announce("The model is ready.");
    composer.modelReady();
  } catch (thrown) {
    abandonLoad();
    const error = coded(thrown);
    const onCpu = (request.device ?? loadOptions(settings).device) === "cpu";
    const more = session.model ? { more: "The model that was loaded is still there." } : {};
    const actions = [
      ...(retryMayHelp(error) ? [{ label: "Try again", run: () => void load(request).then(answerDue) }] : []),
      ...(onCpu ? [] : cpuInstead(error, request)),
      ...formerInstead(),
    ];
    showError(error, actions, more);
  }
}

/** The model that is gone for nothing. */
function formerInstead(): Action[] {
  const request = former;
  return request && !session.model ? [{ label: "Load the former model", run: () => void load(request).then(answerDue) }] : [];
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
  showConversation();
}

function abandonLoad(): void {
  if (session.model) panel.hide();
  else panel.offer(offer, former?.name);
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
  const { device: _, ...request } = session.last;
  void load(request);
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
    if (canLoad && offer) await load(requestOf(offer));
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
    void session.release();
    panel.offer(offer);
    if (last) actions.push({ label: "Load again", run: () => void load(last).then(answerDue) });
  } else if (["context-overflow", "text-too-long"].includes(error.code)) {
    actions.push({ label: "Edit the message", run: editLast }, { label: "New chat", run: newChat });
  } else {
    actions.push({ label: "Try again", run: () => void regenerate() });
  }
  if (last && !onCpu) actions.push(...cpuInstead(error, last));
  showError(error, actions);
}

/** What the GPU could not do, the CPU may: the same model, the same conversation. */
function cpuInstead(error: EmberglassError, request: ModelRequest): Action[] {
  if (!cpuMayHelp(error)) return [];
  return [{ label: "Go on on the CPU", run: () => void load({ ...request, device: "cpu" }).then(answerDue) }];
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
