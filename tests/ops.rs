//! Kernels on this machine: the GPU's on its Vulkan, Metal or DX12 adapter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;
mod reference;

use common::cases;
use emberglass::{DType, GpuBackend};

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
        $(#[test] fn $name() {
            for dtype in DType::ALL { pollster::block_on(cases::$name::<$rig>(dtype)); }
        })*
    };
}

macro_rules! once {
    ($rig:ty: $($name:ident),*) => {
        $(#[test] fn $name() { pollster::block_on(cases::$name::<$rig>()); })*
    };
}

kernels!(gpu: GpuBackend);

#[test]
fn split_vocabulary() {
    pollster::block_on(cases::split_vocabulary());
}
