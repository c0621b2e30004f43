//! The same kernel tests as `tests/ops.rs`, in the browser: its compiler is the second judge.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "../common/mod.rs"]
mod common;
#[path = "../reference/mod.rs"]
mod reference;

mod models;

use common::cases;
use common::cpu_rig::{DEFAULT, Wish, choose};
use common::gpu_rig::{store, take};
use emberglass::cpu::{Bits, CpuImages};
use emberglass::gpu::GpuImages;
use emberglass::graph::Precision;
use emberglass::{CpuBackend, DType, GpuBackend};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// Whether `cargo xtask test --exhaustive` built this: a software adapter in the browser takes minutes for all.
const EXHAUSTIVE: bool = option_env!("EMBERGLASS_EXHAUSTIVE").is_some();

/// Floats, nibbles, bytes and two scales a block: unpacking is the same function in every kernel, and nothing else tells formats apart.
const FORMATS: [DType; 4] = [DType::F16, DType::Q4_1, DType::Q8_0, DType::Q6_K];

/// All formats on the CPU. On the GPU a sample: natively all of them run on the GPU every time.
fn formats(on_gpu: bool) -> Vec<DType> {
    if on_gpu && !EXHAUSTIVE { vec![DType::Q4_1, DType::Q6_K] } else { DType::ALL.to_vec() }
}

/// Cases that a software adapter in the browser takes half a minute for, each. Natively they run on the GPU every time.
const LONG_ON_THE_GPU: [&str; 5] = [
    "attention",
    "attention_q8_0",
    "attention_of_head_sizes",
    "attention_with_a_cap",
    "attention_of_cut_prompts",
];

/// Whether a case is left to `cargo xtask test --exhaustive`; the log says so.
fn left_out(name: &str, on_gpu: bool) -> bool {
    let left = on_gpu && !EXHAUSTIVE && LONG_ON_THE_GPU.contains(&name);
    if left {
        wasm_bindgen_test::console_log!("{name} on the GPU: only with --exhaustive");
    }
    left
}

/// Of each variant one format. Natively each runs with all of [`FORMATS`] every time.
fn formats_of_variants() -> Vec<DType> {
    if EXHAUSTIVE { FORMATS.to_vec() } else { vec![DType::Q4_1] }
}

/// The cases, once for each backend.
macro_rules! kernels {
    ($($module:ident: $rig:ty, $on_gpu:literal, $setup:expr;)*) => {
        $(mod $module {
            use super::*;
            per_format!($rig, formats($on_gpu), $setup; embed, project_add, gate_up, head, qkv);
            once!($rig, $on_gpu, $setup; attention, attention_f16, attention_q8_0, attention_of_several_shapes, attention_of_head_sizes,
                attention_with_a_cap, attention_of_cut_prompts, attention_of_windows, kv_overflow, map, norms, norms_of_heads,
                elements, positions, sample_greedy, sample_few, sample_chain, sample_infinite);
        })*
    };
}

macro_rules! per_format {
    ($rig:ty, $formats:expr, $setup:expr; $($name:ident),*) => {
        $(#[wasm_bindgen_test] async fn $name() {
            let () = $setup;
            for dtype in $formats { cases::$name::<$rig>(dtype).await; }
        })*
    };
}

macro_rules! once {
    ($rig:ty, $on_gpu:literal, $setup:expr; $($name:ident),*) => {
        $(#[wasm_bindgen_test] async fn $name() {
            let () = $setup;
            if !left_out(stringify!($name), $on_gpu) {
                cases::$name::<$rig>().await;
            }
        })*
    };
}

// The CPU's vectors are those of the build: simd128, or relaxed with the feature of that name.
kernels! {
    gpu: GpuBackend, true, take("lanes8+pairs1/memory");
    cpu: CpuBackend, false, choose(DEFAULT);
    cpu_bytes: CpuBackend, false, choose(Wish { bits: Bits::Eight, ..DEFAULT });
    cpu_mixed: CpuBackend, false, choose(Wish { bits: Bits::Mixed, ..DEFAULT });
}

/// Other kernels for the projections.
macro_rules! variants {
    ($($module:ident: $variant:literal;)*) => {
        $(mod $module {
            use super::*;
            per_format!(GpuBackend, formats_of_variants(), take($variant); project_add, gate_up, head, qkv);
        })*
    };
}

// Those that use what browsers and wgpu treat differently, and what software adapters take; all run natively.
variants! {
    gpu_one_lane: "lanes1+pairs2/quads";
    gpu_subgroups_dot4: "lanes4+pairs1+subgroups+dot4/memory";
}

/// Image networks: the cases, once for each backend.
macro_rules! image_kernels {
    ($($module:ident: $rig:ty, $setup:expr;)*) => {
        $(mod $module {
            use super::*;
            image!($rig, $setup; convolution, attention, pixels, windows, memory_is_used_again, misfits_are_refused,
                overflow_is_noticed, rectangles);
        })*
    };
}

macro_rules! image {
    ($rig:ty, $setup:expr; $($name:ident),*) => {
        $(#[wasm_bindgen_test] async fn $name() {
            let () = $setup;
            cases::image::$name::<$rig>().await;
        })*
    };
}

image_kernels! {
    gpu_image: GpuImages, store(Precision::F32);
    gpu_image_f16: GpuImages, store(Precision::F16);
    cpu_image: CpuImages, choose(DEFAULT);
}

#[wasm_bindgen_test]
async fn split_vocabulary() {
    cases::split_vocabulary().await;
}

/// Pipelines on their way.
macro_rules! pipelines {
    ($($name:ident),*) => {
        $(#[wasm_bindgen_test] async fn $name() { cases::pipelines::$name().await; })*
    };
}

pipelines!(pipelines_may_be_waited_for, pipelines_that_are_done_are_taken, refused_pipelines_are_named);
