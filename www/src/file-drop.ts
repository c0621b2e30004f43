// Opening files from this device: by a file picker, or dropped anywhere onto the page.
import { need } from "./dom.js";

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

/** `onFiles` gets what is dropped onto the page. */
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
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length > 0) onFiles(files);
  });
}

/** `onFiles` gets one file, or the shards of one model in the order of their names. */
export function modelFiles(onFiles: (files: File[]) => void): { open: () => void } {
  const take = (files: File[]) => onFiles(files.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true })));
  pickedFiles("model-file", take);
  droppedFiles(take);
  return { open: () => need("model-file").click() };
}
