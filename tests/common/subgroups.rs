//! In a browser: asks for subgroups, as the package's worker does (`pkg/src/subgroups.ts`).
#![cfg(target_arch = "wasm32")]

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(inline_js = "
const { prototype } = GPUAdapter;
const { requestDevice } = prototype;
export function ask_for_subgroups() {
  prototype.requestDevice = function (wishes = {}) {
    const more = this.features.has('subgroups') ? ['subgroups'] : [];
    return requestDevice.call(this, { ...wishes, requiredFeatures: [...(wishes.requiredFeatures ?? []), ...more] });
  };
}")]
extern "C" {
    /// Before a device is requested; once or more.
    pub fn ask_for_subgroups();
}
