//! Convolutions of image networks and what is fused with them.

use emberglass::graph::{Activation, Conv, ConvShape, GroupNorm, ImageBackend, ImageShape, Rect, Window};

use super::tolerance;
use crate::common::compare::{Layout, assert_close};
use crate::common::random::Random;
use crate::reference::Sum;
use crate::reference::attention::{Scores, attend};
use crate::reference::conv::{self as oracle, Filter, Picture};
use half::f16;

/// An image backend under test.
#[allow(async_fn_in_trait)] // one thread
pub trait ImageRig: ImageBackend {
    /// A fresh one.
    async fn make() -> Self;
    /// Whether pictures and weights are f16.
    fn is_half(&self) -> bool;

    /// Random floats that are stored as they are.
    fn floats(&self, random: &mut Random, count: usize) -> Vec<f32> {
        let mut values = random.floats(count);
        if self.is_half() {
            values.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
        }
        values
    }

    /// How far a stored value may be off: half a unit in the last place of an f16, and half the smallest one.
    fn rounding(&self, value: f64) -> f64 {
        if self.is_half() { 2f64.powi(-11) * value.abs() + 2f64.powi(-25) } else { 0.0 }
    }
}

/// One convolution's options.
#[derive(Debug, Clone, Copy)]
struct Case {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    height: usize,
    width: usize,
    stride: usize,
    padding: usize,
    upsample: bool,
    bias: bool,
    residual: bool,
    /// Groups of a norm in front.
    groups: Option<usize>,
    before: Activation,
    after: Activation,
}

const PLAIN: Case = Case {
    inputs: 8,
    outputs: 8,
    kernel: 3,
    height: 5,
    width: 7,
    stride: 1,
    padding: 1,
    upsample: false,
    bias: true,
    residual: false,
    groups: None,
    before: Activation::None,
    after: Activation::None,
};

/// Channels on, before and past whole vectors; sizes on, before and past tiles, down to one pixel.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (inputs, outputs) in [(1, 1), (3, 64), (64, 3), (33, 34), (64, 64)] {
        for (height, width) in [(1, 1), (5, 7), (17, 33)] {
            cases.push(Case { inputs, outputs, height, width, ..PLAIN });
            cases.push(Case { inputs, outputs, height, width, kernel: 1, padding: 0, ..PLAIN });
        }
    }
    for (height, width) in [(1, 1), (2, 3), (9, 8), (16, 35)] {
        let sized = Case { inputs: 20, outputs: 24, height, width, ..PLAIN };
        cases.push(Case { upsample: true, ..sized });
        cases.push(Case { stride: 2, bias: false, ..sized });
        if height > 1 {
            // Zeros only below and on the right, as AutoencoderKL has it.
            cases.push(Case { stride: 2, padding: 0, ..sized });
        }
        cases.push(Case { residual: true, after: Activation::Relu, ..sized });
        cases.push(Case { groups: Some(4), before: Activation::Silu, ..sized });
    }
    cases.push(Case { before: Activation::Clamp, after: Activation::Silu, ..PLAIN });
    cases.push(Case { groups: Some(1), before: Activation::Relu, upsample: true, residual: true, ..PLAIN });
    cases.push(Case { groups: Some(8), kernel: 1, padding: 0, after: Activation::Clamp, ..PLAIN });
    cases
}

/// The activation, and how much it enlarges an error, at most.
fn activate(activation: Activation, x: f64) -> (f64, f64) {
    match activation {
        Activation::None => (x, 1.0),
        Activation::Relu => (x.max(0.0), 1.0),
        Activation::Silu => (x / (1.0 + (-x).exp()), 1.1),
        Activation::Clamp => (3.0 * (x / 3.0).tanh(), 1.0),
    }
}

fn floats(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn shape(height: usize, width: usize, channels: usize) -> ImageShape {
    ImageShape { height: height as u32, width: width as u32, channels: channels as u32 }
}

/// Every case, alone and in one plan whose pictures reuse memory.
pub async fn convolution<R: ImageRig>() {
    let mut backend = R::make().await;
    for (i, case) in cases().into_iter().enumerate() {
        check(&mut backend, case, i as u64).await;
    }
}

async fn check<R: ImageRig>(backend: &mut R, case: Case, seed: u64) {
    let mut random = Random::new(seed);
    let Case { inputs, outputs, kernel, height, width, stride, padding, .. } = case;
    let x = backend.floats(&mut random, height * width * inputs);
    let weights = backend.floats(&mut random, outputs * inputs * kernel * kernel);
    let bias = random.floats(outputs);
    let factor = if case.upsample { 2 } else { 1 };
    let size = |n: usize| {
        if stride == 2 && padding == 0 { n / 2 } else { (n * factor).div_ceil(stride) }
    };
    let (out_height, out_width) = (size(height), size(width));
    let residual = backend.floats(&mut random, out_height * out_width * outputs);
    let (gain, shift) = (random.floats(inputs), random.floats(inputs));

    let mut input = Picture { height, width, channels: inputs, values: floats(&x) };
    let mut slack = 0.0;
    if let Some(groups) = case.groups {
        input.values = oracle::group_norm(&input, groups, 1e-6, &floats(&gain), &floats(&shift));
        // Scale and shift are rounded, and added to what they nearly cancel: |x| ≤ 10, gain ≤ 10, and a
        // deviation of at least a tenth, in up to eight roundings.
        slack = 8.0 * 2f64.powi(-24) * 10.0 * 10.0 / 0.1;
    }
    let mut enlarged = 1.0;
    for v in &mut input.values {
        (*v, enlarged) = activate(case.before, *v);
    }
    let filter = Filter {
        outputs,
        kernel,
        weights: &floats(&weights),
        bias: &if case.bias { floats(&bias) } else { vec![0.0; outputs] },
        stride,
        padding,
        upsample: case.upsample,
    };
    let mut want = oracle::conv(&input, &filter, out_height, out_width);
    let mut tolerances = Vec::new();
    let terms = inputs * kernel * kernel;
    let largest = filter.weights.iter().fold(0.0f64, |top, w| top.max(w.abs()));
    for (sum, r) in want.iter_mut().zip(&residual) {
        if case.residual {
            *sum = Sum { value: sum.value + f64::from(*r), sum: sum.sum + f64::from(r.abs()), ..*sum };
        }
        let (value, factor) = activate(case.after, sum.value);
        // An activation in front is within some 2^-21 of a value of at most 100.
        let before = if case.before == Activation::None { 0.0 } else { 2f64.powi(-21) * 100.0 };
        let carried = (enlarged * slack + before) * largest * terms as f64;
        let computed = factor * (tolerance(terms, sum) + carried) + 2f64.powi(-21) * (value.abs() + 1.0);
        tolerances.push(computed + backend.rounding(value.abs() + computed));
        sum.value = value;
    }

    let source = backend.image(shape(height, width, inputs)).unwrap();
    let out = backend.image(shape(out_height, out_width, outputs)).unwrap();
    let added = backend.image(shape(out_height, out_width, outputs)).unwrap();
    backend.write(&source, &x);
    backend.write(&added, &residual);
    let filter_shape = ConvShape { inputs: inputs as u32, outputs: outputs as u32, kernel: kernel as u32 };
    let bias = case.bias.then_some(bias.as_slice());
    let weights = backend.weights("w", filter_shape, &weights, bias).unwrap();
    let norm = case.groups.map(|groups| {
        let norm = GroupNorm { groups: groups as u32, eps: 1e-6, gain: &gain, bias: &shift };
        backend.group_norm(&source, &norm).unwrap()
    });
    let conv = Conv {
        weights: &weights,
        input: &source,
        norm: norm.as_ref(),
        before: case.before,
        upsample: case.upsample,
        stride: stride as u32,
        padding: padding as u32,
        residual: case.residual.then_some(&added),
        after: case.after,
    };
    backend.conv(&conv, &out).unwrap();
    let plan = backend.finish();
    backend.run(&plan, &|| false).await.unwrap();
    let got = backend.read(&out).await.unwrap();
    let values: Vec<f64> = want.iter().map(|s| s.value).collect();
    let layout = Layout { rows: 1, cols: values.len(), stride: values.len() };
    assert_close(&format!("{case:?}"), &got, &layout, &values, &tolerances);
}

fn plain<'a, R: ImageRig>(weights: &'a R::Weights, input: &'a R::Image) -> Conv<'a, R> {
    Conv {
        weights,
        input,
        norm: None,
        before: Activation::None,
        upsample: false,
        stride: 1,
        padding: 1,
        residual: None,
        after: Activation::None,
    }
}

fn relu<'a, R: ImageRig>(weights: &'a R::Weights, input: &'a R::Image) -> Conv<'a, R> {
    Conv { after: Activation::Relu, ..plain(weights, input) }
}

/// Two convolutions in a row through memory that another picture had; twice the same.
/// A norm over tiles measures each tile's window, in units of a coarse grid, and is applied with the statistics of all
/// windows together; whatever else the tiles hold.
pub async fn windows<R: ImageRig>() {
    let mut backend = R::make().await;
    let mut random = Random::new(11);
    let (height, width, channels, groups) = (12usize, 20usize, 6usize, 3usize);
    let tile = backend.image(shape(height, width, channels)).unwrap();
    let (gain, bias) = (random.floats(channels), random.floats(channels));
    let spec = GroupNorm { groups: groups as u32, eps: 1e-5, gain: &gain, bias: &bias };
    let mut identity = vec![0.0; channels * channels];
    (0..channels).for_each(|c| identity[c * channels + c] = 1.0);
    let filter = ConvShape { inputs: channels as u32, outputs: channels as u32, kernel: 1 };
    let identity = backend.weights("w", filter, &identity, None).unwrap();
    let normed = backend.image(shape(height, width, channels)).unwrap();
    backend.end_part();
    let norm = backend.tiled_norm(&tile, &spec, 2).unwrap();
    backend.end_part();
    backend.conv(&Conv { norm: Some(&norm), padding: 0, ..plain(&identity, &tile) }, &normed).unwrap();
    let plan = backend.finish();
    assert!(backend.tiled_norm(&tile, &GroupNorm { groups: 4, ..spec }, 2).is_err());
    drop(backend.finish());
    // Rows 3 to 9 of 12 and columns 5 to 20 of 20, on a grid of 4 × 4; then the right half.
    let first = Window { top: 1, bottom: 3, left: 1, right: 4, rows: 4, columns: 4, tile: 0, pad: 0 };
    let second = Window { top: 0, bottom: 1, left: 1, right: 2, rows: 1, columns: 2, tile: 1, pad: 0 };
    let mut seen = vec![Vec::new(); groups];
    // Once more at the end: what was measured before does not count twice.
    for round in 0..2 {
        seen = vec![Vec::new(); groups];
        for (window, rows, columns) in [(first, 3..9, 5..20), (second, 0..12, 10..20)] {
            let mut values = backend.floats(&mut random, height * width * channels);
            // The tiles have little in common.
            values.iter_mut().for_each(|v| *v = *v / 2.0 + (2 * window.tile + round) as f32);
            backend.write(&tile, &values);
            let values = backend.read(&tile).await.unwrap();
            backend.measure(window);
            backend.run_parts(&plan, &|part| part == 1, &|| false).await.unwrap();
            for (i, v) in values.iter().enumerate() {
                let (pixel, c) = (i / channels, i % channels);
                if rows.contains(&(pixel / width)) && columns.contains(&(pixel % width)) {
                    seen[c / 2].push(f64::from(*v));
                }
            }
        }
        backend.merge(&norm).unwrap();
        let merge = backend.finish();
        backend.run(&merge, &|| false).await.unwrap();
    }
    let counts = [0, 1, 2].map(|part| R::dispatches(&plan, &|number| number == part));
    assert!(counts == [0, 1, 1] || counts == [0; 3], "{counts:?}");
    backend.run_parts(&plan, &|part| part != 1, &|| false).await.unwrap();
    let values = backend.read(&tile).await.unwrap();
    let got = backend.read(&normed).await.unwrap();
    for (i, (got, v)) in got.iter().zip(&values).enumerate() {
        let (c, seen) = (i % channels, &seen[i % channels / 2]);
        let count = seen.len() as f64;
        let mean = seen.iter().sum::<f64>() / count;
        let variance = seen.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let scale = f64::from(gain[c]) / (variance + 1e-5).sqrt();
        let want = (f64::from(*v) - mean) * scale + f64::from(bias[c]);
        // f32 sums of some hundred values of about 1, and terms that cancel.
        let slack = 1e-5 * (1.0 + (f64::from(v.abs()) + mean.abs()) * scale.abs() + bias[c].abs() as f64);
        assert!((f64::from(*got) - want).abs() <= slack + backend.rounding(want), "{i}: {got} {want}");
    }
}

/// Bytes are clamped and rounded; NaN does not matter, as long as it stays in its pixel.
pub async fn pixels<R: ImageRig>() {
    let mut backend = R::make().await;
    let mut random = Random::new(8);
    let source = backend.image(shape(67, 131, 3)).unwrap();
    let mut values = backend.floats(&mut random, 67 * 131 * 3);
    // Times two is as exact as before.
    values.iter_mut().for_each(|v| *v *= 2.0);
    let pixels = backend.pixels(&source, 0.5, 0.5).unwrap();
    let plan = backend.finish();
    backend.write(&source, &values);
    backend.run(&plan, &|| false).await.unwrap();
    let rgba = backend.read_pixels(&pixels).await.unwrap();
    assert_eq!(rgba.len(), 67 * 131 * 4);
    for (got, want) in rgba.chunks_exact(4).zip(values.chunks_exact(3)) {
        assert_eq!(got[3], 255);
        for (got, want) in got.iter().zip(want) {
            let want = ((f64::from(*want) * 0.5 + 0.5) * 255.0).clamp(0.0, 255.0);
            assert!((f64::from(*got) - want).abs() <= 0.501, "{got} {want}");
        }
    }
    let wide = backend.image(shape(2, 2, 4)).unwrap();
    assert!(backend.pixels(&wide, 1.0, 0.0).is_err());
}

pub async fn memory_is_used_again<R: ImageRig>() {
    let mut backend = R::make().await;
    let mut random = Random::new(5);
    let size = shape(6, 9, 8);
    let mut weights = backend.floats(&mut random, 8 * 8 * 9);
    // So that six layers stay within f16; exact.
    weights.iter_mut().for_each(|w| *w /= 8.0);
    let filter = ConvShape { inputs: 8, outputs: 8, kernel: 3 };
    let w = backend.weights("w", filter, &weights, None).unwrap();
    let source = backend.image(size).unwrap();
    let x = backend.floats(&mut random, 6 * 9 * 8);
    backend.write(&source, &x);
    let mut last = backend.image(size).unwrap();
    backend.conv(&relu(&w, &source), &last).unwrap();
    let before = backend.allocated_bytes();
    for _ in 0..5 {
        let next = backend.image(size).unwrap();
        backend.conv(&relu(&w, &last), &next).unwrap();
        last = next;
    }
    let one = backend.allocated_bytes() - before;
    let plan = backend.finish();
    let picture = |values| Picture { height: 6, width: 9, channels: 8, values };
    let (w64, zeros) = (floats(&weights), vec![0.0; 8]);
    let mut want = floats(&x);
    for _ in 0..6 {
        let filter = Filter {
            outputs: 8,
            kernel: 3,
            weights: &w64,
            bias: &zeros,
            stride: 1,
            padding: 1,
            upsample: false,
        };
        want = oracle::conv(&picture(want), &filter, 6, 9).iter().map(|s| s.value.max(0.0)).collect();
    }
    let largest = want.iter().fold(0.0f64, |top, v| top.max(*v));
    for _ in 0..2 {
        backend.run(&plan, &|| false).await.unwrap();
        let got = backend.read(&last).await.unwrap();
        let layout = Layout { rows: 1, cols: want.len(), stride: want.len() };
        // Six layers, each off by at most 2^-18 of the largest value it meets, and by what storing rounds; each
        // sums 72 products, whose weights' magnitudes add up to less than 16 times the gain of the largest.
        let off = 6.0 * (2f64.powi(-18) * largest + 16.0 * backend.rounding(largest));
        assert_close("chain", &got, &layout, &want, &vec![off; want.len()]);
        assert!(!backend.overflowed().await.unwrap());
    }
    assert!(one <= 2 * 6 * 9 * 8 * 4, "{one} bytes for five pictures of which two live at a time");
}

/// What does not fit is refused by name.
pub async fn misfits_are_refused<R: ImageRig>() {
    let mut backend = R::make().await;
    let small = backend.image(shape(4, 4, 8)).unwrap();
    let large = backend.image(shape(8, 8, 8)).unwrap();
    let other = backend.image(shape(4, 4, 9)).unwrap();
    let filter = ConvShape { inputs: 8, outputs: 8, kernel: 3 };
    assert_eq!(backend.weights("w", filter, &[0.0; 575], None).err().unwrap().code(), "shape-mismatch");
    let five = ConvShape { kernel: 5, ..filter };
    assert_eq!(backend.weights("w", five, &[0.0; 1600], None).err().unwrap().code(), "unsupported-model");
    let w = backend.weights("w", filter, &[0.0; 576], None).unwrap();
    for (input, out) in [(&small, &large), (&other, &small), (&small, &other)] {
        assert_eq!(backend.conv(&plain(&w, input), out).unwrap_err().code(), "shape-mismatch");
    }
    let norm = GroupNorm { groups: 3, eps: 1e-5, gain: &[1.0; 8], bias: &[0.0; 8] };
    assert_eq!(backend.group_norm(&small, &norm).err().unwrap().code(), "shape-mismatch");
}

/// One head over all positions, narrow and wide, positions on and past a tile of keys.
pub async fn attention<R: ImageRig>() {
    for (height, width, channels) in [(1, 1, 8), (5, 7, 64), (8, 8, 512), (5, 13, 320), (11, 12, 24)] {
        let mut backend = R::make().await;
        let mut random = Random::new(channels as u64 + height as u64);
        let size = shape(height, width, channels);
        let count = height * width;
        let values: Vec<Vec<f32>> = (0..3).map(|_| backend.floats(&mut random, count * channels)).collect();
        let images: Vec<R::Image> = (0..4).map(|_| backend.image(size).unwrap()).collect();
        for (image, values) in images.iter().zip(&values) {
            backend.write(image, values);
        }
        backend.attention(&images[0], &images[1], &images[2], &images[3]).unwrap();
        let plan = backend.finish();
        backend.run(&plan, &|| false).await.unwrap();
        let got = backend.read(&images[3]).await.unwrap();
        let [q, k, v] = [0, 1, 2].map(|i| floats(&values[i]));
        let scores = Scores { scale: 1.0 / (channels as f64).sqrt(), cap: 0.0 };
        let [k, v] = [&k, &v].map(|values| values.chunks_exact(channels).collect::<Vec<_>>());
        let want: Vec<f64> = q.chunks_exact(channels).flat_map(|q| attend(q, &k, &v, scores)).collect();
        let layout = Layout { rows: 1, cols: want.len(), stride: want.len() };
        // As for the language model's: a score's error shifts a weight by as much relatively.
        let score_error = (channels as f64 + 8.0) * 2f64.powi(-24) * 100.0 * (channels as f64).sqrt();
        let tolerance =
            10.0 * (2.0 * score_error + (count + 16) as f64 * 2f64.powi(-23)) + backend.rounding(10.0);
        assert_close(&format!("attention {size:?}"), &got, &layout, &want, &vec![tolerance; want.len()]);
    }
    let mut backend = R::make().await;
    let [odd, small, large] =
        [shape(2, 2, 12), shape(2, 2, 8), shape(2, 3, 8)].map(|s| backend.image(s).unwrap());
    assert_eq!(backend.attention(&odd, &odd, &odd, &odd).unwrap_err().code(), "unsupported-model");
    assert_eq!(backend.attention(&small, &large, &small, &small).unwrap_err().code(), "shape-mismatch");
}

/// Values beyond f16 are noticed where pictures are f16, once; wide pictures hold them.
pub async fn overflow_is_noticed<R: ImageRig>() {
    let mut backend = R::make().await;
    let half = backend.is_half();
    let filter = ConvShape { inputs: 8, outputs: 8, kernel: 1 };
    let mut identity = vec![0.0; 64];
    (0..8).for_each(|c| identity[9 * c] = 2.0);
    let doubled = backend.weights("w", filter, &identity, None).unwrap();
    for wide in [false, true] {
        if wide {
            backend.widen();
        }
        let noticed = half && !wide;
        let (from, to) = (backend.image(shape(3, 3, 8)).unwrap(), backend.image(shape(3, 3, 8)).unwrap());
        backend.conv(&Conv { padding: 0, ..plain(&doubled, &from) }, &to).unwrap();
        let plan = backend.finish();
        for (value, too_large) in [(32_752.0, false), (32_768.0, true), (-40_000.0, true), (1.0, false)] {
            let mut values = vec![0.5; 72];
            values[40] = value;
            backend.write(&from, &values);
            backend.run(&plan, &|| false).await.unwrap();
            assert_eq!(backend.overflowed().await.unwrap(), too_large && noticed, "{value}");
            assert!(!backend.overflowed().await.unwrap());
            let want = if noticed { (2.0 * value).clamp(-65_504.0, 65_504.0) } else { 2.0 * value };
            assert_eq!(backend.read(&to).await.unwrap()[40], want);
        }
        // So is what is written.
        backend.write(&from, &[1e6; 72]);
        assert_eq!(backend.overflowed().await.unwrap(), noticed);
    }
}

/// Rectangles are copied from place to place, and put into a picture of bytes.
pub async fn rectangles<R: ImageRig>() {
    let mut backend = R::make().await;
    let mut random = Random::new(21);
    let (height, width) = (11usize, 70usize);
    let source = backend.image(shape(height, width, 3)).unwrap();
    let values = backend.floats(&mut random, height * width * 3);
    backend.write(&source, &values);
    let whole = backend.pixels(&source, 0.5, 0.5).unwrap();
    let joined = backend.blank(height as u32, width as u32).unwrap();
    let copied = backend.image(shape(height + 1, width + 2, 3)).unwrap();
    backend.write(&copied, &vec![7.0; (height + 1) * (width + 2) * 3]);
    let tile = backend.image(shape(height, 40, 3)).unwrap();
    // Two tiles, of which the right one's first ten columns are the left one's too.
    for (left, from, columns) in [(0, 0, 40), (30, 10, 30)] {
        let size = (height as u32, 40);
        backend.copy(&source, Rect { from: (0, left), to: (0, 0), size }, &tile).unwrap();
        let rect = Rect { from: (0, from), to: (0, left + from), size: (height as u32, columns) };
        backend.place(&tile, (0.5, 0.5), rect, &joined).unwrap();
        let lower = Rect { to: (1, left + from + 1), ..rect };
        backend.copy(&tile, lower, &copied).unwrap();
    }
    let plan = backend.finish();
    backend.run(&plan, &|| false).await.unwrap();
    let (whole, joined_bytes) =
        (backend.read_pixels(&whole).await.unwrap(), backend.read_pixels(&joined).await.unwrap());
    assert_eq!(whole.len(), height * width * 4);
    assert_eq!(whole, joined_bytes);
    let got = backend.read(&copied).await.unwrap();
    for (y, line) in got.chunks_exact((width + 2) * 3).enumerate() {
        for (x, pixel) in line.chunks_exact(3).enumerate() {
            let inside = y > 0 && (1..=width).contains(&x);
            let at = (y.saturating_sub(1) * width + x.saturating_sub(1)) * 3;
            assert_eq!(pixel, if inside { &values[at..at + 3] } else { &[7.0; 3] }, "{y} {x}");
        }
    }
    let fits = Rect { from: (0, 0), to: (0, 0), size: (2, 5) };
    for rect in [
        Rect { from: (10, 0), ..fits },
        Rect { from: (0, 36), ..fits },
        Rect { to: (10, 0), ..fits },
        Rect { to: (0, 66), ..fits },
        Rect { from: (u32::MAX, 0), ..fits },
        Rect { size: (0, 5), ..fits },
    ] {
        let refused = backend.place(&tile, (1.0, 0.0), rect, &joined);
        assert_eq!(refused.unwrap_err().code(), "shape-mismatch", "{rect:?}");
        let refused = backend.copy(&tile, rect, &source);
        assert_eq!(refused.unwrap_err().code(), "shape-mismatch", "{rect:?}");
    }
    let wide = backend.image(shape(11, 70, 4)).unwrap();
    assert_eq!(backend.copy(&wide, fits, &source).unwrap_err().code(), "shape-mismatch");
    assert_eq!(backend.place(&wide, (1.0, 0.0), fits, &joined).unwrap_err().code(), "shape-mismatch");
}
