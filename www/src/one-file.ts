// Begins the page that is one file (vite.one-file.config.ts): shows the chat, or the pictures at `?pictures`.
import "./style.css";
import "./image/image.css";
import "./one-file.css";
import { el, need } from "./dom.js";
import { embedded } from "./embedded.js";

const hasPictures = embedded?.image !== undefined;
const isPictures = hasPictures && new URLSearchParams(location.search).has("pictures");
// The rest of the body is still arriving, behind this.
document.body.prepend(need<HTMLTemplateElement>(isPictures ? "pictures-page" : "chat-page").content);
document.body.classList.toggle("pictures", isPictures);
if (isPictures) document.title = "Emberglass: pictures";
if (!hasPictures) document.querySelector('[data-testid="to-pictures"]')?.remove();
const licences = el("pre", { tabindex: 0 }, need<HTMLTemplateElement>("licences").content);
need(isPictures ? "studio" : "welcome").append(el("details", { class: "licences" }, el("summary", {}, "Licences"), licences));

await (isPictures ? import("./image/main.js") : import("./main.js"));
