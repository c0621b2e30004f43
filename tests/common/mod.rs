//! What all kernel tests share: the one comparer, seeded numbers, the backends under test, and the
//! test cases themselves, which run natively (`tests/ops.rs`) and in Chromium (`tests/web/ops.rs`).
#![allow(dead_code)] // each test crate uses its part

pub mod answers;
pub mod cases;
pub mod compare;
pub mod cpu_rig;
pub mod gpu_rig;
pub mod random;
pub mod rig;
pub mod subgroups;
