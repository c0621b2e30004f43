//! Kernels on this machine's Vulkan, Metal or DX12 adapter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;
mod reference;

use common::cases;
use emberglass::DType;

macro_rules! native {
    ($($name:ident),*) => { $(#[test] fn $name() { pollster::block_on(cases::$name()); })* };
}

macro_rules! per_format {
    ($($name:ident),*) => {
        $(#[test] fn $name() {
            for dtype in DType::ALL { pollster::block_on(cases::$name(dtype)); }
        })*
    };
}

per_format!(project_add, gate_up, head, embed, qkv);
native!(attention, split_vocabulary, sample_greedy, sample_chain);
