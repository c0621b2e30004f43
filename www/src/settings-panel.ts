// The settings drawer. Values apply to the next message; those of the model to the next load.
import type { ModelInfo } from "emberglass";
import { DEVICES, isDevice, loadOptions } from "./device-choice.js";
import { button, el, need } from "./dom.js";
import { embedded } from "./embedded.js";
import { nameElement } from "./names.js";
import { modelDefault, NUMBER_FIELDS, saveSettings, type Settings } from "./settings.js";

/** Of the file's recommendations that are not applied, at most so many are listed. */
const MOST_KEYS = 20;

export interface SettingsActions {
  onChange: () => void;
  /** Something that counts for loading has changed, and the panel is closed. */
  onLoadChange: () => void;
  onOpenFile: () => void;
  onAddress: () => void;
  /** Shows the models that are stored. */
  onStored: () => void;
  onReload: () => void;
  /** Whether there is a model that a reload would load with these settings. */
  canReload: () => boolean;
  /** What is loaded; its defaults are shown. */
  model: () => ModelInfo | undefined;
}

export function settingsPanel(settings: Settings, actions: SettingsActions): void {
  const dialog = need<HTMLDialogElement>("settings");
  const reload = button("Reload the model", () => (dialog.close(), actions.onReload()), { "data-testid": "reload-model" });

  const changed = () => {
    saveSettings(settings);
    actions.onChange();
  };

  const number = (
    key: Exclude<keyof Settings, "system" | "stop" | "device" | "deviceThisVisit">,
    field: { label: string; hint: string; placeholder?: string; min: number; max: number; step: number },
  ) => {
    const input = el("input", {
      type: "number",
      id: `setting-${key}`,
      "data-testid": `setting-${key}`,
      inputmode: "decimal",
      min: field.min,
      max: field.max,
      step: field.step,
      placeholder: field.placeholder ?? "",
      "aria-describedby": `hint-${key}`,
    });
    const row = labelled(input, field.label, field.hint, `hint-${key}`);
    const show = () => {
      input.value = settings[key] === undefined ? "" : String(settings[key]);
      if (field.placeholder !== undefined) return;
      const usual = modelDefault(key, actions.model());
      input.placeholder = usual?.value ?? "the model’s";
      const hint = row.querySelector("small");
      if (hint) hint.textContent = usual ? `${field.hint}. Default ${usual.value}, ${usual.origin}` : field.hint;
    };
    input.addEventListener("input", () => {
      // A value out of range is marked by the browser and not taken.
      if (input.value === "" && input.validity.valid) delete settings[key];
      else if (input.validity.valid) settings[key] = input.valueAsNumber;
      changed();
    });
    return { row, show };
  };

  const text = (key: "system" | "stop", label: string, hint: string, placeholder: string, rows: number) => {
    const input = el("textarea", { id: `setting-${key}`, "data-testid": `setting-${key}`, rows, placeholder, dir: "auto", "aria-describedby": `hint-${key}` });
    const show = () => (input.value = settings[key]);
    input.addEventListener("input", () => {
      settings[key] = input.value;
      changed();
    });
    return { row: labelled(input, label, hint, `hint-${key}`), show };
  };

  const system = text("system", "System prompt", "Who the model is and how it answers; a model without a chat template reads none", "You are a helpful assistant.", 3);
  const numbers = NUMBER_FIELDS.map((field) => number(field.key, field));
  const stop = text("stop", "Stop strings", "One per line; \\n is a line break", "", 2);
  const context = number("contextLength", {
    label: "Context length",
    hint: "Tokens; more needs more memory",
    placeholder: "chosen for the model",
    min: 128,
    max: 131072,
    step: 1,
  });

  const device = (() => {
    const options = DEVICES.map(({ value, label }) => el("option", { value }, label));
    const input = el("select", { id: "setting-device", "data-testid": "setting-device", "aria-describedby": "hint-device" }, ...options);
    const show = () => (input.value = settings.deviceThisVisit ?? settings.device ?? "auto");
    input.addEventListener("change", () => {
      if (isDevice(input.value)) settings.device = input.value;
      delete settings.deviceThisVisit;
      changed();
    });
    return { row: labelled(input, "Device", "What the model computes on", "hint-device"), show };
  })();
  const threads = number("threads", {
    label: "Threads",
    hint: "On the CPU; more than one if the page may share memory",
    placeholder: "found by timing",
    min: 1,
    max: 32,
    step: 1,
  });

  const notApplied = (() => {
    const row = el("div", { class: "hint", "data-testid": "sampling-not-applied" });
    const show = () => {
      const keys = actions.model()?.samplingNotApplied ?? [];
      const items = keys.slice(0, MOST_KEYS).map(({ key, value, reason }) => el("li", {}, nameElement(`${key} = ${value}`), `: ${reason}`));
      if (keys.length > MOST_KEYS) items.push(el("li", {}, `${keys.length - MOST_KEYS} more`));
      row.replaceChildren(...(items.length > 0 ? [el("p", {}, "The model’s file recommends more, which is not applied:"), el("ul", {}, ...items)] : []));
    };
    return { row, show };
  })();

  const fields = [system, ...numbers, notApplied, stop, device, threads, context];
  const reset = button(
    "Reset to defaults",
    () => {
      for (const key of Object.keys(settings)) delete settings[key as keyof Settings];
      Object.assign(settings, { system: "", stop: "" });
      for (const { show } of fields) show();
      changed();
    },
    { class: "button quiet" },
  );

  // A value that is not taken is told first; Escape gives it up.
  const done = () => {
    const wrong = dialog.querySelector<HTMLInputElement>("input:invalid");
    if (wrong) wrong.reportValidity();
    else dialog.close();
  };

  dialog.replaceChildren(
    el(
      "div",
      { class: "settings-bar" },
      el("h2", { id: "settings-title" }, "Settings"),
      button("Done", done, { "data-testid": "settings-close", autofocus: true }),
    ),
    el(
      "div",
      { class: "settings-body" },
      system.row,
      el("h3", {}, "Sampling"),
      el("div", { class: "grid" }, ...numbers.map(({ row }) => row)),
      notApplied.row,
      stop.row,
      reset,
      el("h3", {}, "Model"),
      el("p", { class: "hint" }, "These take effect when a model is loaded."),
      device.row,
      el("div", { class: "grid" }, threads.row, context.row),
      el(
        "div",
        { class: "row" },
        reload,
        button("Open a .gguf file…", () => (dialog.close(), actions.onOpenFile())),
        // A page that is one file uses no network, and is given no storage.
        ...(embedded
          ? []
          : [
              button("From an address…", () => (dialog.close(), actions.onAddress())),
              button("Models on this device…", () => (dialog.close(), actions.onStored()), { "data-testid": "settings-stored" }),
            ]),
      ),
    ),
  );
  // A click on the backdrop has the dialog itself as its target.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  let before = "";
  const ofLoading = () => JSON.stringify(loadOptions(settings));
  dialog.addEventListener("close", () => ofLoading() !== before && actions.onLoadChange());
  need("open-settings").addEventListener("click", () => {
    before = ofLoading();
    for (const { show } of fields) show();
    reload.disabled = !actions.canReload();
    dialog.showModal();
  });
}

function labelled(input: HTMLElement, label: string, hint: string, hintId: string): HTMLElement {
  return el(
    "div",
    { class: "field" },
    el("label", { for: input.id }, label),
    input,
    el("small", { id: hintId }, hint),
  );
}
