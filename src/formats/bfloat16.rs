//! BF16: the upper halves of 32-bit floats.

use super::{Format, Scales, float, u16_at};

pub(super) const FORMAT: Format =
    float(30, 2, Scales::BF16, |bytes| f32::from_bits(u32::from(u16_at(bytes, 0)) << 16));
