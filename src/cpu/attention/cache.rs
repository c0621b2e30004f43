//! The KV cache: how K and V of a layer lie in memory.
//!
//! Both are cells of eight lanes, each one vector or half a vector of integers. K lies in panels of eight positions, (G,
//! capacity / 8, D / pair), a lane being a position, so that a vector holds the scores of eight positions; V lies in tiles
//! of 64 positions, (G, capacity / 64, D / 8, 64 / pair), a lane being a column, so that a loop over positions reads what
//! lies together. `pair` is 1, or 2 for bytes: two columns of K, or two positions of V, lie side by side in a lane, as dot
//! products of integers take them. Bytes need a scale, which 32 columns of a position share: K's lie in octets of
//! positions, too. The last block of a head may be shorter.
//!
//! With a sliding window the cache is a ring of whole tiles: a position lies in slot position mod capacity.

use std::cell::Ref;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
use crate::graph::{HeadShape, KvType};

use super::super::memory::{Account, Shared, zeroed};
use super::super::panel::BLOCK;
use super::super::team::{Spread, Team};

/// Storing a float takes so many times as long as reading four bytes of weights.
const STORE: usize = 8;
/// Positions of a panel of K, columns of a cell of V.
pub const LANES: usize = 8;
/// Positions of a tile.
pub const TILE: usize = 64;

/// What eight lanes hold.
pub trait Cell: bytemuck::Pod + Send + Sync {
    /// Elements side by side in a lane.
    const PAIR: usize;
    /// Whether they are to be multiplied with a scale of their block.
    const SCALED: bool;
    /// Largest magnitude that they hold, or that a block of them with a scale holds; what f32 is not, is not held.
    const MOST: f32;
    /// Element `at` of `8 · PAIR` = value.
    fn set(&mut self, at: usize, value: f32);
    /// Element `at`.
    fn get(&self, at: usize) -> f32;
}

/// Eight f32.
impl Cell for [f32; 8] {
    const PAIR: usize = 1;
    const SCALED: bool = false;
    const MOST: f32 = f32::INFINITY;
    fn set(&mut self, at: usize, value: f32) {
        self[at] = value;
    }
    fn get(&self, at: usize) -> f32 {
        self[at]
    }
}

/// Eight f16, none of them subnormal: some processors take hundreds of cycles for a product with what those become.
impl Cell for [u16; 8] {
    const PAIR: usize = 1;
    const SCALED: bool = false;
    const MOST: f32 = 65504.0;
    fn set(&mut self, at: usize, value: f32) {
        // Vectors load finite numbers only. What lies beyond them is an overflow, which the store reports.
        self[at] = normal_f16(value.clamp(-Self::MOST, Self::MOST));
    }
    fn get(&self, at: usize) -> f32 {
        half::f16::from_bits(self[at]).to_f32()
    }
}

/// The nearest f16 of a value that is no greater than the greatest; 0 for what is subnormal, and NaN. The `half` crate has to
/// take care of all others, too, and takes several times as long.
fn normal_f16(value: f32) -> u16 {
    /// What the exponents of f32 are more than those of f16, and the fraction's bits that are too many.
    const EXPONENTS: u32 = 112 << 23;
    const BITS: u32 = 13;
    /// The least f16 that is not subnormal, and what is rounded to it: halfway to the next smaller one.
    const LEAST: u32 = 0x400;
    const ROUNDED_TO_LEAST: u32 = 0x387f_e000;
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // To the nearest; to the even one of two.
    let rounded = (magnitude.saturating_sub(EXPONENTS) + 0xfff + (magnitude >> BITS & 1)) >> BITS;
    let is_normal = magnitude >= ROUNDED_TO_LEAST && !value.is_nan();
    if is_normal { (bits >> 16 & 0x8000 | rounded.max(LEAST)) as u16 } else { 0 }
}

/// Sixteen signed bytes.
impl Cell for [i8; 16] {
    const PAIR: usize = 2;
    const SCALED: bool = true;
    const MOST: f32 = f32::MAX;
    fn set(&mut self, at: usize, value: f32) {
        self[at] = value.round() as i8;
    }
    fn get(&self, at: usize) -> f32 {
        f32::from(self[at])
    }
}

/// Where an element lies among a head's K or V: its cell, and its place there.
type Place = (usize, usize);

/// Place of K's element `column` at `slot`.
fn k_place(dim: usize, pair: usize, slot: usize, column: usize) -> Place {
    (slot / LANES * (dim / pair) + column / pair, slot % LANES * pair + column % pair)
}

/// Place of V's element `column` at `slot`.
fn v_place(dim: usize, pair: usize, slot: usize, column: usize) -> Place {
    let tile = (slot / TILE * (dim / LANES) + column / LANES) * (TILE / pair);
    (tile + slot % TILE / pair, column % LANES * pair + slot % pair)
}

/// Index of K's f32 `column` at `pos` within its head.
pub fn k_index(dim: usize, pos: usize, column: usize) -> usize {
    let (cell, at) = k_place(dim, 1, pos, column);
    cell * LANES + at
}

/// Index of V's f32 `column` at `pos` within its head.
pub fn v_index(dim: usize, pos: usize, column: usize) -> usize {
    let (cell, at) = v_place(dim, 1, pos, column);
    cell * LANES + at
}

/// Elements of one head's K, or of its V, for `capacity` positions.
pub fn head_floats(capacity: usize, dim: usize) -> usize {
    capacity.next_multiple_of(TILE) * dim
}

/// K and V: of all heads, first all K, then all V; scales only where cells are scaled.
#[derive(Clone, Copy)]
pub struct Planes<'a, C> {
    /// The cells.
    pub cells: &'a [C],
    /// Of blocks: K's (G, capacity / 8, blocks, 8), then V's (G, capacity / 64, blocks, 64).
    pub scales: &'a [f32],
}

/// K and V of one head.
#[derive(Clone, Copy)]
pub struct Head<'a, C> {
    /// (capacity / 8, D / pair).
    pub k: &'a [C],
    /// (capacity / 64, D / 8, 64 / pair).
    pub v: &'a [C],
    /// (capacity / 8, blocks).
    pub k_scales: &'a [[f32; 8]],
    /// (capacity / 64, blocks, 64).
    pub v_scales: &'a [f32],
}

impl<'a, C: Cell> Planes<'a, C> {
    /// Head `index` of `count`.
    pub fn head(self, index: usize, count: usize) -> Head<'a, C> {
        let (cells, scales) = (self.cells.len() / count / 2, self.scales.len() / count / 2);
        let (k, v) = self.cells.split_at(count * cells);
        let (k_scales, v_scales) = self.scales.split_at(count * scales);
        Head {
            k: &k[index * cells..][..cells],
            v: &v[index * cells..][..cells],
            k_scales: k_scales[index * scales..][..scales].as_chunks().0,
            v_scales: &v_scales[index * scales..][..scales],
        }
    }
}

/// Planes by what they are stored as.
#[derive(Clone, Copy)]
pub enum Kept<'a> {
    /// [`KvType::F32`].
    F32(Planes<'a, [f32; 8]>),
    /// [`KvType::F16`].
    F16(Planes<'a, [u16; 8]>),
    /// [`KvType::Q8_0`].
    Q8_0(Planes<'a, [i8; 16]>),
}

/// K and V of tokens: `count` rows, `stride` floats apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub count: usize,
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
    F16(Shared<Owned<[u16; 8]>>),
    Q8_0(Shared<Owned<[i8; 16]>>),
}

/// [`Planes`].
pub struct Owned<C> {
    cells: Vec<C>,
    scales: Vec<f32>,
}

/// A cache's memory while it is read.
pub enum Reading<'a> {
    F32(Ref<'a, Owned<[f32; 8]>>),
    F16(Ref<'a, Owned<[u16; 8]>>),
    Q8_0(Ref<'a, Owned<[i8; 16]>>),
}

impl Reading<'_> {
    /// What lies there.
    pub fn kept(&self) -> Kept<'_> {
        match self {
            Reading::F32(m) => Kept::F32(m.planes()),
            Reading::F16(m) => Kept::F16(m.planes()),
            Reading::Q8_0(m) => Kept::Q8_0(m.planes()),
        }
    }
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
            KvType::F16 => Owned::<[u16; 8]>::bytes(shape),
            KvType::Q8_0 => Owned::<[i8; 16]>::bytes(shape),
        }
    }

    /// Puts K and V of all heads at the positions from `pos` on, on all threads. A token's row holds K, (G, D), then V. Whether
    /// all of them are numbers that it can hold.
    pub fn store(&self, team: &mut Team, pos: usize, rows: Rows<'_>) -> bool {
        any!(&self.memory, m => m.write().store(self.shape, team, pos, rows))
    }

    /// K and V, (G, slots, D) each, as the kernels see them. For tests.
    pub fn read(&self) -> [Vec<f32>; 2] {
        any!(&self.memory, m => m.read().dense(self.shape))
    }

    /// Its memory, for the kernels.
    pub fn reading(&self) -> Reading<'_> {
        match &self.memory {
            Memory::F32(m) => Reading::F32(m.read()),
            Memory::F16(m) => Reading::F16(m.read()),
            Memory::Q8_0(m) => Reading::Q8_0(m.read()),
        }
    }
}

impl<C: Cell> Owned<C> {
    /// Positions that there is room for: whole tiles.
    fn capacity(shape: HeadShape) -> usize {
        (shape.slots() as usize).next_multiple_of(TILE)
    }

    /// Scales of a head's K or V at a position.
    fn blocks(shape: HeadShape) -> usize {
        if C::SCALED { (shape.head_dim as usize).div_ceil(BLOCK) } else { 0 }
    }

    /// Cells of K and V together, and their scales.
    fn counts(shape: HeadShape) -> (u64, u64) {
        let positions = 2 * u64::from(shape.kv_heads) * Self::capacity(shape) as u64;
        let cells = positions * u64::from(shape.head_dim) / (LANES * C::PAIR) as u64;
        (cells, positions * Self::blocks(shape) as u64)
    }

    fn bytes(shape: HeadShape) -> u64 {
        let (cells, scales) = Self::counts(shape);
        cells * size_of::<C>() as u64 + scales * 4
    }

    fn new(account: &Account, label: &str, shape: HeadShape) -> Result<Shared<Self>> {
        let (cells, scales) = Self::counts(shape);
        let owned = Owned { cells: zeroed(label, cells)?, scales: zeroed(label, scales)? };
        Ok(Shared::new(account, Self::bytes(shape), owned))
    }

    fn planes(&self) -> Planes<'_, C> {
        Planes { cells: &self.cells, scales: &self.scales }
    }

    fn store(&mut self, shape: HeadShape, team: &mut Team, pos: usize, rows: Rows<'_>) -> bool {
        let (dim, heads) = (shape.head_dim as usize, shape.kv_heads as usize);
        let (capacity, blocks) = (Self::capacity(shape), Self::blocks(shape));
        let (cells, scales) = (self.cells.len() / 2, self.scales.len() / 2);
        let (k_cells, v_cells) = self.cells.split_at_mut(cells);
        let (k_scales, v_scales) = self.scales.split_at_mut(scales);
        let cells = [Spread::new(k_cells), Spread::new(v_cells)];
        let scales = [Spread::new(k_scales), Spread::new(v_scales)];
        let too_large = AtomicBool::new(false);
        let told = &too_large;
        team.rows(heads, STORE * 2 * dim * rows.count, move |head, _| {
            let (cells_of_head, scales_of_head) = (capacity * dim / (LANES * C::PAIR), capacity * blocks);
            let cells_of_head = head * cells_of_head..(head + 1) * cells_of_head;
            let scales_of_head = head * scales_of_head..(head + 1) * scales_of_head;
            // SAFETY: each head is taken once.
            let [k_cells, v_cells] = cells.map(|cells| unsafe { cells.part(cells_of_head.clone()) });
            let [k_scales, v_scales] = scales.map(|scales| unsafe { scales.part(scales_of_head.clone()) });
            for token in 0..rows.count {
                let (k, v) = rows.data[token * rows.stride..][..2 * heads * dim].split_at(heads * dim);
                let (k, v) = (&k[head * dim..][..dim], &v[head * dim..][..dim]);
                let slot = (pos + token) % capacity;
                for (block, (k, v)) in k.chunks(BLOCK).zip(v.chunks(BLOCK)).enumerate() {
                    let (mut k_steps, mut v_steps) = (1.0, 1.0);
                    if C::SCALED {
                        k_steps =
                            steps(k, &mut k_scales[(slot / LANES * blocks + block) * LANES + slot % LANES]);
                        v_steps =
                            steps(v, &mut v_scales[(slot / TILE * blocks + block) * TILE + slot % TILE]);
                    }
                    let first = block * BLOCK;
                    let (cell, lane) = k_place(dim, C::PAIR, slot, first);
                    for (cell, k) in k_cells[cell..].iter_mut().zip(k.chunks_exact(C::PAIR)) {
                        for (i, k) in k.iter().enumerate() {
                            cell.set(lane + i, k * k_steps);
                        }
                    }
                    let (cell, first) = v_place(dim, C::PAIR, slot, first);
                    let cells = v_cells[cell..].iter_mut().step_by(TILE / C::PAIR);
                    for (cell, v) in cells.zip(v.chunks_exact(LANES)) {
                        for (lane, v) in v.iter().enumerate() {
                            cell.set(first + lane * C::PAIR, v * v_steps);
                        }
                    }
                }
                // What is in f32 is what it is, NaN included.
                if C::MOST < f32::INFINITY && !k.iter().chain(v).all(|value| value.abs() <= C::MOST) {
                    // Relaxed: it is read when all have finished.
                    told.store(true, Ordering::Relaxed);
                }
            }
        });
        !too_large.into_inner()
    }

    fn dense(&self, shape: HeadShape) -> [Vec<f32>; 2] {
        let (dim, blocks) = (shape.head_dim as usize, Self::blocks(shape));
        let (mut k, mut v) = (Vec::new(), Vec::new());
        for head in 0..shape.kv_heads as usize {
            let head = self.planes().head(head, shape.kv_heads as usize);
            for (slot, c) in (0..shape.slots() as usize).flat_map(|slot| (0..dim).map(move |c| (slot, c))) {
                let (mut k_scale, mut v_scale) = (1.0, 1.0);
                if C::SCALED {
                    k_scale = head.k_scales[slot / LANES * blocks + c / BLOCK][slot % LANES];
                    v_scale = head.v_scales[(slot / TILE * blocks + c / BLOCK) * TILE + slot % TILE];
                }
                let (cell, at) = k_place(dim, C::PAIR, slot, c);
                k.push(head.k[cell].get(at) * k_scale);
                let (cell, at) = v_place(dim, C::PAIR, slot, c);
                v.push(head.v[cell].get(at) * v_scale);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// All f32 of a coarse raster, and those at the borders, against the `half` crate.
    #[test]
    fn halves_are_those_of_the_half_crate() {
        let edges = [0x3880_0000u32, 0x387f_f000, 0x387f_e000, 0x3800_0000, 0x477f_e000, 0, 0x7fc0_0000];
        let near =
            edges.into_iter().flat_map(|edge| (0..9).map(move |i| edge.wrapping_add(i).wrapping_sub(4)));
        for bits in (0..=u32::MAX / 4099).map(|i| i * 4099).chain(near) {
            for value in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let value = value.clamp(-65504.0, 65504.0);
                let held = half::f16::from_f32(value);
                let want = if held.is_normal() { held.to_bits() } else { 0 };
                assert_eq!(normal_f16(value), want, "{value:e} {bits:x}");
            }
        }
    }
}
