// wgpu asks a browser for the features it knows, and does not know subgroups there. So the worker adds the wish to
// every device request of an adapter that has them; the engine looks for them among the device's features.

interface Adapter {
  readonly features: { has(name: string): boolean };
  requestDevice(wishes?: { requiredFeatures?: Iterable<string> }): Promise<unknown>;
}

/** Call once, before the engine asks for a device. */
export function askForSubgroups(scope: { GPUAdapter?: { prototype: Adapter } }): void {
  const prototype = scope.GPUAdapter?.prototype;
  if (!prototype) return;
  const { requestDevice } = prototype;
  prototype.requestDevice = function (this: Adapter, wishes = {}) {
    if (!this.features.has("subgroups")) return requestDevice.call(this, wishes);
    return requestDevice.call(this, { ...wishes, requiredFeatures: [...(wishes.requiredFeatures ?? []), "subgroups"] });
  };
}
