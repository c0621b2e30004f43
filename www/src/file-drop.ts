// Opening files from this device: by a file picker, or dropped anywhere onto the page.
import { showRefusal } from "./banner.js";
import { need } from "./dom.js";
import { wordsFor } from "./error-words.js";
import { nameElement } from "./names.js";

/** `onFiles` gets what is chosen in the file picker `id`. */
export function pickedFiles(id: string, onFiles: (files: File[]) => void): void {
  const picker = need<HTMLInputElement>(id);
  picker.addEventListener("change", () => {
    const files = [...(picker.files ?? [])];
    // So that choosing the same file again is a change.
    picker.value = "";
    if (files.length > 0) onFiles(files);
  });
}

/** `onFiles` gets what is dropped onto the page. A folder among it is refused. */
export function droppedFiles(onFiles: (files: File[]) => void): void {
  const overlay = need("drop");
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    overlay.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    // Leaving the window has no related target; moving between elements has.
    if (!event.relatedTarget) overlay.hidden = true;
  });
  addEventListener("drop", (event) => {
    overlay.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    // A folder is among the files as one that cannot be read.
    const folder = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry()).find((entry) => entry?.isDirectory);
    if (folder) {
      showRefusal("This is a folder", [nameElement(folder.name), " is not opened. Open the folder, and drop the file that is inside."]);
      return;
    }
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length > 0) onFiles(files);
  });
}

/** `onFiles` gets one file, or the parts of one split model in the order of their names. Other files together are refused. */
export function modelFiles(onFiles: (files: File[]) => void): { open: () => void } {
  const take = (files: File[]) => {
    const model = files[0] && /^(.*)-\d{5}-of-\d{5}\.gguf$/i.exec(files[0].name)?.[1];
    const together = files.every(({ name }) => model !== undefined && name.startsWith(`${model}-`) && /-\d{5}-of-\d{5}\.gguf$/i.test(name));
    if (files.length === 1 || together) {
      onFiles(files.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true })));
    } else {
      const { title, todo } = wordsFor({ code: "split-mismatch" });
      showRefusal(title, todo, "split-mismatch");
    }
  };
  pickedFiles("model-file", take);
  droppedFiles(take);
  return { open: () => need("model-file").click() };
}
