// The messages on the page, in step with the conversation.
import type { ChatMessage } from "emberglass";
import type { AutoScroll } from "./auto-scroll.js";
import { copyCodeOnClick } from "./clipboard.js";
import { need } from "./dom.js";
import { AnswerView, userMessage } from "./message-view.js";

export class MessageList {
  readonly #root = need("messages");
  readonly #scroll: AutoScroll;
  readonly #onRegenerate: () => void;
  /** The model continues texts: a text and its continuation are one message. */
  continues = false;

  constructor(scroll: AutoScroll, onRegenerate: () => void) {
    this.#scroll = scroll;
    this.#onRegenerate = onRegenerate;
    copyCodeOnClick(this.#root);
  }

  /** Shows exactly these. */
  show(turns: readonly ChatMessage[]): void {
    this.#root.replaceChildren();
    let asked = "";
    for (const { role, content } of turns) {
      if (role === "user") this.addUser((asked = content));
      else {
        const view = this.addAnswer(asked);
        view.setText(content);
        view.setState("done");
      }
    }
    if (turns.at(-1)?.role === "user") this.addAnswer(asked).setState("stopped", "Not answered");
    if (turns.length === 0) this.#scroll.rest();
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

  /** Takes the last answer off the page, if the last message is one. */
  removeLastAnswer(): void {
    const last = this.#root.lastElementChild;
    if (last?.classList.contains("assistant")) last.remove();
  }
}
