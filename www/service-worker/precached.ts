// The files of the site that are stored at the first visit, so that the pages work without a network.
import { simdLevel } from "../../pkg/src/simd.js";

/** A file of the site, with its digest: what does not match is not stored, and so no half of one version mixes with another. */
interface SiteFile {
  /** Relative to the service worker. */
  url: string;
  /** Null where the name itself holds a hash of the content. */
  revision: string | null;
  integrity: string;
}

/** Every file that some browser needs; site-files.ts puts the list in. */
declare const SITE_FILES: SiteFile[];

/** Those that this browser needs: it runs one build of the engine and never the other. */
export function filesForThisBrowser(): SiteFile[] {
  const level = simdLevel();
  return SITE_FILES.filter(({ url }) => {
    const build = /\/emberglass-(relaxed|simd128)-[^/]*\.wasm$/.exec(url)?.[1];
    return build === undefined || build === level;
  });
}
