// The speed of the chat page with one thread, with two, and with as many as it takes by default, in turns, on an idle
// machine and beside a process that keeps a core busy. Not a test: `EMBERGLASS_URL=… EMBERGLASS_PLAIN_URL=… EMBERGLASS_SCREENSHOTS=…
// node page-speed.mjs [ROUNDS] [TOKENS]`, with `cargo xtask serve` running. Prints medians of the status line's figures, and
// how much of a core the page's main thread took.
import { spawn } from "node:child_process";
import { loadavg } from "node:os";
import { launch, openPage } from "./harness.mjs";

const [rounds = 5, tokens = 600] = process.argv.slice(2).map(Number);
const CASES = [undefined, 1, 2];
const median = (figures) => figures.sort((a, b) => a - b)[figures.length >> 1];

for (const busy of [false, true]) {
  const other = busy ? spawn(process.execPath, ["-e", "for (;;);"]) : undefined;
  const seen = CASES.map(() => ({ speeds: [], shares: [] }));
  for (let round = 0; round < rounds; round++) {
    for (const [index, threads] of CASES.entries()) {
      const { speed, share } = await answer(threads);
      seen[index].speeds.push(speed);
      seen[index].shares.push(share);
    }
  }
  other?.kill();
  console.log(`${busy ? "one core taken by another process" : "idle"}; load ${loadavg()[0].toFixed(1)}; ${rounds} answers of ${tokens} tokens each`);
  for (const [index, threads] of CASES.entries()) {
    const { speeds, shares } = seen[index];
    console.log(`  threads ${threads ?? "by default"}: ${median(speeds)} tokens/s; main thread ${Math.round(100 * median(shares))} % of a core`);
  }
}

/** In a browser of its own, so that nothing is left of the answer before. */
async function answer(threads) {
  const browser = await launch();
  const chat = await openPage(browser);
  await chat.set({ temperature: 0, maxTokens: tokens, ...(threads === undefined ? {} : { threads }) });
  await chat.load();
  const client = await chat.page.context().newCDPSession(chat.page);
  await client.send("Performance.enable");
  const taken = async () => {
    const { metrics } = await client.send("Performance.getMetrics");
    const value = (name) => metrics.find((metric) => metric.name === name).value;
    return { busy: value("TaskDuration"), at: value("Timestamp") };
  };
  const before = await taken();
  await chat.ask("Write a very long story about a river and a bridge, with many chapters.");
  const after = await taken();
  const speed = Number(/([\d.]+) tokens\/s/.exec(await chat.status())[1]);
  await browser.close();
  return { speed, share: (after.busy - before.busy) / (after.at - before.at) };
}
