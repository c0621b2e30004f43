// The messages on the page, in step with the conversation.
import type { AutoScroll } from "./auto-scroll.js";
import { copyCodeOnClick } from "./clipboard.js";
import { need } from "./dom.js";
import { ENDINGS, type Turn } from "./history-store.js";
import { AnswerView, userMessage } from "./message-view.js";
import { unanswered } from "./unanswered.js";

export class MessageList {
  readonly #root = need("messages");
  readonly #scroll: AutoScroll;
  readonly #onRegenerate: () => void;
  readonly #onRemove: (turn: Turn) => void;
  /** The model continues texts: a text and its continuation are one message. */
  continues = false;

  /** `onRemove` gets a message without an answer that shall go. */
  constructor(scroll: AutoScroll, onRegenerate: () => void, onRemove: (turn: Turn) => void) {
    this.#scroll = scroll;
    this.#onRegenerate = onRegenerate;
    this.#onRemove = onRemove;
    copyCodeOnClick(this.#root);
  }

  /** Shows exactly these. */
  show(turns: readonly Turn[]): void {
    this.#root.replaceChildren();
    // Each message looks where the page's end is: what is hidden needs no layout for that.
    this.#root.hidden = true;
    let asked = "";
    for (const [i, turn] of turns.entries()) {
      const { role, content, ended } = turn;
      if (role === "user") {
        if (turns[i + 1]?.role === "assistant") this.addUser((asked = content));
        else this.#addUnanswered(turn);
        continue;
      }
      const view = this.addAnswer(asked);
      view.setText(content);
      if (ended === undefined) view.setState("done");
      else view.setState(ended === "stopped" || ended === "reload" ? "stopped" : ended === "failed" ? "error" : "done", ENDINGS[ended]);
    }
    this.#root.hidden = false;
    if (turns.length === 0) this.#scroll.rest();
    else this.#scroll.follow();
  }

  addUser(text: string): void {
    if (this.continues) return;
    this.#root.append(userMessage(text));
    this.#scroll.follow();
  }

  /** A new answer to `asked` at the end, with nothing in it yet; or the text `asked`, not continued yet. */
  addAnswer(asked: string): AnswerView {
    const view = new AnswerView(() => this.#scroll.contentChanged(), this.#onRegenerate, this.continues ? asked : undefined);
    this.#root.append(view.element);
    this.#scroll.follow();
    return view;
  }

  /** Takes the last answer off the page, or what says that there is none. */
  removeLastAnswer(): void {
    const last = this.#root.lastElementChild;
    if (last?.matches(".assistant, .unanswered")) last.remove();
  }

  #addUnanswered(turn: Turn): void {
    this.#root.append(userMessage(turn.content), unanswered({ onAnswer: this.#onRegenerate, onRemove: () => this.#onRemove(turn) }));
    this.#scroll.follow();
  }
}
