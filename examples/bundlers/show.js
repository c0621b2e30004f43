/** Shows an answer, or an error, where the test looks for it. */
export async function show(answering) {
  const shown = await answering.catch(({ name, code, message }) => ({ name, code, message }));
  document.querySelector("output").textContent = JSON.stringify(shown);
}

/** The number of threads that the address asks for. */
export const threads = () => Number(new URLSearchParams(location.search).get("threads") ?? 1);
