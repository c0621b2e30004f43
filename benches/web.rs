//! The same in headless Chromium: `cargo xtask test --only bench-kernels`; see `shared/mod.rs`.
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
