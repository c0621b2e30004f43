// Files inside the page itself: `cargo xtask one-file` puts a model and the weights of an image decoder there. They lie in
// blocks of base64 at the end of the body, and are taken out as the browser reads the page.
import type { LoadOptions } from "emberglass";

export interface EmbeddedFile {
  name: string;
  bytes: number;
}

export interface Embedded {
  model: EmbeddedFile & { sampling: NonNullable<LoadOptions["sampling"]> };
  /** `isOwn`: it is the one that belongs to this page. */
  image?: EmbeddedFile & { isOwn: boolean };
}

/** What is inside this page; undefined on a site, whose files lie beside it. */
export const embedded: Embedded | undefined = read();

function read(): Embedded | undefined {
  const text = document.querySelector("script#embedded")?.textContent ?? "";
  return text === "" ? undefined : (JSON.parse(text) as Embedded);
}

/** The page's own file is damaged. */
export class DamagedPage extends Error {
  override name = "DamagedPage";

  constructor(what: string) {
    super(`This page’s file is damaged or not whole: ${what}. Copy or download it again.`);
  }
}

/**
 * One file, once it has been read. What else is inside is dropped: each page calls this once.
 *
 * @throws {@link DamagedPage}
 */
export async function embeddedFile(role: keyof Embedded, onProgress: (read: number) => void): Promise<File> {
  const { name, bytes } = embedded?.[role] ?? { name: role, bytes: 0 };
  const parts: Blob[] = [];
  let read = 0;
  onProgress(read);
  for await (const block of blocks()) {
    if (block.dataset["file"] !== role) continue;
    const part = await decoded(block);
    parts.push(new Blob([part]));
    read += part.length;
    onProgress(read);
    if (read >= bytes) break;
  }
  if (read !== bytes) throw new DamagedPage(`of the ${role}’s ${bytes} bytes it holds ${read}`);
  void dropTheRest();
  return new File(parts, name);
}

async function dropTheRest(): Promise<void> {
  for await (const _ of blocks());
}

/** The blocks, each as soon as it is whole. It is out of the document then, so that its text can be freed. */
async function* blocks(): AsyncGenerator<HTMLScriptElement> {
  for (;;) {
    const block = document.querySelector<HTMLScriptElement>("body > script[data-file]");
    const isRead = document.readyState !== "loading";
    if (block && (isRead || block.nextSibling)) {
      block.remove();
      yield block;
    } else if (isRead) return;
    else await moreOfThePage();
  }
}

function moreOfThePage(): Promise<void> {
  return new Promise((resolve) => {
    const more = () => {
      observer.disconnect();
      document.removeEventListener("readystatechange", more);
      resolve();
    };
    const observer = new MutationObserver(more);
    observer.observe(document.body, { childList: true });
    document.addEventListener("readystatechange", more);
  });
}

async function decoded(block: HTMLScriptElement): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = fromBase64(block.text);
  // Firefox keeps the text of what is out of the document for long.
  for (const text of block.childNodes) (text as Text).data = "";
  // A page that came by http: has no digests.
  const digest = bytes && (await globalThis.crypto.subtle?.digest("SHA-256", bytes));
  const { file, sha256 } = block.dataset;
  if (!bytes || (digest && hex(digest) !== sha256)) throw new DamagedPage(`a block of the ${file} is not as it was written`);
  return bytes;
}

/** Undefined for a text that is not base64. */
function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    // Since Chrome 140, Firefox 133 and Safari 18.2.
    const { fromBase64 } = Uint8Array as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
    if (fromBase64) return fromBase64(text);
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  } catch {
    return undefined;
  }
}

function hex(digest: ArrayBuffer): string {
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
