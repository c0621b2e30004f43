// Opening a model from this device: by the file picker, or dropped anywhere onto the page.
import { need } from "./dom.js";

/** `onFiles` gets one file, or the shards of one model in the order of their names. */
export function modelFiles(onFiles: (files: File[]) => void): { open: () => void } {
  const input = need<HTMLInputElement>("model-file");
  const overlay = need("drop");
  const take = (list: FileList | null | undefined) => {
    const files = [...(list ?? [])].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    if (files.length > 0) onFiles(files);
  };

  input.addEventListener("change", () => {
    take(input.files);
    // So that choosing the same file again is a change.
    input.value = "";
  });

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
    take(event.dataTransfer?.files);
  });
  return { open: () => input.click() };
}
