//! The same in headless Chromium, see `shared/mod.rs`: `KERNELS=FILTER cargo test --target wasm32-unknown-unknown --test
//! kernels_web -- --nocapture`, with CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER the wasm-bindgen-test-runner of
//! .cache/tools/bin, CHROMEDRIVER, and WASM_BINDGEN_TEST_TIMEOUT=900.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a bench fails by panicking

mod shared;
#[path = "../tests/common/subgroups.rs"]
mod subgroups;

use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[wasm_bindgen_test]
async fn kernels() {
    subgroups::ask_for_subgroups();
    shared::run(option_env!("KERNELS").unwrap_or(""), js_sys::Date::now, |line| console_log!("{line}")).await;
}
