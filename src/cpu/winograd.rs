//! Convolution 3 × 3 of stride 1 with fewer products: Winograd's F(2 × 2, 3 × 3) of Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", 2015.
//!
//! A tile of 2 × 2 outputs is Aᵀ (G g Gᵀ ⊙ Bᵀ d B) A of a filter g and the 4 × 4 inputs d under it: 16 products
//! instead of 36 for each pair of channels. Each of the 16 components is a matrix product over tiles, with
//! panels of eight output channels as in `conv.rs`. Of an enlarged input the middle two rows and columns of d
//! are equal, which makes 7 components zero: 9 products instead of 36. Threads share blocks of tiles.

use std::ops::Range;

use super::conv::{Convolve, LANES, PIXELS as TILES, multiply, padded};
use super::simd::{Kernel, Level, Simd};
use super::team::{SCRATCH, Spread, Team};

/// Components of a transformed tile.
const COMPONENTS: usize = 16;
/// Those that are left where rows 1 and 2 of d are equal, and columns too.
const ENLARGED: [usize; 9] = [0, 1, 3, 4, 5, 7, 12, 13, 15];
const ALL: [usize; COMPONENTS] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Floats of a block's transformed inputs: half of a small second-level cache.
const BLOCK: usize = 32 << 10;
/// Blocks that there should be at least, so that several threads have about as many.
const BLOCKS: usize = 16;
/// Most input channels: with more, the smallest block would not fit into a thread's memory.
const MOST_INPUTS: usize = SCRATCH / (COMPONENTS * TILES) - LANES;

/// Side of the kernels that can be transformed.
const KERNEL: usize = 3;
/// Weights of such a kernel.
const TAPS: usize = KERNEL * KERNEL;

/// Whether a convolution can be computed so.
pub fn fits(kernel: usize, convolve: &Convolve<'_>) -> bool {
    let Convolve { weights, stride, padding, .. } = convolve;
    (kernel, *stride, *padding) == (KERNEL, 1, 1) && weights.inputs() <= MOST_INPUTS
}

/// Floats of the transformed weights.
pub fn floats(outputs: usize, inputs: usize) -> usize {
    padded(outputs) * padded(inputs) * COMPONENTS
}

/// G g Gᵀ of the panels of `conv.rs`, (panels, 3, 3, inputs, 8), to (panels, 16, inputs, 8).
struct Transform<'a> {
    panels: &'a [f32],
    /// Floats of one tap of a panel: (inputs, 8).
    line: usize,
    to: &'a mut [f32],
}

impl Kernel for Transform<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let line = self.line;
        for (panel, to) in
            self.panels.chunks_exact(TAPS * line).zip(self.to.chunks_exact_mut(COMPONENTS * line))
        {
            let (panel, to) = (panel.as_chunks::<LANES>().0, to.as_chunks_mut::<LANES>().0);
            let line = line / LANES;
            for at in 0..line {
                let mut rows = [[s.splat(0.0); 3]; 4];
                for x in 0..3 {
                    // No closures here: they would be compiled without the caller's instructions.
                    let mut column = [s.splat(0.0); 3];
                    for y in 0..3 {
                        column[y] = s.load(&panel[(y * 3 + x) * line + at]);
                    }
                    let column = triple(s, column);
                    for y in 0..4 {
                        rows[y][x] = column[y];
                    }
                }
                for (y, row) in rows.into_iter().enumerate() {
                    for (x, value) in triple(s, row).into_iter().enumerate() {
                        s.store(value, &mut to[(y * 4 + x) * line + at]);
                    }
                }
            }
        }
    }
}

/// G of three weights.
#[inline(always)]
fn triple<S: Simd>(s: S, [a, b, c]: [S::F; 3]) -> [S::F; 4] {
    let (half, ends) = (s.splat(0.5), s.add(a, c));
    [a, s.mul(half, s.add(ends, b)), s.mul(half, s.sub(ends, b)), c]
}

/// Computes a convolution that [`fits`]. `transformed` is for the transformed weights: at least [`floats`]. They are made
/// anew in each call, which takes the time of about two tiles, since to keep them would take 16 floats for each 9 of
/// the weights.
pub fn convolve(level: Level, team: &mut Team, convolve: &Convolve<'_>, transformed: &mut [f32]) {
    let packed = convolve.weights;
    let line = packed.inputs() * LANES;
    let (panel, weights) = (COMPONENTS * line, packed.panels());
    let transformed = &mut transformed[..floats(packed.outputs(), packed.inputs())];
    let panels = packed.outputs() / LANES;
    let count = Team::units_of_chunk(panels, 4 * panel);
    let to = Spread::new(transformed);
    team.each(panels.div_ceil(count), move |chunk, _| {
        let place = chunk * count..panels.min((chunk + 1) * count);
        // SAFETY: chunks have panels of their own.
        let to = unsafe { to.part(place.start * panel..place.end * panel) };
        let panels = &weights[place.start * TAPS * line..place.end * TAPS * line];
        level.run(Transform { panels, line, to });
    });
    let weights = &*transformed;
    let tiles = convolve.out_width.div_ceil(2) * convolve.out_height.div_ceil(2);
    let most = BLOCK / (COMPONENTS * packed.inputs() * TILES);
    let block = TILES * tiles.div_ceil(TILES * BLOCKS).min(most.clamp(1, 16)).max(1);
    let blocks = tiles.div_ceil(block);
    let count = block * Team::units_of_chunk(blocks, block.saturating_mul(weights.len()));
    team.each(tiles.div_ceil(count), move |chunk, scratch| {
        let tiles = chunk * count..tiles.min((chunk + 1) * count);
        level.run(Tiles { convolve, weights, block, tiles, scratch });
    });
}

/// Some tiles of the output. No others may be computing them.
struct Tiles<'a> {
    convolve: &'a Convolve<'a>,
    weights: &'a [f32],
    /// How many at a time, a multiple of [`TILES`].
    block: usize,
    tiles: Range<usize>,
    /// Of [`SCRATCH`].
    scratch: &'a mut [f32],
}

impl Kernel for Tiles<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tiles { convolve, weights, block, tiles, scratch } = self;
        let inputs = convolve.weights.inputs();
        let (values, rest) = scratch.split_at_mut(COMPONENTS * block * inputs);
        let sums = &mut rest[..COMPONENTS * block * LANES];
        // The components that an enlarged input leaves out stay zeros.
        sums.fill(0.0);
        let components = if convolve.upsample { &ENLARGED[..] } else { &ALL[..] };
        let across = convolve.out_width.div_ceil(2);
        let line = inputs * LANES;
        for first in tiles.clone().step_by(block) {
            let count = block.min(tiles.end - first);
            for i in 0..count {
                let (y, x) = (2 * ((first + i) / across), 2 * ((first + i) % across));
                transform_tile(s, convolve, (y, x), &mut values[i * inputs..], block * inputs);
            }
            for (at, panel) in weights.chunks_exact(COMPONENTS * line).enumerate() {
                for &c in components {
                    let weights = &panel[c * line..(c + 1) * line];
                    for i in (0..count).step_by(TILES) {
                        let from = (c * block + i) * inputs;
                        let to = (c * block + i) * LANES;
                        let values = &values[from..from + TILES * inputs];
                        products(s, values, weights, &mut sums[to..to + TILES * LANES]);
                    }
                }
                for i in 0..count {
                    let (y, x) = (2 * ((first + i) / across), 2 * ((first + i) % across));
                    finish(s, convolve, at, (y, x), &sums[i * LANES..], block * LANES);
                }
            }
        }
    }
}

/// Bᵀ of four vectors.
#[inline(always)]
fn differences<S: Simd>(s: S, d: [S::F; 4]) -> [S::F; 4] {
    [s.sub(d[0], d[2]), s.add(d[1], d[2]), s.sub(d[2], d[1]), s.sub(d[1], d[3])]
}

/// Aᵀ of four vectors.
#[inline(always)]
fn joined<S: Simd>(s: S, m: [S::F; 4]) -> [S::F; 2] {
    [s.add(s.add(m[0], m[1]), m[2]), s.sub(s.sub(m[1], m[2]), m[3])]
}

/// Bᵀ d B of the inputs under the tile at output (y, x); component c goes to `to[c * stride..]`.
#[inline(always)]
fn transform_tile<S: Simd>(
    s: S,
    convolve: &Convolve<'_>,
    (y, x): (usize, usize),
    to: &mut [f32],
    stride: usize,
) {
    let mut pixels = [[convolve.zeros.as_chunks::<LANES>().0; 4]; 4];
    for (ky, row) in pixels.iter_mut().enumerate() {
        for (kx, pixel) in row.iter_mut().enumerate() {
            *pixel = convolve.pixel(y, x, ky, kx).as_chunks::<LANES>().0;
        }
    }
    for c in 0..convolve.zeros.len() / LANES {
        let mut rows = [[s.splat(0.0); 4]; 4];
        for kx in 0..4 {
            // No closures here: they would be compiled without the caller's instructions.
            let mut column = [s.splat(0.0); 4];
            for ky in 0..4 {
                column[ky] = s.load(&pixels[ky][kx][c]);
            }
            let column = differences(s, column);
            for ky in 0..4 {
                rows[ky][kx] = column[ky];
            }
        }
        for (ky, row) in rows.into_iter().enumerate() {
            for (kx, value) in differences(s, row).into_iter().enumerate() {
                let at = (ky * 4 + kx) * stride / LANES + c;
                s.store(value, &mut to.as_chunks_mut::<LANES>().0[at]);
            }
        }
    }
}

/// Sums over input channels: six tiles times eight output channels.
#[inline(always)]
fn products<S: Simd>(s: S, values: &[f32], weights: &[f32], to: &mut [f32]) {
    let inputs = values.len() / TILES;
    let mut rows = [values.as_chunks::<LANES>().0; TILES];
    for (n, row) in rows.iter_mut().enumerate() {
        *row = values[n * inputs..(n + 1) * inputs].as_chunks::<LANES>().0;
    }
    let mut sums = [s.splat(0.0); TILES];
    multiply(s, weights, rows, &mut sums);
    for (sum, to) in sums.into_iter().zip(to.as_chunks_mut::<LANES>().0) {
        s.store(sum, to);
    }
}

/// Aᵀ m A, then bias, residual and activation; component c is at `sums[c * stride..]`.
#[inline(always)]
fn finish<S: Simd>(
    s: S,
    convolve: &Convolve<'_>,
    panel: usize,
    (y, x): (usize, usize),
    sums: &[f32],
    stride: usize,
) {
    let sums = sums.as_chunks::<LANES>().0;
    let mut rows = [[s.splat(0.0); 4]; 2];
    for kx in 0..4 {
        let mut m = [s.splat(0.0); 4];
        for ky in 0..4 {
            m[ky] = s.load(&sums[(ky * 4 + kx) * stride / LANES]);
        }
        let column = joined(s, m);
        for dy in 0..2 {
            rows[dy][kx] = column[dy];
        }
    }
    let bias = s.load(convolve.weights.bias(panel));
    for (dy, m) in rows.into_iter().enumerate() {
        for (dx, value) in joined(s, m).into_iter().enumerate() {
            if y + dy < convolve.out_height && x + dx < convolve.out_width {
                convolve.finish(s, panel, y + dy, x + dx, s.add(value, bias));
            }
        }
    }
}
