//! The same in headless Chromium: `cargo xtask test --only bench-kernels`; see `shared/mod.rs`.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a bench fails by panicking

mod shared;

use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

// What pkg/src/subgroups.ts does in the package's worker.
#[wasm_bindgen(inline_js = "
export function ask_for_subgroups() {
  const { prototype } = GPUAdapter;
  const { requestDevice } = prototype;
  prototype.requestDevice = function (wishes = {}) {
    const features = this.features.has('subgroups') ? [...(wishes.requiredFeatures ?? []), 'subgroups'] : wishes.requiredFeatures;
    return requestDevice.call(this, { ...wishes, requiredFeatures: features });
  };
}")]
extern "C" {
    fn ask_for_subgroups();
}

#[wasm_bindgen_test]
async fn kernels() {
    ask_for_subgroups();
    shared::run(option_env!("KERNELS").unwrap_or(""), js_sys::Date::now, |line| console_log!("{line}")).await;
}
