//! Kernels on this machine: the GPU's on its Vulkan, Metal or DX12 adapter, and the CPU's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;
mod reference;

use common::cases;
use common::cpu_rig::{DEFAULT, Wish, choose};
use common::gpu_rig::{offers, store, take};
use emberglass::cpu::{Bits, CpuImages};
use emberglass::gpu::{GpuImages, KernelPair, MatmulKernel, MatvecKernel};
use emberglass::graph::Precision;
use emberglass::{CpuBackend, DType, Gpu, GpuBackend, GpuOptions};

/// What is fused with a product does not depend on how weights are unpacked: on the GPU a sample of the formats.
fn fused(on_gpu: bool) -> Vec<DType> {
    let all = !on_gpu || std::env::var_os("EMBERGLASS_EXHAUSTIVE").is_some();
    let is_usual = |dtype: &DType| dtype.ggml() <= DType::Q8_0.ggml() || *dtype == DType::BF16;
    DType::ALL.into_iter().filter(|dtype| all || is_usual(dtype) || FORMATS.contains(dtype)).collect()
}

/// The cases, once for each backend.
macro_rules! kernels {
    ($($module:ident: $rig:ty, $on_gpu:literal, $setup:expr;)*) => {
        $(mod $module {
            use super::*;
            per_format!($rig, DType::ALL, $setup; project_add, embed);
            per_format!($rig, fused($on_gpu), $setup; gate_up, head, qkv);
            once!($rig, $setup; attention, attention_f16, attention_q8_0, attention_of_several_shapes, attention_of_head_sizes,
                attention_with_a_cap, attention_of_cut_prompts, attention_of_windows, kv_overflow, map, norms, norms_of_heads,
                elements, positions, sample_greedy, sample_few, sample_chain, sample_infinite);
        })*
    };
}

macro_rules! per_format {
    ($rig:ty, $formats:expr, $setup:expr; $($name:ident),*) => {
        $(#[test] fn $name() {
            let () = $setup;
            for dtype in $formats { pollster::block_on(cases::$name::<$rig>(dtype)); }
        })*
    };
}

macro_rules! once {
    ($rig:ty, $setup:expr; $($name:ident),*) => {
        $(#[test] fn $name() {
            let () = $setup;
            pollster::block_on(cases::$name::<$rig>());
        })*
    };
}

// The CPU's with activations of sixteen bits, eight, and both, with the vectors that are everywhere, and shared by threads.
kernels! {
    gpu: GpuBackend, true, take("lanes8+pairs1/memory");
    cpu: CpuBackend, false, choose(DEFAULT);
    cpu_bytes: CpuBackend, false, choose(Wish { bits: Bits::Eight, ..DEFAULT });
    cpu_mixed: CpuBackend, false, choose(Wish { bits: Bits::Mixed, ..DEFAULT });
    cpu_portable: CpuBackend, false, choose(Wish { level: usize::MAX, ..DEFAULT });
    cpu_threads: CpuBackend, false, choose(Wish { threads: 3, ..DEFAULT });
}

/// Floats, nibbles, bytes and two scales a block: unpacking is the same function in every kernel, and nothing else tells formats apart.
const FORMATS: [DType; 4] = [DType::F16, DType::Q4_1, DType::Q8_0, DType::Q6_K];

/// Other kernels for the projections. A test is skipped where the adapter cannot run its kernels.
macro_rules! variants {
    ($($module:ident: $variant:literal;)*) => {
        $(mod $module {
            use super::*;
            variants!(@tests $variant; project_add, gate_up, head, qkv);
        })*
    };
    (@tests $variant:literal; $($name:ident),*) => {
        $(#[test] fn $name() {
            pollster::block_on(async {
                if !offers($variant.parse().unwrap()).await { return; }
                take($variant);
                for dtype in FORMATS { cases::$name::<GpuBackend>(dtype).await; }
            });
        })*
    };
}

variants! {
    gpu_software: "lanes1+pairs2/quads";
    gpu_rows: "lanes8+pairs1/rows";
    gpu_dot4: "lanes8+pairs1+dot4/memory";
    gpu_subgroups: "lanes4+pairs1+subgroups/memory";
    gpu_subgroups_half: "lanes4+pairs1+subgroups+f16/f16";
}

/// Every variant of the projections' kernels that the adapter can run, with every weight format. All of them run;
/// what is wrong is listed at the end.
macro_rules! every_variant {
    ($($name:ident),*) => {
        mod gpu_every_variant {
            use super::*;
            $(#[test]
            #[ignore = "takes minutes on a software adapter; the GPU bundle runs it"]
            fn $name() {
                check_every_variant(|dtype| pollster::block_on(cases::$name::<GpuBackend>(dtype)));
            })*
        }
    };
}

every_variant!(project_add, gate_up, head, qkv);

fn check_every_variant(run: impl Fn(DType)) {
    let mut wrong = Vec::new();
    // `matvec` and `matmul` are kernels of their own, so each needs to be seen only once.
    for (decode, prefill) in MatvecKernel::ALL.into_iter().zip(MatmulKernel::ALL.into_iter().cycle()) {
        let variant = KernelPair { decode, prefill };
        if !pollster::block_on(offers(variant)) {
            continue;
        }
        take(&variant.to_string());
        for dtype in DType::ALL {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(dtype)));
            println!("{variant} {}: {}", dtype.name(), if ran.is_ok() { "ok" } else { "wrong" });
            if ran.is_err() {
                wrong.push(format!("{variant} {}", dtype.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "wrong: {wrong:?}");
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
        $(#[test] fn $name() {
            let () = $setup;
            pollster::block_on(cases::image::$name::<$rig>());
        })*
    };
}

image_kernels! {
    gpu_image: GpuImages, store(Precision::F32);
    gpu_image_f16: GpuImages, store(Precision::F16);
    cpu_image: CpuImages, choose(DEFAULT);
    cpu_image_portable: CpuImages, choose(Wish { level: usize::MAX, ..DEFAULT });
}

#[test]
fn split_vocabulary() {
    pollster::block_on(cases::split_vocabulary());
}

#[test]
fn misuse_is_refused() {
    let () = choose(DEFAULT);
    pollster::block_on(cases::misuse::too_much_for_the_gpu());
    pollster::block_on(cases::misuse::too_little_for_the_cpu());
}

/// Dispatches are named in order and have times, where the adapter has a clock.
#[test]
fn the_timeline_names_what_ran() {
    pollster::block_on(async {
        let gpu = Gpu::new(GpuOptions { timeline: true, ..GpuOptions::default() }).await.unwrap();
        gpu.rates().await.unwrap();
        let ran = gpu.take_timeline().await.unwrap();
        if ran.is_empty() {
            println!("skipped: this adapter has no timestamps inside passes");
            return;
        }
        assert_eq!(ran[0].label, "");
        assert!(ran[1].label.starts_with("rate_copy"), "{:?}", ran[1]);
        // A fast adapter copies more often than the timeline has room for.
        assert!(ran.len() == 4096 || ran.iter().any(|ran| ran.label.starts_with("rate_fma")));
        assert!(ran.iter().all(|ran| ran.us.is_finite()) && ran[1].us > 0.0);
        assert!(gpu.take_timeline().await.unwrap().is_empty());
    });
}

/// Pipelines, which natively are never on their way for long.
macro_rules! pipelines {
    ($($name:ident),*) => {
        $(#[test] fn $name() { pollster::block_on(cases::pipelines::$name()); })*
    };
}

pipelines!(pipelines_may_be_waited_for, pipelines_that_are_done_are_taken, refused_pipelines_are_named);
