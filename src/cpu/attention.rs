//! Fused attention with online softmax, and the KV cache it reads.
//!
//! Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
//! "FlashAttention", 2022. Query rows that share a KV head (its group's heads, or several tokens) go
//! through the cache together, up to four at a time.
//!
//! K lies in panels of eight positions, (G, capacity / 8, D, 8), so that a vector holds the scores of
//! eight positions; V lies as it comes, (G, capacity, D), so that a vector holds eight columns.

use super::simd::{Kernel, Level, Simd};

/// Positions of a panel of K.
const LANES: usize = 8;
/// Positions between two corrections of the running maximum. Tiles begin at fixed positions, so that
/// a row's result does not depend on its neighbours.
const TILE: usize = 64;
/// Query rows that share a pass over the cache.
const TOGETHER: usize = 4;

/// K and V of one KV head: their first floats, and what is there.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// (capacity / 8, D, 8).
    pub k: &'a [f32],
    /// (capacity, D).
    pub v: &'a [f32],
    /// `D`, a multiple of 8.
    pub dim: usize,
}

/// Index of K's element `column` at `pos` within its head.
pub fn k_index(dim: usize, pos: usize, column: usize) -> usize {
    (pos / LANES * dim + column) * LANES + pos % LANES
}

/// Floats of one head's K for `capacity` positions.
pub fn k_floats(capacity: usize, dim: usize) -> usize {
    capacity.next_multiple_of(LANES) * dim
}

/// One query row: `D` floats, the number of positions it sees, and where its result goes (`D` floats).
pub struct Query<'a> {
    /// The query.
    pub q: &'a [f32],
    /// Positions 0 to `seen` - 1 are attended to; at least 1.
    pub seen: usize,
    /// softmax(q Kᵀ / √D) V.
    pub out: &'a mut [f32],
}

/// Computes all queries of one KV head.
pub fn attend(level: Level, head: Head<'_>, queries: &mut [Query<'_>]) {
    level.run(Attend { head, queries });
}

struct Attend<'a, 'b> {
    head: Head<'a>,
    queries: &'a mut [Query<'b>],
}

impl Kernel for Attend<'_, '_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for rows in self.queries.chunks_mut(TOGETHER) {
            match rows {
                [a, b, c, d] => together(s, self.head, [a, b, c, d]),
                [a, b, c] => together(s, self.head, [a, b, c]),
                [a, b] => together(s, self.head, [a, b]),
                [a] => together(s, self.head, [a]),
                _ => {}
            }
        }
    }
}

#[inline(always)]
fn together<S: Simd, const N: usize>(s: S, head: Head<'_>, rows: [&mut Query<'_>; N]) {
    let Head { k, v, dim } = head;
    let scale = s.splat(1.0 / (dim as f32).sqrt());
    let longest = rows.iter().map(|row| row.seen).max().unwrap_or(0);
    let mut highest = [f32::NEG_INFINITY; N];
    let mut total = [0.0; N];
    let mut p = [[0.0; TILE]; N];
    for base in (0..longest).step_by(TILE) {
        let here = TILE.min(longest - base);
        for panel in 0..here.div_ceil(LANES) {
            let k = &k[(base / LANES + panel) * dim * LANES..][..dim * LANES];
            let mut sums = [s.splat(0.0); N];
            for (d, k) in k.as_chunks::<LANES>().0.iter().enumerate() {
                let k = s.load(k);
                for n in 0..N {
                    sums[n] = s.mul_add(k, s.splat(rows[n].q[d]), sums[n]);
                }
            }
            for n in 0..N {
                let to = &mut p[n].as_chunks_mut::<LANES>().0[panel];
                s.store(s.mul(sums[n], scale), to);
            }
        }
        let mut correction = [1.0; N];
        for n in 0..N {
            let seen = rows[n].seen.saturating_sub(base).min(TILE);
            if seen == 0 {
                p[n].fill(0.0);
                continue;
            }
            // What lies beyond may be anything, NaN included.
            p[n][seen..].fill(f32::NEG_INFINITY);
            let tiles = p[n].as_chunks_mut::<LANES>().0;
            let mut most = s.splat(highest[n]);
            for p in tiles.iter() {
                most = s.max(most, s.load(p));
            }
            let most = s.max_lane(most);
            let moved = s.exp(s.splat(highest[n] - most));
            correction[n] = if highest[n] == f32::NEG_INFINITY { 0.0 } else { first(s, moved) };
            highest[n] = most;
            let mut sum = s.splat(0.0);
            for (j, p) in tiles.iter_mut().enumerate() {
                let e = s.exp(s.sub(s.load(p), s.splat(most)));
                s.store(e, p);
                if (j + 1) * LANES > seen {
                    p[seen.saturating_sub(j * LANES).min(LANES)..].fill(0.0);
                }
                sum = s.add(sum, s.load(p));
            }
            total[n] = total[n] * correction[n] + s.sum(sum);
        }
        for chunk in 0..dim / LANES {
            let mut sums = [s.splat(0.0); N];
            if base > 0 {
                for n in 0..N {
                    let out = &rows[n].out.as_chunks::<LANES>().0[chunk];
                    sums[n] = s.mul(s.load(out), s.splat(correction[n]));
                }
            }
            for i in 0..here {
                let at = (base + i) * dim / LANES + chunk;
                let v = s.load(&v.as_chunks::<LANES>().0[at]);
                for n in 0..N {
                    sums[n] = s.mul_add(v, s.splat(p[n][i]), sums[n]);
                }
            }
            for n in 0..N {
                s.store(sums[n], &mut rows[n].out.as_chunks_mut::<LANES>().0[chunk]);
            }
        }
    }
    for (n, row) in rows.into_iter().enumerate() {
        let divisor = s.splat(total[n]);
        for out in row.out.as_chunks_mut::<LANES>().0 {
            s.store(s.div(s.load(out), divisor), out);
        }
    }
}

#[inline(always)]
fn first<S: Simd>(s: S, a: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(a, &mut lanes);
    lanes[0]
}
