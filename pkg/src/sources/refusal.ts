// What a hub says with a status, as an error that says what to do.
import type { WireError } from "../errors.js";
import { shownAddress } from "../storage/model-id.js";

/** A hub's answer without success; undefined for the answer of another server. `sentToken`: the request had an access token. */
export function hubRefusal(response: Response, address: string, sentToken: boolean): WireError | undefined {
  const { status, headers } = response;
  const code = headers.get("X-Error-Code");
  const page = pageOf(address);
  if (code === null && page === undefined) return undefined;
  const { what, detail } = meaning(status, code, page ?? "the page of the model", sentToken);
  if (what === undefined) return undefined;
  const url = shownAddress(address);
  return { code: "http-status", message: `the server answered ${status} for ${url}: ${what}`, url, status, ...(detail === undefined ? {} : { detail }) };
}

function meaning(status: number, code: string | null, page: string, sentToken: boolean): { what?: string; detail?: string } {
  const gated = code === "GatedRepo";
  switch (status) {
    case 401:
    case 403: {
      const missing = status === 401 && !gated ? "it does not exist, or it is private or gated" : "the model is gated or private";
      const remedy = sentToken
        ? `accessToken does not open it: ask for access at ${page}, and check that the token is valid and may read it`
        : `ask for access at ${page}, and give the hf: source with option accessToken`;
      return { what: `${gated ? "the model is gated" : missing}: ${remedy}`, detail: "gated" };
    }
    case 404:
      if (code === "RevisionNotFound") return { what: `the repository has no such revision: ${page} has them` };
      if (code === "EntryNotFound") return { what: `the repository has no such file: ${page} has the list` };
      return { what: `the repository, the revision or the file does not exist, or it is private: see ${page}${sentToken ? "" : ", and give a private one's accessToken"}` };
    default:
      return {};
  }
}

/** The hub's page for people of the repository of an address of the hub. */
function pageOf(address: string): string | undefined {
  const file = /^(.*?\/[^/]+\/[^/]+)\/resolve\/[^/]+\/./.exec(shownAddress(address));
  const listing = /^(.*)\/api\/models\/([^/]+\/[^/]+)\/tree\//.exec(shownAddress(address));
  return listing ? `${listing[1]}/${listing[2]}` : file?.[1];
}
