// What to compute on: as set, or for one visit as the address says (`?device=cpu`).
import type { DeviceChoice, EmberglassError, LoadOptions } from "emberglass";
import type { Settings } from "./settings.js";

/** In the order the settings show them. */
export const DEVICES: readonly { value: DeviceChoice; label: string }[] = [
  { value: "auto", label: "Automatic: whichever is faster" },
  { value: "webgpu", label: "GPU, by WebGPU" },
  { value: "cpu", label: "CPU" },
];

export function isDevice(value: unknown): value is DeviceChoice {
  return DEVICES.some((device) => device.value === value);
}

/** The device that the page's address asks for; undefined for none, and `refused` for one that does not exist. */
export function requestedDevice(query: string): { device?: DeviceChoice; refused?: string } {
  const asked = new URLSearchParams(query).get("device");
  if (asked === null || asked === "") return {};
  if (isDevice(asked)) return { device: asked };
  return { refused: `The address asks for the device ${JSON.stringify(asked.slice(0, 40))}. There are auto, webgpu and cpu.` };
}

/** What of the settings counts when a model is loaded. */
export function loadOptions(settings: Settings): Pick<LoadOptions, "contextLength" | "device" | "threads"> {
  const { contextLength, threads } = settings;
  const device = settings.deviceThisVisit ?? settings.device;
  return {
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(device === undefined ? {} : { device }),
    ...(threads === undefined ? {} : { threads }),
  };
}

/** Whether what failed on the GPU may well work on the CPU. */
export function cpuMayHelp({ code }: EmberglassError): boolean {
  return ["no-webgpu", "no-adapter", "device-request", "device-lost", "device-limit", "out-of-memory", "gpu"].includes(code);
}
