//! The same kernel tests as `tests/ops.rs`, in the browser: its compiler is the second judge.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "../common/mod.rs"]
mod common;
#[path = "../reference/mod.rs"]
mod reference;

use common::cases;
use emberglass::DType;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

macro_rules! browser {
    ($($name:ident),*) => { $(#[wasm_bindgen_test] async fn $name() { cases::$name().await; })* };
}

macro_rules! per_format {
    ($($name:ident),*) => {
        $(#[wasm_bindgen_test] async fn $name() {
            for dtype in DType::ALL { cases::$name(dtype).await; }
        })*
    };
}

per_format!(project_add, gate_up, head, embed, qkv);
browser!(attention, split_vocabulary, sample_greedy, sample_chain);
