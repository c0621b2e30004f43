//! What a model takes of memory on the CPU, by its header alone.

use crate::graph::{MatrixNeed, Needs};

use super::attention::Cache;
use super::panel::{self, BLOCK, ROWS};
use super::team::Team;

/// Bytes of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Weights, KV cache, vectors and activations, which the backend counts, and what threads need.
    pub held: u64,
    /// At most, between two steps of an operation.
    pub scratch: u64,
}

impl Room {
    /// Held and scratch together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.held.saturating_add(self.scratch)
    }
}

/// Bytes of an activation on its way into a product, as a float and as an integer with its block's scale and sums.
const INPUT_BYTES: u64 = 8;

/// What a model and the threads that compute it take of their memory.
#[must_use]
pub fn room(needs: &Needs, threads: usize) -> Room {
    let mut room = Room { held: Team::bytes(threads), scratch: 0 };
    for need in needs.matrices() {
        let rows: u64 = need.segments.iter().map(|part| part.rows).sum();
        room.held = room.held.saturating_add(panels(need));
        room.scratch = room.scratch.max(u64::from(need.batch) * (need.cols * INPUT_BYTES + rows * 4));
    }
    let tensor =
        |(rows, cols): &(u32, u32)| u64::from(*rows) * u64::from(*cols).next_multiple_of(BLOCK as u64) * 4;
    room.held += needs.vectors.iter().flatten().map(|(_, len)| u64::from(*len) * 4).sum::<u64>();
    room.held += needs.memories.iter().flatten().map(|(_, shape)| Cache::bytes(*shape)).sum::<u64>();
    room.held += needs.tensors.iter().map(tensor).sum::<u64>();
    room
}

/// Bytes of a matrix.
fn panels(need: &MatrixNeed) -> u64 {
    let parts = need.segments.chunk_by(|a, b| a.dtype == b.dtype);
    let bytes = parts.map(|same| {
        let rows: u64 = same.iter().map(|part| part.rows).sum();
        let cols = usize::try_from(need.cols).unwrap_or(usize::MAX);
        let panel = same.first().map_or(0, |part| panel::panel_bytes(part.dtype, cols));
        rows.div_ceil(ROWS as u64).saturating_mul(panel as u64)
    });
    bytes.fold(0, u64::saturating_add)
}
