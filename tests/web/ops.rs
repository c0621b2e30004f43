//! The same kernel tests as `tests/ops.rs`, in the browser: its compiler is the second judge.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "../common/mod.rs"]
mod common;
#[path = "../reference/mod.rs"]
mod reference;

use common::cases;
use emberglass::{DType, GpuBackend};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The cases, once for each backend.
macro_rules! kernels {
    ($($module:ident: $rig:ty),*) => {
        $(mod $module {
            use super::*;
            per_format!($rig: project_add, gate_up, head, embed, qkv);
            once!($rig: attention, sample_greedy, sample_chain);
        })*
    };
}

macro_rules! per_format {
    ($rig:ty: $($name:ident),*) => {
        $(#[wasm_bindgen_test] async fn $name() {
            for dtype in DType::ALL { cases::$name::<$rig>(dtype).await; }
        })*
    };
}

macro_rules! once {
    ($rig:ty: $($name:ident),*) => {
        $(#[wasm_bindgen_test] async fn $name() { cases::$name::<$rig>().await; })*
    };
}

kernels!(gpu: GpuBackend);

#[wasm_bindgen_test]
async fn split_vocabulary() {
    cases::split_vocabulary().await;
}
