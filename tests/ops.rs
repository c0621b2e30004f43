//! Kernels on this machine: the GPU's on its Vulkan, Metal or DX12 adapter, and the CPU's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;
mod reference;

use common::{cases, cpu_rig};
use emberglass::{CpuBackend, DType, GpuBackend};

/// The cases, once for each backend.
macro_rules! kernels {
    ($($module:ident: $rig:ty, $setup:expr;)*) => {
        $(mod $module {
            use super::*;
            per_format!($rig, $setup; project_add, gate_up, head, embed, qkv);
            once!($rig, $setup; attention, sample_greedy, sample_chain);
        })*
    };
}

macro_rules! per_format {
    ($rig:ty, $setup:expr; $($name:ident),*) => {
        $(#[test] fn $name() {
            $setup;
            for dtype in DType::ALL { pollster::block_on(cases::$name::<$rig>(dtype)); }
        })*
    };
}

macro_rules! once {
    ($rig:ty, $setup:expr; $($name:ident),*) => {
        $(#[test] fn $name() {
            $setup;
            pollster::block_on(cases::$name::<$rig>());
        })*
    };
}

// The CPU's with the best vectors there are, with those that are everywhere, and shared by threads.
kernels! {
    gpu: GpuBackend, ();
    cpu: CpuBackend, cpu_rig::choose(0, 1);
    cpu_portable: CpuBackend, cpu_rig::choose(9, 1);
    cpu_threads: CpuBackend, cpu_rig::choose(0, 3);
}

#[test]
fn split_vocabulary() {
    pollster::block_on(cases::split_vocabulary());
}
