// Who may touch the files of a model at a time, in all tabs of this origin.

/** Held by the one tab that downloads or imports a model, for as long as it does. */
export function downloadLock(id: string): string {
  return `emberglass:${id}`;
}

/** Runs while nobody deletes the model's files; others may write, too. It is held for one file at a time. */
export function whileFilesStay<T>(id: string, run: () => Promise<T>): Promise<T> {
  return navigator.locks.request(filesLock(id), { mode: "shared" }, run);
}

/** Runs while nobody else writes or deletes the model's files. */
export function whileFilesRest<T>(id: string, run: () => Promise<T>): Promise<T> {
  return navigator.locks.request(filesLock(id), { mode: "exclusive" }, run);
}

function filesLock(id: string): string {
  return `emberglass-files:${id}`;
}
