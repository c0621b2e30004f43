//! F32: 32-bit floats.

use super::{Format, Scales, float};

pub(super) const FORMAT: Format =
    float(0, 4, Scales::F32, |bytes| bytes.first_chunk().map_or(0.0, |b| f32::from_le_bytes(*b)));
