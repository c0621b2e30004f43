//! Convolution as matrix products over pixels, without a matrix of patches in memory.
//!
//! A lane is an output channel, as in `matrix.rs` a row: weights lie in panels of eight output channels,
//! (kernel row, kernel column, input channel, 8), and one activation meets eight of them. A micro-tile is
//! a panel times some neighbouring pixels of a row; a pixel outside of the picture is a row of zeros. Threads share
//! the rows of the output.

use std::ops::Range;

use crate::graph::Activation;

use super::simd::{Kernel, Level, Simd};
use super::team::{Spread, Team};

/// Output channels of a panel.
pub const LANES: usize = 8;
/// Pixels of a micro-tile: two sums of 128 bits for each, two weights and an activation; V8 has fifteen registers for
/// them, and without fused multiply-add a product takes one.
pub const PIXELS: usize =
    if cfg!(all(target_arch = "wasm32", not(feature = "relaxed-simd"))) { 5 } else { 6 };

/// Channels as they lie in memory: whole vectors, the rest zeros.
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// Weights in panels, and the bias, padded to whole panels.
pub struct Packed {
    /// (panels, kernel, kernel, inputs padded, 8).
    panels: Vec<f32>,
    bias: Vec<f32>,
    kernel: usize,
    inputs: usize,
}

impl Packed {
    /// Packs (outputs, inputs, kernel, kernel).
    pub fn new(outputs: usize, inputs: usize, kernel: usize, weights: &[f32], bias: Option<&[f32]>) -> Self {
        let width = padded(inputs);
        let taps = kernel * kernel;
        let mut panels = vec![0.0; padded(outputs) * taps * width];
        for (o, filter) in weights.chunks_exact(inputs * taps).enumerate() {
            for (i, taps_of) in filter.chunks_exact(taps).enumerate() {
                for (tap, &w) in taps_of.iter().enumerate() {
                    panels[(((o / LANES) * taps + tap) * width + i) * LANES + o % LANES] = w;
                }
            }
        }
        let mut all = bias.unwrap_or_default().to_vec();
        all.resize(padded(outputs), 0.0);
        Packed { panels, bias: all, kernel, inputs: width }
    }

    /// (panels, kernel, kernel, inputs padded, 8).
    pub fn panels(&self) -> &[f32] {
        &self.panels
    }

    /// Input channels, padded.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output channels, padded.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// The biases of a panel.
    #[inline(always)]
    pub fn bias(&self, panel: usize) -> &[f32; LANES] {
        &self.bias.as_chunks::<LANES>().0[panel]
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        4 * (self.panels.len() + self.bias.len())
    }
}

/// A picture's floats, channels padded.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub data: &'a [f32],
    pub height: usize,
    pub width: usize,
    /// Floats of a pixel.
    pub stride: usize,
}

/// One convolution, see [`crate::graph::Conv`]; norm and `before` have been applied to the input.
pub struct Convolve<'a> {
    pub weights: &'a Packed,
    pub input: View<'a>,
    /// A pixel outside: [`Packed::inputs`] of them.
    pub zeros: &'a [f32],
    pub upsample: bool,
    pub stride: usize,
    pub padding: usize,
    pub residual: Option<&'a [f32]>,
    pub after: Activation,
    pub out: Spread<'a, f32>,
    pub out_height: usize,
    pub out_width: usize,
}

/// Computes it.
pub fn convolve(level: Level, team: &mut Team, convolve: &Convolve<'_>) {
    let height = convolve.out_height;
    let of_row = convolve.out_width.saturating_mul(convolve.weights.panels.len());
    let count = Team::units_of_chunk(height, of_row);
    team.each(height.div_ceil(count), move |chunk, _| {
        let first = chunk * count;
        level.run(Rows { convolve, rows: first..height.min(first + count) });
    });
}

/// Some rows of the output. No others may be computing them.
struct Rows<'a> {
    convolve: &'a Convolve<'a>,
    rows: Range<usize>,
}

impl Kernel for Rows<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let convolve = self.convolve;
        let packed = convolve.weights;
        let width = convolve.out_width;
        let panel = packed.kernel * packed.kernel * packed.inputs * LANES;
        // Rows outside: three rows of the input and one of the output stay in the second-level cache while all
        // panels pass, and a panel in the first while a row does.
        for y in self.rows {
            for at in 0..packed.outputs() / LANES {
                let weights = &packed.panels[at * panel..(at + 1) * panel];
                let mut x = 0;
                while x + PIXELS <= width {
                    convolve.tile::<S, PIXELS>(s, weights, at, y, x);
                    x += PIXELS;
                }
                if x < width && width >= PIXELS {
                    // The last tile of a row covers some pixels again.
                    convolve.tile::<S, PIXELS>(s, weights, at, y, width - PIXELS);
                } else {
                    while x < width {
                        convolve.tile::<S, 1>(s, weights, at, y, x);
                        x += 1;
                    }
                }
            }
        }
    }
}

impl Convolve<'_> {
    /// The input pixel under a tap, zeros outside.
    #[inline(always)]
    pub fn pixel(&self, y: usize, x: usize, ky: usize, kx: usize) -> &[f32] {
        let (height, width) = (self.input.height, self.input.width);
        // A shift: for every pixel of every tap a division would cost as much as its products.
        let halved = u32::from(self.upsample);
        let y = (y * self.stride + ky).wrapping_sub(self.padding);
        let x = (x * self.stride + kx).wrapping_sub(self.padding);
        if y >= height << halved || x >= width << halved {
            return self.zeros;
        }
        let at = ((y >> halved) * width + (x >> halved)) * self.input.stride;
        &self.input.data[at..at + self.zeros.len()]
    }

    /// `N` pixels of row `y` from `x` on, the eight channels of panel `at`.
    #[inline(always)]
    fn tile<S: Simd, const N: usize>(&self, s: S, weights: &[f32], at: usize, y: usize, x: usize) {
        let kernel = self.weights.kernel;
        let bias = s.load(self.weights.bias(at));
        let mut sums = [bias; N];
        let mut taps = weights.chunks_exact(self.zeros.len() * LANES);
        for ky in 0..kernel {
            for kx in 0..kernel {
                let Some(tap) = taps.next() else { return };
                let mut pixels = [self.zeros.as_chunks::<LANES>().0; N];
                for n in 0..N {
                    pixels[n] = self.pixel(y, x + n, ky, kx).as_chunks::<LANES>().0;
                }
                multiply(s, tap, pixels, &mut sums);
            }
        }
        for n in 0..N {
            self.finish(s, at, y, x + n, sums[n]);
        }
    }

    /// Residual and activation of the eight channels of panel `at` at one pixel, bias included in `sum`.
    #[inline(always)]
    pub fn finish<S: Simd>(&self, s: S, at: usize, y: usize, x: usize, mut sum: S::F) {
        let to = (y * self.out_width + x) * self.weights.outputs() / LANES + at;
        if let Some(residual) = self.residual {
            sum = s.add(sum, s.load(&residual.as_chunks::<LANES>().0[to]));
        }
        let sum = activate(s, self.after, sum);
        // SAFETY: a pixel's panel is of one chunk, see [`Rows`] and `winograd.rs`, and nobody reads it meanwhile.
        let out = unsafe { self.out.part(to * LANES..(to + 1) * LANES) };
        if let [out] = out.as_chunks_mut::<LANES>().0 {
            s.store(sum, out);
        }
    }
}

/// The micro-tile: adds to `sums` the products over all input channels of `N` rows and weights
/// (inputs, 8).
#[inline(always)]
pub fn multiply<S: Simd, const N: usize>(
    s: S,
    weights: &[f32],
    rows: [&[[f32; LANES]]; N],
    sums: &mut [S::F; N],
) {
    // Eight input channels at a time: bounds are checked once for all of them.
    for (c, weights) in weights.as_chunks::<{ LANES * LANES }>().0.iter().enumerate() {
        let weights = weights.as_chunks::<LANES>().0;
        let mut values = [&rows[0][c]; N];
        for n in 1..N {
            values[n] = &rows[n][c];
        }
        for i in 0..LANES {
            let w = s.load(&weights[i]);
            for n in 0..N {
                sums[n] = s.mul_add(w, s.splat(values[n][i]), sums[n]);
            }
        }
    }
}

/// The activation of a vector.
#[inline(always)]
fn activate<S: Simd>(s: S, activation: Activation, a: S::F) -> S::F {
    let zero = s.splat(0.0);
    match activation {
        Activation::None => a,
        Activation::Relu => s.max(a, zero),
        Activation::Silu => s.div(a, s.add(s.splat(1.0), s.exp(s.sub(zero, a)))),
        // 3 tanh(a / 3) = 3 (1 − 2 / (e^{2a/3} + 1)).
        Activation::Clamp => {
            let e = s.exp(s.mul(a, s.splat(2.0 / 3.0)));
            let share = s.div(s.splat(2.0), s.add(e, s.splat(1.0)));
            s.mul(s.splat(3.0), s.sub(s.splat(1.0), share))
        }
    }
}

/// to = activation(from · scale + shift), channel by channel; scale and shift of a pixel's length.
pub struct Before<'a> {
    pub from: &'a [f32],
    pub norm: Option<&'a [f32]>,
    pub channels: usize,
    pub activation: Activation,
    pub to: &'a mut [f32],
}

/// Computes it.
pub fn before(level: Level, team: &mut Team, before: Before<'_>) {
    let Before { from, norm, channels, activation, to } = before;
    let pixels = from.len() / channels;
    let to = Spread::new(to);
    // Most of it is waiting for memory, as with weights.
    let floats = channels * Team::units_of_chunk(pixels, 8 * channels);
    team.each(from.len().div_ceil(floats), move |chunk, _| {
        let place = chunk * floats..from.len().min((chunk + 1) * floats);
        // SAFETY: chunks have pixels of their own.
        let to = unsafe { to.part(place.clone()) };
        level.run(Before { from: &from[place], norm, channels, activation, to });
    });
}

impl Kernel for Before<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let vectors = self.channels / LANES;
        let norm = self.norm.map(|norm| norm.as_chunks::<LANES>().0);
        let pairs = self.from.as_chunks::<LANES>().0.iter().zip(self.to.as_chunks_mut::<LANES>().0);
        for (i, (from, to)) in pairs.enumerate() {
            let mut a = s.load(from);
            if let Some(norm) = norm {
                let c = i % vectors;
                a = s.mul_add(a, s.load(&norm[c]), s.load(&norm[vectors + c]));
            }
            s.store(activate(s, self.activation, a), to);
        }
    }
}
