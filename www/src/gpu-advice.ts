// How a visitor gets the page to compute on the graphics card.
import type { DeviceInfo } from "emberglass";
import { el } from "./dom.js";

const BROWSERS = [
  ["Chrome or Edge", "113 or newer on Windows, macOS and ChromeOS; 121 or newer on Android. On Linux it may have to be allowed at chrome://flags/#enable-unsafe-webgpu."],
  ["Safari", "26 or newer, on macOS, iPhone and iPad."],
  ["Firefox", "141 or newer on Windows; 145 or newer on Macs with Apple silicon."],
] as const;

/** What can be done about each reason for computing on the CPU. */
export function gpuAdvice(choice: DeviceInfo["choice"]): HTMLElement[] {
  switch (choice) {
    case "no-webgpu":
      // Browsers hide WebGPU from pages that came over plain http, however new they are.
      if (!isSecureContext) return [el("p", {}, "Open this page over https, or on localhost: browsers keep WebGPU from other pages.")];
      return [el("p", {}, "These browsers have WebGPU:"), browserList()];
    case "no-adapter":
    case "software-adapter":
      return [
        bullets(
          "Turn on hardware acceleration (in Chrome and Edge: Settings → System → “Use graphics acceleration when available”), then restart the browser.",
          "Update the graphics driver and the browser.",
          "On a remote desktop or a virtual machine there may be no graphics card to use; another device may have one.",
        ),
      ];
    case "wrong-numbers":
    case "device-lost":
      return [bullets("Update the graphics driver and the browser, then reload the page.", "Another browser may drive the same card better.")];
    case "adapter":
    case "probe":
      return [el("p", {}, "To use the graphics card all the same, choose it in Settings and reload the model.")];
    case "asked":
      return [el("p", {}, "To let Emberglass choose, set the device to Automatic in Settings and reload the model.")];
  }
}

/** Browsers that have WebGPU. */
export function browserList(): HTMLElement {
  return el("dl", {}, ...BROWSERS.flatMap(([name, versions]) => [el("dt", {}, name), el("dd", {}, versions)]));
}

function bullets(...steps: string[]): HTMLElement {
  return el("ul", {}, ...steps.map((step) => el("li", {}, step)));
}
