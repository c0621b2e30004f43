// The model inside the page's own file. While the browser reads the file, the page says how far it is.
import { showRefusal } from "./banner.js";
import { el, need } from "./dom.js";
import { type Embedded, embeddedFile } from "./embedded.js";
import { bytes } from "./format.js";
import type { Offer } from "./model-choice.js";

/** Undefined where the file is damaged; the page says so. */
export async function insideOffer({ name, bytes: all, sampling }: Embedded["model"]): Promise<Offer | undefined> {
  const line = el("p", { class: "waiting", "data-testid": "reading" });
  need("composer-form").before(line);
  try {
    const source = await embeddedFile("model", (read) => {
      line.textContent = `Reading this file: ${bytes(read)} of ${bytes(all)}`;
    });
    return { source, name, bytes: all, sampling, isInside: true };
  } catch (thrown) {
    showRefusal("The model in this file cannot be used", (thrown as Error).message, "io");
    return undefined;
  } finally {
    line.remove();
  }
}
