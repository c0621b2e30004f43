//! Fused attention with online softmax, and the KV cache it reads.
//!
//! Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
//! "FlashAttention", 2022. A tile of 64 positions is taken by all query rows that share a KV head (its group's heads, of
//! one token or of a batch), up to four at a time, before the next tile: however many rows there are, the cache is read
//! from memory once.
//!
//! K and V are octets of elements, each one vector. K lies in panels of eight positions, (G, capacity / 8, D), an octet
//! being the panel's positions, so that a vector holds the scores of eight positions; V lies in tiles, (G, capacity / 64,
//! D / 8, 64), so that a vector holds eight columns, and a loop over positions reads what lies together. Both products
//! are then one loop: octets times a factor for each row. Where an octet needs a scale, 32 columns of a position share
//! one: K's lie in octets of positions, too. The last block of a head may be shorter.
//!
//! With a sliding window the cache is a ring of whole tiles: a position lies in slot position mod capacity.

use std::ops::Range;

use crate::error::Result;
use crate::graph::{HeadShape, KvType};

use super::memory::{Account, Shared, zeroed};
use super::panel::BLOCK;
use super::simd::{Kernel, Level, Simd};

/// Positions of a panel of K, columns of an octet of V.
const LANES: usize = 8;
/// Positions between two corrections of the running maximum. Tiles begin at fixed positions, so that
/// a row's result does not depend on its neighbours.
const TILE: usize = 64;
/// Query rows that share a pass over a tile: their sums, an octet and its factors still fit into sixteen registers of 128
/// bits. Five and more were slower in V8.
const TOGETHER: usize = 4;
/// Octets of a block of 32 columns.
const BLOCK_OCTETS: usize = BLOCK / LANES;

/// Eight elements of the cache.
pub trait Octet: bytemuck::Pod {
    /// Whether they are to be multiplied with a scale of their block.
    const SCALED: bool;
    /// Largest magnitude that they hold, or that a block of them with a scale holds; what f32 is not, is not held.
    const MOST: f32;
    /// As floats.
    fn load<S: Simd>(&self, s: S) -> S::F;
    /// Element `lane` = value.
    fn set(&mut self, lane: usize, value: f32);
    /// Element `lane`.
    fn get(&self, lane: usize) -> f32;
}

impl Octet for [f32; 8] {
    const SCALED: bool = false;
    const MOST: f32 = f32::INFINITY;
    #[inline(always)]
    fn load<S: Simd>(&self, s: S) -> S::F {
        s.load(self)
    }
    fn set(&mut self, lane: usize, value: f32) {
        self[lane] = value;
    }
    fn get(&self, lane: usize) -> f32 {
        self[lane]
    }
}

/// Eight f16.
impl Octet for [u8; 16] {
    const SCALED: bool = false;
    const MOST: f32 = 65504.0;
    #[inline(always)]
    fn load<S: Simd>(&self, s: S) -> S::F {
        s.load_f16(self)
    }
    fn set(&mut self, lane: usize, value: f32) {
        // Vectors load finite numbers only. What lies beyond them is an overflow, which the store reports.
        let [low, high] = half::f16::from_f32(value.clamp(-Self::MOST, Self::MOST)).to_le_bytes();
        (self[2 * lane], self[2 * lane + 1]) = (low, high);
    }
    fn get(&self, lane: usize) -> f32 {
        half::f16::from_le_bytes([self[2 * lane], self[2 * lane + 1]]).to_f32()
    }
}

/// Eight signed bytes.
impl Octet for [u8; 8] {
    const SCALED: bool = true;
    const MOST: f32 = f32::MAX;
    #[inline(always)]
    fn load<S: Simd>(&self, s: S) -> S::F {
        s.load_i8(self)
    }
    fn set(&mut self, lane: usize, value: f32) {
        self[lane] = value.round() as i8 as u8;
    }
    fn get(&self, lane: usize) -> f32 {
        f32::from(self[lane] as i8)
    }
}

/// K and V, of one head or of all; scales only where octets are scaled.
#[derive(Clone, Copy)]
pub struct Planes<'a, O> {
    /// (capacity / 8, D).
    pub k: &'a [O],
    /// (capacity / 64, D / 8, 64).
    pub v: &'a [O],
    /// (capacity / 8, blocks of a head).
    pub k_scales: &'a [[f32; 8]],
    /// (capacity, blocks of a head).
    pub v_scales: &'a [f32],
}

/// K and V of one KV head.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// What is there.
    pub cells: Cells<'a>,
    /// `D`, a multiple of 8.
    pub dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Soft cap of the scaled scores; 0 is none.
    pub cap: f32,
}

/// By what they are stored as.
#[derive(Clone, Copy)]
pub enum Cells<'a> {
    /// [`KvType::F32`].
    F32(Planes<'a, [f32; 8]>),
    /// [`KvType::F16`].
    F16(Planes<'a, [u8; 16]>),
    /// [`KvType::Q8_0`].
    Q8_0(Planes<'a, [u8; 8]>),
}

/// Index of K's element `column` at `pos` within its head, in elements.
pub fn k_index(dim: usize, pos: usize, column: usize) -> usize {
    (pos / LANES * dim + column) * LANES + pos % LANES
}

/// Index of V's element `column` at `pos` within its head, in elements.
pub fn v_index(dim: usize, pos: usize, column: usize) -> usize {
    v_octet(dim, pos, column) * LANES + column % LANES
}

/// Index of V's octet with this column.
fn v_octet(dim: usize, pos: usize, column: usize) -> usize {
    (pos / TILE * (dim / LANES) + column / LANES) * TILE + pos % TILE
}

/// Elements of one head's K, or of its V, for `capacity` positions.
pub fn head_floats(capacity: usize, dim: usize) -> usize {
    capacity.next_multiple_of(TILE) * dim
}

/// The cache of one layer.
#[derive(Clone)]
pub struct Cache {
    memory: Memory,
    /// What it is for.
    pub shape: HeadShape,
}

#[derive(Clone)]
enum Memory {
    F32(Shared<Owned<[f32; 8]>>),
    F16(Shared<Owned<[u8; 16]>>),
    Q8_0(Shared<Owned<[u8; 8]>>),
}

/// [`Planes`] of all heads.
struct Owned<O> {
    k: Vec<O>,
    v: Vec<O>,
    k_scales: Vec<[f32; 8]>,
    v_scales: Vec<f32>,
}

/// The same words for every type.
macro_rules! any {
    ($memory:expr, $m:ident => $body:expr) => {
        match $memory {
            Memory::F32($m) => $body,
            Memory::F16($m) => $body,
            Memory::Q8_0($m) => $body,
        }
    };
}

impl Cache {
    /// An empty one.
    pub fn new(account: &Account, label: &str, shape: HeadShape) -> Result<Self> {
        let memory = match shape.kv {
            KvType::F32 => Memory::F32(Owned::new(account, label, shape)?),
            KvType::F16 => Memory::F16(Owned::new(account, label, shape)?),
            KvType::Q8_0 => Memory::Q8_0(Owned::new(account, label, shape)?),
        };
        Ok(Cache { memory, shape })
    }

    /// Bytes of one of this shape.
    pub fn bytes(shape: HeadShape) -> u64 {
        match shape.kv {
            KvType::F32 => Owned::<[f32; 8]>::bytes(shape),
            KvType::F16 => Owned::<[u8; 16]>::bytes(shape),
            KvType::Q8_0 => Owned::<[u8; 8]>::bytes(shape),
        }
    }

    /// Puts K and V of all heads, (G, D) each, at a position. Whether all of them are numbers that it can hold.
    pub fn store(&self, pos: usize, k: &[f32], v: &[f32]) -> bool {
        any!(&self.memory, m => m.write().store(self.shape, pos, k, v))
    }

    /// K and V, (G, slots, D) each, as the kernels see them. For tests.
    pub fn read(&self) -> [Vec<f32>; 2] {
        any!(&self.memory, m => m.read().dense(self.shape))
    }

    /// Runs `work` with every KV head.
    pub fn with_heads<T>(&self, work: impl FnOnce(Vec<Head<'_>>) -> T) -> T {
        let dim = self.shape.head_dim as usize;
        let HeadShape { scale, cap, .. } = self.shape;
        let head = |cells| Head { cells, dim, scale, cap };
        match &self.memory {
            Memory::F32(m) => work(m.read().heads(self.shape).map(Cells::F32).map(head).collect()),
            Memory::F16(m) => work(m.read().heads(self.shape).map(Cells::F16).map(head).collect()),
            Memory::Q8_0(m) => work(m.read().heads(self.shape).map(Cells::Q8_0).map(head).collect()),
        }
    }
}

impl<O: Octet> Owned<O> {
    /// Positions that there is room for: whole tiles.
    fn capacity(shape: HeadShape) -> usize {
        (shape.slots() as usize).next_multiple_of(TILE)
    }

    /// Scales of a head's K or V at a position.
    fn blocks(shape: HeadShape) -> usize {
        if O::SCALED { (shape.head_dim as usize).div_ceil(BLOCK) } else { 0 }
    }

    /// Octets of K or of V, and their scales.
    fn counts(shape: HeadShape) -> (u64, u64) {
        let positions = u64::from(shape.kv_heads) * Self::capacity(shape) as u64;
        (positions * u64::from(shape.head_dim) / LANES as u64, positions * Self::blocks(shape) as u64)
    }

    fn bytes(shape: HeadShape) -> u64 {
        let (octets, blocks) = Self::counts(shape);
        2 * octets * size_of::<O>() as u64 + 2 * blocks * 4
    }

    fn new(account: &Account, label: &str, shape: HeadShape) -> Result<Shared<Self>> {
        let (octets, blocks) = Self::counts(shape);
        let owned = Owned {
            k: zeroed(label, octets)?,
            v: zeroed(label, octets)?,
            k_scales: zeroed(label, blocks / LANES as u64)?,
            v_scales: zeroed(label, blocks)?,
        };
        Ok(Shared::new(account, Self::bytes(shape), owned))
    }

    fn store(&mut self, shape: HeadShape, pos: usize, k: &[f32], v: &[f32]) -> bool {
        let (dim, capacity, blocks) = (shape.head_dim as usize, Self::capacity(shape), Self::blocks(shape));
        let slot = pos % capacity;
        for (head, (k, v)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).enumerate() {
            let at = head * capacity + slot;
            for (block, (k, v)) in k.chunks(BLOCK).zip(v.chunks(BLOCK)).enumerate() {
                let first = block * BLOCK;
                let (mut k_steps, mut v_steps) = (1.0, 1.0);
                if O::SCALED {
                    v_steps = steps(v, &mut self.v_scales[at * blocks + block]);
                    k_steps = steps(k, &mut self.k_scales[at / LANES * blocks + block][slot % LANES]);
                }
                let k_at = at / LANES * dim + first;
                for (octet, k) in self.k[k_at..].iter_mut().zip(k) {
                    octet.set(slot % LANES, k * k_steps);
                }
                let v_at = v_octet(dim, at, first);
                for (octet, v) in self.v[v_at..].iter_mut().step_by(TILE).zip(v.chunks_exact(LANES)) {
                    for (lane, v) in v.iter().enumerate() {
                        octet.set(lane, v * v_steps);
                    }
                }
            }
        }
        // What is in f32 is what it is, NaN included.
        O::MOST == f32::INFINITY || k.iter().chain(v).all(|value| value.abs() <= O::MOST)
    }

    fn heads(&self, shape: HeadShape) -> impl Iterator<Item = Planes<'_, O>> {
        let capacity = Self::capacity(shape);
        let octets = capacity * shape.head_dim as usize / LANES;
        let blocks = capacity * Self::blocks(shape);
        (0..shape.kv_heads as usize).map(move |head| Planes {
            k: &self.k[head * octets..][..octets],
            v: &self.v[head * octets..][..octets],
            k_scales: &self.k_scales[head * blocks / LANES..][..blocks / LANES],
            v_scales: &self.v_scales[head * blocks..][..blocks],
        })
    }

    fn dense(&self, shape: HeadShape) -> [Vec<f32>; 2] {
        let (dim, blocks) = (shape.head_dim as usize, Self::blocks(shape));
        let (mut k, mut v) = (Vec::new(), Vec::new());
        for head in self.heads(shape) {
            for (slot, c) in (0..shape.slots() as usize).flat_map(|slot| (0..dim).map(move |c| (slot, c))) {
                let (mut k_scale, mut v_scale) = (1.0, 1.0);
                if O::SCALED {
                    k_scale = head.k_scales[slot / LANES * blocks + c / BLOCK][slot % LANES];
                    v_scale = head.v_scales[slot * blocks + c / BLOCK];
                }
                k.push(head.k[slot / LANES * dim + c].get(slot % LANES) * k_scale);
                v.push(head.v[v_octet(dim, slot, c)].get(c % LANES) * v_scale);
            }
        }
        [k, v]
    }
}

/// Notes a block's scale, and returns what makes its elements whole numbers up to 127.
fn steps(block: &[f32], scale: &mut f32) -> f32 {
    let most = block.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    *scale = most / 127.0;
    // The inverse of a smaller number would be infinite.
    if most > 1e-30 { 127.0 / most } else { 0.0 }
}

/// One query row.
pub struct Query<'a> {
    q: &'a [f32],
    seen: Range<usize>,
    out: &'a mut [f32],
    /// The greatest score so far.
    highest: f32,
    /// Σ e^(score - highest) so far.
    total: f32,
}

impl<'a> Query<'a> {
    /// A row `q` that attends to the positions `seen`, at least one; `out` becomes softmax(cap(q Kᵀ · scale)) V. Both
    /// are `D` floats.
    pub fn new(q: &'a [f32], seen: Range<usize>, out: &'a mut [f32]) -> Self {
        out.fill(0.0);
        Query { q, seen, out, highest: f32::NEG_INFINITY, total: 0.0 }
    }

    /// What it sees of the tile that begins at position `base`, counted from there.
    fn within(&self, base: usize) -> Range<usize> {
        let [start, end] =
            [self.seen.start, self.seen.end].map(|position| position.saturating_sub(base).min(TILE));
        start..end
    }
}

/// Computes all queries of one KV head: tile by tile, and all of them on each, while it is in the L1 cache.
pub fn attend(level: Level, head: Head<'_>, queries: &mut [Query<'_>]) {
    let first = queries.iter().map(|row| row.seen.start).min().unwrap_or(0);
    let end = queries.iter().map(|row| row.seen.end).max().unwrap_or(0);
    let mut wide = [Vec::new(), Vec::new()];
    for tile in first / TILE..end.div_ceil(TILE) {
        match head.cells {
            Cells::F32(planes) => on_tile(level, head, tile, planes.octets(head.dim, tile), queries),
            // One pass widens as it reads; several share what was widened once.
            Cells::F16(planes) if queries.len() <= TOGETHER => {
                on_tile(level, head, tile, planes.octets(head.dim, tile), queries);
            }
            Cells::F16(planes) => {
                on_tile(level, head, tile, planes.widened(level, head.dim, tile, &mut wide), queries);
            }
            Cells::Q8_0(planes) => {
                on_tile(level, head, tile, planes.widened(level, head.dim, tile, &mut wide), queries);
            }
        }
    }
    for row in queries {
        let total = row.total;
        for out in row.out.iter_mut() {
            *out /= total;
        }
    }
}

fn on_tile<O: Octet>(
    level: Level,
    Head { scale, cap, .. }: Head<'_>,
    tile: usize,
    [k, v]: [&[O]; 2],
    queries: &mut [Query<'_>],
) {
    let base = tile * TILE;
    for rows in queries.chunks_mut(TOGETHER) {
        match rows.len() {
            1 => level.run(Rows::<O, 1> { k, v, base, scale, cap, rows }),
            2 => level.run(Rows::<O, 2> { k, v, base, scale, cap, rows }),
            3 => level.run(Rows::<O, 3> { k, v, base, scale, cap, rows }),
            _ => level.run(Rows::<O, 4> { k, v, base, scale, cap, rows }),
        }
    }
}

impl<'a, O: Octet> Planes<'a, O> {
    /// Where a tile of positions lies: tile 0 follows the last one.
    fn place(self, dim: usize, tile: usize) -> usize {
        tile % (self.k.len() * LANES / (TILE * dim))
    }

    /// K and V of a tile.
    fn octets(self, dim: usize, tile: usize) -> [&'a [O]; 2] {
        let octets = TILE * dim / LANES;
        let from = self.place(dim, tile) * octets;
        [&self.k[from..][..octets], &self.v[from..][..octets]]
    }

    /// K and V of a tile as floats.
    fn widened(
        self,
        level: Level,
        dim: usize,
        tile: usize,
        wide: &mut [Vec<[f32; 8]>; 2],
    ) -> [&[[f32; 8]]; 2] {
        level.run(Widen { planes: self, dim, tile, wide });
        [&wide[0], &wide[1]]
    }
}

/// Makes a tile's elements floats.
struct Widen<'a, O> {
    planes: Planes<'a, O>,
    dim: usize,
    tile: usize,
    wide: &'a mut [Vec<[f32; 8]>; 2],
}

impl<O: Octet> Kernel for Widen<'_, O> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Widen { planes, dim, tile, wide: [wide_k, wide_v] } = self;
        let [k, v] = planes.octets(dim, tile);
        let first = planes.place(dim, tile) * TILE;
        wide_k.resize(k.len(), [0.0; 8]);
        wide_v.resize(v.len(), [0.0; 8]);
        let blocks = dim.div_ceil(BLOCK);
        for (panel, (k, wide)) in k.chunks_exact(dim).zip(wide_k.chunks_exact_mut(dim)).enumerate() {
            for (b, (k, wide)) in k.chunks(BLOCK).zip(wide.chunks_mut(BLOCK)).enumerate() {
                let mut scale = s.splat(1.0);
                if O::SCALED {
                    scale = s.load(&planes.k_scales[(first / LANES + panel) * blocks + b]);
                }
                for (k, wide) in k.iter().zip(wide) {
                    s.store(if O::SCALED { s.mul(k.load(s), scale) } else { k.load(s) }, wide);
                }
            }
        }
        for (chunk, (v, wide)) in v.chunks_exact(TILE).zip(wide_v.chunks_exact_mut(TILE)).enumerate() {
            for (i, (v, wide)) in v.iter().zip(wide).enumerate() {
                let mut v = v.load(s);
                if O::SCALED {
                    let at = (first + i) * blocks + chunk / BLOCK_OCTETS;
                    v = s.mul(v, s.splat(planes.v_scales[at]));
                }
                s.store(v, wide);
            }
        }
    }
}

/// `N` query rows on a tile. What a row gets does not depend on the others, nor on N.
struct Rows<'a, 'b, O, const N: usize> {
    /// (TILE / 8, D).
    k: &'a [O],
    /// (D / 8, TILE).
    v: &'a [O],
    /// The tile's first position.
    base: usize,
    /// Factor of the scores.
    scale: f32,
    /// Soft cap of the scaled scores; 0 is none.
    cap: f32,
    /// N of them.
    rows: &'a mut [Query<'b>],
}

impl<O: Octet, const N: usize> Kernel for Rows<'_, '_, O, N> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rows { k, v, base, scale, cap, rows } = self;
        let Some(rows) = rows.first_chunk_mut::<N>() else { return };
        let dim = rows[0].q.len();
        // Positions that a row sees.
        let (mut from, mut here) = (TILE, 0);
        for row in rows.iter() {
            let seen = row.within(base);
            if !seen.is_empty() {
                (from, here) = (from.min(seen.start), here.max(seen.end));
            }
        }
        if from >= here {
            return;
        }
        // Scores, then what they are as powers of e.
        let mut p = [[0.0; TILE]; N];
        // Of the rows side by side: one address, and nothing to check.
        let mut factors = [[0.0; N]; TILE];
        for first in (0..dim).step_by(TILE) {
            let width = TILE.min(dim - first);
            for n in 0..N {
                for (to, from) in factors.iter_mut().zip(&rows[n].q[first..first + width]) {
                    to[n] = from * scale;
                }
            }
            for panel in from / LANES..here.div_ceil(LANES) {
                let mut sums = [s.splat(0.0); N];
                for n in 0..N {
                    sums[n] = s.load(&p[n].as_chunks().0[panel]);
                }
                let sums = add_products(s, &k[panel * dim + first..], &factors[..width], sums);
                for n in 0..N {
                    s.store(sums[n], &mut p[n].as_chunks_mut().0[panel]);
                }
            }
        }
        let mut corrections = [1.0; N];
        for n in 0..N {
            corrections[n] = soften(s, &mut p[n], rows[n].within(base), cap, &mut rows[n]);
            for (to, from) in factors.iter_mut().zip(&p[n]) {
                to[n] = *from;
            }
        }
        for (chunk, v) in v.chunks_exact(TILE).enumerate() {
            let mut sums = [s.splat(0.0); N];
            for n in 0..N {
                sums[n] = s.mul(s.load(&rows[n].out.as_chunks().0[chunk]), s.splat(corrections[n]));
            }
            let sums = add_products(s, &v[from..], &factors[from..here], sums);
            for n in 0..N {
                s.store(sums[n], &mut rows[n].out.as_chunks_mut().0[chunk]);
            }
        }
    }
}

/// sums\[n] += Σ octets\[i] · factors\[i]\[n], in this order.
#[inline(always)]
fn add_products<S: Simd, O: Octet, const N: usize>(
    s: S,
    octets: &[O],
    factors: &[[f32; N]],
    mut sums: [S::F; N],
) -> [S::F; N] {
    for (octet, factors) in octets.iter().zip(factors) {
        let octet = octet.load(s);
        for n in 0..N {
            sums[n] = s.mul_add(octet, s.splat(factors[n]), sums[n]);
        }
    }
    sums
}

/// Makes e^(score - highest) of a tile's scores, of which the row sees some. Returns what earlier sums are to be
/// multiplied with.
#[inline(always)]
fn soften<S: Simd>(s: S, p: &mut [f32; TILE], seen: Range<usize>, cap: f32, row: &mut Query<'_>) -> f32 {
    if seen.is_empty() {
        p.fill(0.0);
        return 1.0;
    }
    if cap > 0.0 {
        for p in p.as_chunks_mut().0 {
            s.store(capped(s, s.load(p), cap), p);
        }
    }
    // What lies around may be anything, NaN included.
    p[..seen.start].fill(f32::NEG_INFINITY);
    p[seen.end..].fill(f32::NEG_INFINITY);
    let mut most = s.splat(row.highest);
    for p in p.as_chunks().0 {
        most = s.max(most, s.load(p));
    }
    let most = s.max_lane(most);
    let mut moved = [0.0; LANES];
    s.store(s.exp(s.splat(row.highest - most)), &mut moved);
    let correction = if row.highest == f32::NEG_INFINITY { 0.0 } else { moved[0] };
    for p in p.as_chunks_mut().0 {
        s.store(s.exp(s.sub(s.load(p), s.splat(most))), p);
    }
    p[..seen.start].fill(0.0);
    p[seen.end..].fill(0.0);
    let mut sum = s.splat(0.0);
    for p in p.as_chunks().0 {
        sum = s.add(sum, s.load(p));
    }
    row.highest = most;
    row.total = row.total * correction + s.sum(sum);
    correction
}

/// cap · tanh(score / cap) = cap - 2 cap / (e^(2 score / cap) + 1).
#[inline(always)]
fn capped<S: Simd>(s: S, score: S::F, cap: f32) -> S::F {
    let e = s.exp(s.mul(score, s.splat(2.0 / cap)));
    s.sub(s.splat(cap), s.div(s.splat(2.0 * cap), s.add(e, s.splat(1.0))))
}
