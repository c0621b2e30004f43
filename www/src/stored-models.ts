// The models that are stored on this device, as offers.
import { models, type StoredModel } from "emberglass";
import type { Offer } from "./model-choice.js";

/** Those of which something is stored, the newest first. @throws EmberglassError */
export async function listModels(): Promise<StoredModel[]> {
  const list = await models.list();
  return list.filter(({ storedBytes }) => storedBytes > 0).sort((a, b) => b.lastUsed - a.lastUsed);
}

/** The same; empty where they cannot be read, which the dialog tells. */
export function storedModels(): Promise<StoredModel[]> {
  return listModels().catch(() => []);
}

/** Weights of an image decoder are stored beside the language models, and open on the Pictures page. */
export function isPictureModel({ files }: StoredModel): boolean {
  return files.some(({ name }) => /\.(safetensors|json)$/i.test(name));
}

/** What of the stored models is this offer's. */
export function storedOf({ source }: Offer, list: readonly StoredModel[]): StoredModel | undefined {
  if (typeof source === "object" && "stored" in source) return list.find(({ id }) => id === source.stored);
  return typeof source === "string" ? list.find((stored) => stored.source === source) : undefined;
}

/** What is missing of it comes from where it came from. */
export function storedOffer({ id, name, bytes = 0, storedBytes, complete }: StoredModel): Offer {
  return { source: { stored: id }, name, bytes, hereBytes: complete ? Infinity : storedBytes };
}
