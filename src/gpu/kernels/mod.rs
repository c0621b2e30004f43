//! The host side of the kernels, one file a family.

pub(super) mod attention;
pub(super) mod embed;
pub(super) mod linear;
pub(super) mod pixels;
pub(super) mod rows;
pub(super) mod sample;
