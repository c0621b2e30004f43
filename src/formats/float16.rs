//! F16: 16-bit IEEE floats.

use super::{Format, Scales, f16_at, float};

pub(super) const FORMAT: Format = float(1, 2, Scales::F16(&[0]), |bytes| f16_at(bytes, 0));
