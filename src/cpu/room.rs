//! What a model takes of each thread's memory on the CPU, by its header alone.

use crate::graph::{MatrixNeed, Needs};

use super::attention::Cache;
use super::panel::{self, BLOCK, ROWS};
use super::team::borders;

/// Bytes of one thread's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Weights, and in the first thread KV cache, vectors and activations: what the backend counts.
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

/// What `threads` take that each have a memory of their own, the engine's first.
#[must_use]
pub fn room(needs: &Needs, threads: usize) -> Vec<Room> {
    let mut rooms = vec![Room::default(); threads.max(1)];
    for need in needs.matrices() {
        let batch = u64::from(need.batch);
        let input = batch * need.cols * INPUT_BYTES;
        for (room, (held, rows)) in rooms.iter_mut().zip(shares(need, threads.max(1))) {
            room.held = room.held.saturating_add(held);
            room.scratch = room.scratch.max(input + batch * rows * 4);
        }
        // The engine's memory takes the results of all.
        let rows: u64 = need.segments.iter().map(|part| part.rows).sum();
        if let Some(own) = rooms.first_mut() {
            own.scratch = own.scratch.max(input + batch * rows * 4);
        }
    }
    if let Some(own) = rooms.first_mut() {
        let tensor = |(rows, cols): &(u32, u32)| {
            u64::from(*rows) * u64::from(*cols).next_multiple_of(BLOCK as u64) * 4
        };
        own.held += needs.vectors.iter().flatten().map(|(_, len)| u64::from(*len) * 4).sum::<u64>();
        own.held += needs.memories.iter().flatten().map(|(_, shape)| Cache::bytes(*shape)).sum::<u64>();
        own.held += needs.tensors.iter().map(tensor).sum::<u64>();
    }
    rooms
}

/// Bytes and rows of a matrix that each thread holds.
fn shares(need: &MatrixNeed, threads: usize) -> Vec<(u64, u64)> {
    let mut shares = vec![(0, 0); threads];
    for same in need.segments.chunk_by(|a, b| a.dtype == b.dtype) {
        let Some(first) = same.first() else { continue };
        // A row and a count of rows have at most 32 bits each.
        let rows = usize::try_from(same.iter().map(|part| part.rows).sum::<u64>()).unwrap_or(usize::MAX);
        let panel = panel::panel_bytes(first.dtype, usize::try_from(need.cols).unwrap_or(usize::MAX)) as u64;
        for (share, border) in shares.iter_mut().zip(borders(rows, threads).windows(2)) {
            let rows = border[1] - border[0];
            share.0 += rows.div_ceil(ROWS) as u64 * panel;
            share.1 += rows as u64;
        }
    }
    shares
}
