//! Fused attention with online softmax, and the KV cache it reads.
//!
//! Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
//! "FlashAttention", 2022. Query rows that share a KV head (its group's heads, or several tokens) go
//! through the cache together, up to four at a time.
//!
//! K and V are octets of elements, each one vector. K lies in panels of eight positions, (G, capacity / 8, D), an octet
//! being the panel's positions, so that a vector holds the scores of eight positions; V lies as it comes, (G, capacity,
//! D / 8), so that a vector holds eight columns. Where an octet needs a scale, 32 columns of a position share one: K's
//! lie in octets of positions, too.

use crate::error::Result;
use crate::ops::{HeadShape, KvType};

use super::memory::{Account, Shared, zeroed};
use super::panel::BLOCK;
use super::simd::{Kernel, Level, Simd};

/// Positions of a panel of K, columns of an octet of V.
const LANES: usize = 8;
/// Positions between two corrections of the running maximum. Tiles begin at fixed positions, so that
/// a row's result does not depend on its neighbours.
const TILE: usize = 64;
/// Query rows that share a pass over the cache.
const TOGETHER: usize = 4;
/// Octets of a block of 32 columns.
const BLOCK_OCTETS: usize = BLOCK / LANES;

/// Eight elements of the cache.
pub trait Octet: bytemuck::Pod {
    /// Whether they are to be multiplied with a scale of their block.
    const SCALED: bool;
    /// As floats.
    fn load<S: Simd>(&self, s: S) -> S::F;
    /// Element `lane` = value.
    fn set(&mut self, lane: usize, value: f32);
    /// Element `lane`.
    fn get(&self, lane: usize) -> f32;
}

impl Octet for [f32; 8] {
    const SCALED: bool = false;
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
    #[inline(always)]
    fn load<S: Simd>(&self, s: S) -> S::F {
        s.load_f16(self)
    }
    fn set(&mut self, lane: usize, value: f32) {
        // The ends of the range stand for what lies beyond them, since vectors load finite numbers only.
        let [low, high] = half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_le_bytes();
        (self[2 * lane], self[2 * lane + 1]) = (low, high);
    }
    fn get(&self, lane: usize) -> f32 {
        half::f16::from_le_bytes([self[2 * lane], self[2 * lane + 1]]).to_f32()
    }
}

/// Eight signed bytes.
impl Octet for [u8; 8] {
    const SCALED: bool = true;
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
    /// (capacity, D / 8).
    pub v: &'a [O],
    /// (capacity / 8, D / 32).
    pub k_scales: &'a [[f32; 8]],
    /// (capacity, D / 32).
    pub v_scales: &'a [f32],
}

/// K and V of one KV head.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// What is there.
    pub cells: Cells<'a>,
    /// `D`, a multiple of 8; of 32 where there are scales.
    pub dim: usize,
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

/// Elements of one head's K for `capacity` positions.
pub fn k_floats(capacity: usize, dim: usize) -> usize {
    capacity.next_multiple_of(LANES) * dim
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

    /// Puts K and V of all heads, (G, D) each, at a position.
    pub fn store(&self, pos: usize, k: &[f32], v: &[f32]) {
        any!(&self.memory, m => m.write().store(self.shape, pos, k, v));
    }

    /// K and V, (G, capacity, D) each, as the kernels see them. For tests.
    pub fn read(&self) -> [Vec<f32>; 2] {
        any!(&self.memory, m => m.read().dense(self.shape))
    }

    /// Runs `work` with every KV head.
    pub fn with_heads<T>(&self, work: impl FnOnce(Vec<Head<'_>>) -> T) -> T {
        let dim = self.shape.head_dim as usize;
        let head = |cells| Head { cells, dim };
        match &self.memory {
            Memory::F32(m) => work(m.read().heads(self.shape).map(Cells::F32).map(head).collect()),
            Memory::F16(m) => work(m.read().heads(self.shape).map(Cells::F16).map(head).collect()),
            Memory::Q8_0(m) => work(m.read().heads(self.shape).map(Cells::Q8_0).map(head).collect()),
        }
    }
}

impl<O: Octet> Owned<O> {
    /// Positions that there is room for: whole panels.
    fn capacity(shape: HeadShape) -> usize {
        (shape.capacity as usize).next_multiple_of(LANES)
    }

    fn new(account: &Account, label: &str, shape: HeadShape) -> Result<Shared<Self>> {
        let elements = u64::from(shape.kv_heads) * Self::capacity(shape) as u64 * u64::from(shape.head_dim);
        let octets = elements / LANES as u64;
        let blocks = if O::SCALED { elements / BLOCK as u64 } else { 0 };
        let owned = Owned {
            k: zeroed(label, octets)?,
            v: zeroed(label, octets)?,
            k_scales: zeroed(label, blocks / LANES as u64)?,
            v_scales: zeroed(label, blocks)?,
        };
        let bytes = 2 * octets * size_of::<O>() as u64 + 2 * blocks * 4;
        Ok(Shared::new(account, bytes, owned))
    }

    fn store(&mut self, shape: HeadShape, pos: usize, k: &[f32], v: &[f32]) {
        let (dim, capacity) = (shape.head_dim as usize, Self::capacity(shape));
        let blocks = k.chunks_exact(BLOCK).zip(v.chunks_exact(BLOCK)).enumerate();
        for (block, (k, v)) in blocks {
            let (head, first) = (block * BLOCK / dim, block * BLOCK % dim);
            let (mut k_steps, mut v_steps) = (1.0, 1.0);
            if O::SCALED {
                let scales = (head * capacity + pos) * dim / BLOCK + first / BLOCK;
                v_steps = steps(v, &mut self.v_scales[scales]);
                let panel = (head * capacity + pos) / LANES * (dim / BLOCK) + first / BLOCK;
                k_steps = steps(k, &mut self.k_scales[panel][pos % LANES]);
            }
            let k_at = (head * capacity + pos) / LANES * dim + first;
            for (octet, k) in self.k[k_at..k_at + BLOCK].iter_mut().zip(k) {
                octet.set(pos % LANES, k * k_steps);
            }
            let v_at = ((head * capacity + pos) * dim + first) / LANES;
            for (octet, v) in self.v[v_at..v_at + BLOCK_OCTETS].iter_mut().zip(v.chunks_exact(LANES)) {
                for (lane, v) in v.iter().enumerate() {
                    octet.set(lane, v * v_steps);
                }
            }
        }
    }

    fn heads(&self, shape: HeadShape) -> impl Iterator<Item = Planes<'_, O>> {
        let elements = Self::capacity(shape) * shape.head_dim as usize;
        let (octets, blocks) = (elements / LANES, if O::SCALED { elements / BLOCK } else { 0 });
        (0..shape.kv_heads as usize).map(move |head| Planes {
            k: &self.k[head * octets..][..octets],
            v: &self.v[head * octets..][..octets],
            k_scales: &self.k_scales[head * blocks / LANES..][..blocks / LANES],
            v_scales: &self.v_scales[head * blocks..][..blocks],
        })
    }

    fn dense(&self, shape: HeadShape) -> [Vec<f32>; 2] {
        let (dim, capacity) = (shape.head_dim as usize, shape.capacity as usize);
        let (mut k, mut v) = (Vec::new(), Vec::new());
        for head in self.heads(shape) {
            for (pos, c) in (0..capacity).flat_map(|pos| (0..dim).map(move |c| (pos, c))) {
                let (mut k_scale, mut v_scale) = (1.0, 1.0);
                if O::SCALED {
                    k_scale = head.k_scales[pos / LANES * (dim / BLOCK) + c / BLOCK][pos % LANES];
                    v_scale = head.v_scales[(pos * dim + c) / BLOCK];
                }
                k.push(head.k[pos / LANES * dim + c].get(pos % LANES) * k_scale);
                v.push(head.v[(pos * dim + c) / LANES].get(c % LANES) * v_scale);
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
    let dim = head.dim;
    match head.cells {
        Cells::F32(planes) => level.run(Attend { planes, dim, queries }),
        Cells::F16(planes) => level.run(Attend { planes, dim, queries }),
        Cells::Q8_0(planes) => level.run(Attend { planes, dim, queries }),
    }
}

struct Attend<'a, 'b, O> {
    planes: Planes<'a, O>,
    dim: usize,
    queries: &'a mut [Query<'b>],
}

impl<O: Octet> Kernel for Attend<'_, '_, O> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for rows in self.queries.chunks_mut(TOGETHER) {
            match rows {
                [a, b, c, d] => together(s, self.planes, self.dim, [a, b, c, d]),
                [a, b, c] => together(s, self.planes, self.dim, [a, b, c]),
                [a, b] => together(s, self.planes, self.dim, [a, b]),
                [a] => together(s, self.planes, self.dim, [a]),
                _ => {}
            }
        }
    }
}

#[inline(always)]
fn together<S: Simd, O: Octet, const N: usize>(
    s: S,
    planes: Planes<'_, O>,
    dim: usize,
    rows: [&mut Query<'_>; N],
) {
    let scale = s.splat(1.0 / (dim as f32).sqrt());
    let longest = rows.iter().map(|row| row.seen).max().unwrap_or(0);
    let mut highest = [f32::NEG_INFINITY; N];
    let mut total = [0.0; N];
    let mut p = [[0.0; TILE]; N];
    for base in (0..longest).step_by(TILE) {
        let here = TILE.min(longest - base);
        for panel in 0..here.div_ceil(LANES) {
            let at = base / LANES + panel;
            let k = &planes.k[at * dim..][..dim];
            let mut sums = [s.splat(0.0); N];
            for (d, k) in k.iter().enumerate() {
                let mut k = k.load(s);
                if O::SCALED {
                    k = s.mul(k, s.load(&planes.k_scales[(at * dim + d) / BLOCK]));
                }
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
                let mut v = planes.v[at].load(s);
                if O::SCALED {
                    v = s.mul(v, s.splat(planes.v_scales[at / BLOCK_OCTETS]));
                }
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
