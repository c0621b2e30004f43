// Copying, with the button saying what came of it.

/** False if the browser refused. */
export async function copyText(text: string, from: HTMLElement): Promise<boolean> {
  let outcome = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    outcome = "Copying was refused";
  }
  const label = from.dataset["label"] ?? from.textContent ?? "";
  from.dataset["label"] = label;
  from.textContent = outcome;
  setTimeout(() => {
    from.textContent = label;
  }, 1500);
  return outcome === "Copied";
}

/** One listener for the copy buttons of all code blocks, which come and go while text streams in. */
export function copyCodeOnClick(root: HTMLElement): void {
  root.addEventListener("click", ({ target }) => {
    if (!(target instanceof HTMLElement) || !target.classList.contains("code-copy")) return;
    void copyText(target.closest(".code")?.querySelector("pre")?.textContent ?? "", target);
  });
}
