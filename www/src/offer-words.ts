// What the page says of a model before it is loaded: whether it runs here, what of it is stored, what is to be downloaded.
import type { CanRun, EmberglassError, StoredModel } from "emberglass";
import { el } from "./dom.js";
import { wordsFor } from "./error-words.js";
import { bytes, milliseconds, rate, seconds, sentence } from "./format.js";
import type { Offer } from "./model-choice.js";
import { nameElement, visible } from "./names.js";

/** What is known of the model that is offered. */
export interface Known {
  /** What is stored of it. */
  stored?: StoredModel | undefined;
  isChecking?: boolean;
  /** What the check found. */
  check?: CanRun;
  /** Why the check found nothing. */
  failure?: EmberglassError;
  isOnline: boolean;
}

/** How much of the model is here. */
function kept(offer: Offer | undefined, { check, stored }: Known): { here: number; all: number; isWhole: boolean } {
  if (offer?.isInside) return { here: offer.bytes, all: offer.bytes, isWhole: true };
  if (!check) return { here: stored?.storedBytes ?? 0, all: stored?.bytes ?? 0, isWhole: stored?.complete ?? false };
  const { storedBytes, downloadBytes } = check;
  return { here: storedBytes, all: storedBytes + downloadBytes, isWhole: storedBytes > 0 && downloadBytes === 0 };
}

/** Whether it loads without a network. */
export function isHere(offer: Offer | undefined, known: Known): boolean {
  return kept(offer, known).isWhole;
}

/** How many of its bytes are on this device; `Infinity` for all. */
export function hereBytes(offer: Offer | undefined, known: Known): number {
  const { here, isWhole } = kept(offer, known);
  return isWhole ? Infinity : here;
}

/** What stands on the button that loads it. */
export function loadLabel(offer: Offer, known: Known): (Node | string)[] {
  const { here, all, isWhole } = kept(offer, known);
  const name = nameElement(offer.name);
  if (isWhole) return ["Start ", name];
  if (here > 0) return ["Continue ", name, ...(all > 0 ? [` · ${bytes(all - here)} to go`] : [])];
  const size = all > 0 ? all : offer.bytes;
  return ["Load ", name, ...(size > 0 ? [` · ${bytes(size)}`] : [])];
}

/** The line below the button. A `problem` is something that keeps it from running. */
export function offerLine(offer: Offer | undefined, known: Known): { text: (string | Node)[]; isProblem: boolean } {
  const { check, failure, isChecking, isOnline } = known;
  const { here, all, isWhole } = kept(offer, known);
  const parts: (string | Node)[] = [];
  if (offer?.isInside) parts.push(`${bytes(all)}, in this file. `);
  else if (isWhole) parts.push(`${bytes(all)}, all of it stored on this device. `);
  else if (here > 0) parts.push(`${bytes(here)}${all > 0 ? ` of ${bytes(all)}` : ""} are stored on this device, and loading goes on from there. `);
  if (!isOnline && !isWhole) {
    const missing = here > 0 ? "a part of the model is missing here. " : "the model is not stored on it. ";
    return { text: [`This device is offline, and ${missing}`, ...parts], isProblem: true };
  }
  if (isChecking) parts.push("Checking whether it runs here…");
  else if (check?.fits) parts.push(runs(check));
  else if (check) parts.push(refusal(check));
  else if (failure && !isWhole) parts.push(`${wordsFor(failure).title}.`);
  return { text: parts, isProblem: check?.fits === false || (failure !== undefined && !isWhole) };
}

function runs({ device, estimate: { tokensPerSecond, loadSeconds } }: CanRun): string {
  const where = device.kind === "webgpu" ? "on your graphics card" : "on your processor";
  const speed = tokensPerSecond === null ? "" : `, about ${rate(tokensPerSecond)} tokens a second`;
  const wait = loadSeconds === null ? "" : `, ready in ${loadSeconds < 1 ? "" : "about "}${seconds(loadSeconds)}`;
  return `Runs ${where}${speed}${wait}.`;
}

/** Why it does not run, and what may help. */
function refusal({ deviceBytes, device, reasons: [reason] }: CanRun): string {
  const smaller = "A smaller model may fit, or a shorter context: see Settings.";
  switch (reason?.code) {
    case "device-limit":
      return "It does not fit: a part of it is too large for the graphics card. The CPU may run it: choose it in Settings.";
    case "address-space":
      return `It does not fit: it takes ${bytes(deviceBytes)} of memory, more than a web page can have. ${smaller}`;
    default: {
      const whose = device.kind === "webgpu" ? "the graphics card" : "this device";
      return `It does not fit: it takes ${bytes(deviceBytes)} of memory, and ${whose} did not give so much. ${smaller}`;
    }
  }
}

/** Figures and reasons for whoever wants to know more; empty where there are none. */
export function offerDetails({ check, failure }: Known): [string, (string | Node)[]][] {
  if (failure) return [["Check", [el("bdi", {}, visible(sentence(failure.message))), " ", el("code", {}, failure.code)]]];
  if (!check) return [];
  const { downloadBytes, deviceBytes, contextBytesPerToken, device, reasons, estimate } = check;
  const rows: [string, (string | Node)[]][] = [
    ["Download", [downloadBytes === 0 ? "nothing" : bytes(downloadBytes)]],
    ["Memory", [`${bytes(deviceBytes)}; each token of the context takes ${bytes(contextBytesPerToken)} of it`]],
  ];
  if (estimate.firstTokenMs !== null) rows.push(["First word", [`after about ${milliseconds(estimate.firstTokenMs)}`]]);
  // These may hold names out of files.
  rows.push(["Device", [el("bdi", {}, visible(sentence(device.reason)))]]);
  for (const { message } of reasons) rows.push(["Why not", [el("bdi", {}, visible(sentence(message)))]]);
  return rows;
}
