// Names of stored models, and addresses without their secrets.
import { sha256 } from "./digest.js";

/** Query parameters that sign or authorise an address. They change from one answer of a server to the next, for the same file. */
const SECRET =
  /^(awsaccesskeyid|googleaccessid|ossaccesskeyid|key-pair-id|x-(amz|goog|ms|oss)-.*|(.*[-_])?(api[-_]?key|auth|authorization|credentials?|hmac|jwt|password|passwd|secret|session|sig|signature|token))$/;
/** These belong to a signature where there is one. Elsewhere they may say which file is meant. */
const SIGNED = new Set(["expires", "policy", "se", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv"]);

/** The address of a file, the same for everyone: without user, password, fragment, and what signs or authorises it. */
export function canonicalAddress(address: string): string {
  if (!URL.canParse(address)) return address;
  const url = new URL(address);
  url.username = "";
  url.password = "";
  url.hash = "";
  const names = [...url.searchParams.keys()];
  const isSigned = names.some((name) => ["sig", "signature"].includes(name.toLowerCase()));
  const isSecret = (name: string) => SECRET.test(name) || (isSigned && SIGNED.has(name));
  // Deleting rewrites the whole query, so one without secrets is left as it is.
  for (const name of names) if (isSecret(name.toLowerCase())) url.searchParams.delete(name);
  return url.href;
}

/** Whether the place of a file tells where to download it; that of an imported file is its name. */
export function isDownloaded(place: string): boolean {
  return /^https?:\/\//.test(place);
}

/** The id under which the files at these addresses are kept: one address for each file, in their order. */
export function modelId(addresses: readonly string[]): Promise<string> {
  return idOf(addresses.map(canonicalAddress));
}

/** The id of an imported model: the same files under the same names have the same. */
export function importId(files: readonly { name: string; sha256: readonly string[] }[]): Promise<string> {
  return idOf(["import", files.map(({ name, sha256 }) => [name, ...sha256])]);
}

/** First 32 of the hexadecimal digits of a SHA-256. */
async function idOf(parts: readonly unknown[]): Promise<string> {
  return (await sha256(new TextEncoder().encode(JSON.stringify(parts)))).slice(0, 32);
}

/** For messages and records: without user, password, query and fragment. What is no address, such as a file's name, stays. */
export function shownAddress(address: string): string {
  if (!URL.canParse(address)) return address;
  const { protocol, host, pathname } = new URL(address);
  // The path of a data: address is the file itself, that of a blob: address says nothing.
  return host === "" && protocol !== "file:" ? protocol : `${protocol}//${host}${pathname}`;
}
