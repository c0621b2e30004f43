//! What a model remembers of earlier tokens.

use crate::error::{Error, Result};

use super::op::Heads;

/// Largest head size: a workgroup of `attention_decode` has a thread for each four elements of a head.
const MAX_HEAD: u32 = 256;

/// What K and V are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// Four bytes an element.
    F32,
    /// Two. A K or V beyond ±65504 is [`Error::KvOverflow`].
    #[default]
    F16,
    /// Bytes with one f32 scale for 32 elements of a head.
    Q8_0,
}

impl KvType {
    /// All of them, largest first.
    pub const ALL: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Q8_0];

    /// `f32`, `f16` or `q8_0`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }

    /// Parses a name such as `q8_0`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kv| kv.name() == name)
    }

    /// Bytes of a head's elements at one position. The last block of q8_0 may be shorter than 32 elements.
    fn head_bytes(self, head_dim: u32) -> u64 {
        let elements = u64::from(head_dim);
        match self {
            KvType::F32 => 4 * elements,
            KvType::F16 => 2 * elements,
            KvType::Q8_0 => elements + 4 * elements.div_ceil(32),
        }
    }
}

/// Shape of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadShape {
    /// Query heads `H`.
    pub heads: u32,
    /// KV heads `G`; divides `H`.
    pub kv_heads: u32,
    /// Head size `D`.
    pub head_dim: u32,
    /// Factor of the scores; most models have 1 / √D.
    pub scale: f32,
    /// Soft cap of the scaled scores: each becomes cap · tanh(score / cap). 0 is none.
    pub cap: f32,
    /// Sliding window: a query at position p sees the positions p - window + 1 to p. 0 is none: it sees all up to p.
    pub window: u32,
    /// Most tokens of a batch, whatever its [`Batch`](super::Batch). With a window the cache has room for so many besides.
    pub max_batch: u32,
    /// Positions of a context.
    pub capacity: u32,
    /// What the cache holds.
    pub kv: KvType,
}

/// Positions by which the ring of a sliding window grows: whole panels of K on the GPU, and whole tiles on the CPU.
const RING_STEP: u64 = 64;

impl HeadShape {
    /// Slots of the cache: position p lies in slot p mod `slots`. With a window they are as many as its first query and
    /// its last token of a batch need together, in whole tiles; never more than the context has positions.
    #[must_use]
    pub fn slots(self) -> u32 {
        if self.window == 0 {
            return self.capacity;
        }
        let needed = u64::from(self.window) + u64::from(self.max_batch.max(1)) - 1;
        needed.next_multiple_of(RING_STEP).min(self.capacity.into()) as u32
    }

    /// First position that a query at this position sees.
    #[must_use]
    pub fn first_seen(self, position: u32) -> u32 {
        match self.window {
            0 => 0,
            window => position.saturating_sub(window - 1),
        }
    }

    /// Whether the cache can go back: whether everything that a query at position `to` sees before itself is still there
    /// after positions below `written` have been stored since a text began at position 0. In a ring a later position
    /// takes the slot of an earlier one.
    #[must_use]
    pub fn rollback_ok(self, written: u32, to: u32) -> bool {
        let first = self.first_seen(to);
        let kept = u64::from(first) + u64::from(self.slots());
        to <= written && (first == to || u64::from(written) <= kept)
    }

    /// Refuses what no backend computes.
    pub(crate) fn check(self) -> Result<()> {
        let HeadShape { heads, kv_heads, head_dim, scale, cap, window, max_batch, .. } = self;
        let unsupported = |what| Err(Error::UnsupportedModel { what });
        if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
            return unsupported(format!("{heads} query heads for {kv_heads} KV heads"));
        }
        if !(8..=MAX_HEAD).contains(&head_dim) || !head_dim.is_multiple_of(8) {
            return unsupported(format!("heads of size {head_dim} (a multiple of 8 up to {MAX_HEAD})"));
        }
        if !scale.is_finite() || !cap.is_finite() || cap < 0.0 || (window > 0 && max_batch == 0) {
            return Err(Error::Internal { what: format!("attention of {self:?}") });
        }
        Ok(())
    }

    /// Bytes of K and V of all slots.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.slots()) * self.kv_bytes()
    }

    /// Bytes of K and V of one position.
    #[must_use]
    pub fn kv_bytes(self) -> u64 {
        2 * u64::from(self.kv_heads) * self.kv.head_bytes(self.head_dim)
    }

    /// Its heads.
    #[must_use]
    pub fn heads(self) -> Heads {
        Heads { heads: self.heads, kv_heads: self.kv_heads, dim: self.head_dim }
    }

    /// Elements of a token's Q, K and V.
    #[must_use]
    pub fn qkv_width(self) -> u32 {
        self.heads().qkv_width()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windowed(window: u32, max_batch: u32, capacity: u32) -> HeadShape {
        HeadShape {
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            scale: 1.0,
            cap: 0.0,
            window,
            max_batch,
            capacity,
            kv: KvType::F32,
        }
    }

    #[test]
    fn a_ring_has_room_for_the_window_and_a_batch() {
        assert_eq!(windowed(0, 8, 1000).slots(), 1000);
        assert_eq!(windowed(57, 8, 1000).slots(), 64);
        assert_eq!(windowed(58, 8, 1000).slots(), 128);
        assert_eq!(windowed(512, 512, 1000).slots(), 1000);
        assert_eq!(windowed(u32::MAX, u32::MAX, 1000).slots(), 1000);
        assert_eq!(windowed(1, 1, 100).slots(), 64);
    }

    /// Against a ring that is written position by position.
    #[test]
    fn a_cache_goes_back_as_far_as_a_query_finds_all_it_sees() {
        for (window, max_batch, capacity) in
            [(0, 8, 150), (5, 8, 300), (60, 8, 300), (1, 1, 200), (64, 64, 120)]
        {
            let shape = windowed(window, max_batch, capacity);
            for written in [0, 1, 63, 64, 65, 100, capacity] {
                let mut ring = vec![None; shape.slots() as usize];
                for position in 0..written {
                    ring[(position % shape.slots()) as usize] = Some(position);
                }
                for to in 0..=written {
                    let mut seen = shape.first_seen(to)..to;
                    let there = seen.all(|p| ring[(p % shape.slots()) as usize] == Some(p));
                    assert_eq!(
                        shape.rollback_ok(written, to),
                        there,
                        "{window} {max_batch}: {written} to {to}"
                    );
                }
                assert!(!shape.rollback_ok(written, written + 1));
            }
        }
    }

    #[test]
    fn q8_0_has_a_scale_for_each_block_begun() {
        for (head_dim, bytes) in [(8, 12), (32, 36), (80, 92), (96, 108)] {
            let shape = HeadShape { head_dim, kv: KvType::Q8_0, ..windowed(0, 1, 1) };
            assert_eq!(shape.kv_bytes(), 2 * bytes);
        }
    }
}
