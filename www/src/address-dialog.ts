// The dialog where a visitor types the address of a model.
import { button, el, need } from "./dom.js";
import { modelAddress, withHubName } from "./model-address.js";
import type { Offer } from "./model-choice.js";

export class AddressDialog {
  readonly #dialog = need<HTMLDialogElement>("address");
  readonly #address = el("input", {
    id: "address-field",
    "data-testid": "address-field",
    type: "text",
    inputmode: "url",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "address-hint address-problem",
  });
  readonly #token = el("input", {
    id: "address-token",
    "data-testid": "address-token",
    type: "password",
    autocomplete: "off",
    "aria-describedby": "address-token-hint",
  });
  readonly #tokenRow = field(this.#token, "Access token", "address-token-hint", "Only for models that want a login. It goes to Hugging Face and nowhere else, and is not stored.");
  readonly #problem = el("p", { id: "address-problem", class: "problem", "data-testid": "address-problem", role: "alert" });
  readonly #onOffer: (offer: Offer) => void;

  /** `onOffer` gets the model at the address. */
  constructor(onOffer: (offer: Offer) => void) {
    this.#onOffer = onOffer;
    const form = el(
      "form",
      { class: "sheet-body", novalidate: true },
      el("h2", { id: "address-title" }, "A model from an address"),
      field(this.#address, "Address", "address-hint", "hf:owner/repo, hf:owner/repo:Q4_K_M, or the https: address of a .gguf file"),
      this.#problem,
      this.#tokenRow,
      el(
        "div",
        { class: "row end" },
        button("Cancel", () => this.#dialog.close()),
        el("button", { type: "submit", class: "button primary", "data-testid": "address-submit" }, "Continue"),
      ),
    );
    this.#dialog.replaceChildren(form);
    this.#address.addEventListener("input", () => this.#typed());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#dialog.addEventListener("click", (event) => event.target === this.#dialog && this.#dialog.close());
    // What is secret does not stay on the page.
    this.#dialog.addEventListener("close", () => (this.#token.value = ""));
  }

  /** `source`: an address that wants an access token. */
  readonly open = (source?: string): void => {
    if (source !== undefined) this.#address.value = source;
    this.#typed();
    this.#dialog.showModal();
    if (source === undefined) this.#address.select();
    else this.#token.focus();
  };

  /** A token has a use with the hub only. */
  #typed(): void {
    this.#say("");
    this.#tokenRow.hidden = !/^hf:/i.test(withHubName(this.#address.value));
  }

  #say(problem: string): void {
    this.#problem.textContent = problem;
    this.#problem.hidden = problem === "";
    this.#address.setAttribute("aria-invalid", String(problem !== ""));
  }

  #submit(): void {
    const typed = this.#address.value;
    const found = typed.trim() === "" ? { refused: "is missing" } : modelAddress(typed);
    if ("refused" in found) {
      this.#say(`The address of the model ${found.refused}.`);
      this.#address.focus();
      return;
    }
    const { source, name } = found;
    const accessToken = this.#tokenRow.hidden ? "" : this.#token.value.trim();
    this.#dialog.close();
    this.#onOffer({ source, name, bytes: 0, ...(accessToken === "" ? {} : { accessToken }) });
  }
}

function field(input: HTMLElement, label: string, hintId: string, hint: string): HTMLElement {
  return el("div", { class: "field" }, el("label", { for: input.id }, label), input, el("small", { id: hintId }, hint));
}
