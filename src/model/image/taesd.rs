//! The TAESD family: tiny autoencoders for the latents of large image models. O. Boer Bohan, "TAESD",
//! 2023, github.com/madebyollin/taesd; diffusers' `AutoencoderTiny` is the same network under other names.
//!
//! A network is a list of layers, `layer.N.…`, whose numbers leave gaps for what has no weights. The
//! widths, the number of stages and the number of latent channels are those of the tensors:
//!
//! - decoder: clamp, convolution, ReLU; then blocks, and for each stage an enlargement with a convolution
//!   without bias; at the end a convolution to three channels
//! - encoder: convolution; then blocks, and for each stage a convolution of stride 2 without bias; at the end
//!   a convolution to the latent channels
//!
//! A block is relu(conv(relu(conv(relu(conv(x))))) + skip(x)). In TAEF2 some blocks first add
//! conv(relu(group_norm(conv(x)))) to x.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::ops::{Activation, Conv, GroupNorm, ImageBackend};
use crate::weights::FloatTensors;

use super::parts::{Filter, Parts, conv, run};
use super::tape::Tape;
use super::{Direction, no_layers};

/// PyTorch's default for `GroupNorm`.
const EPS: f32 = 1e-5;
/// Groups of the pooling branch's norm.
const POOL_GROUPS: u32 = 4;
/// More layers than any of the family has.
const MAX_LAYER: usize = 1000;

/// The branch that TAEF2 adds: 1 × 1 convolution, norm, ReLU, 1 × 1 convolution.
struct Pool<B: ImageBackend> {
    widen: Filter<B>,
    gain: Vec<f32>,
    bias: Vec<f32>,
    narrow: Filter<B>,
}

struct Block<B: ImageBackend> {
    conv: [Filter<B>; 3],
    skip: Option<Filter<B>>,
    pool: Option<Pool<B>>,
}

enum Layer<B: ImageBackend> {
    Block(Block<B>),
    Conv { filter: Filter<B>, before: Activation, upsample: bool, stride: u32, after: Activation },
}

/// A decoder or an encoder.
pub struct Taesd<B: ImageBackend> {
    layers: Vec<Layer<B>>,
    /// Channels that go in.
    pub inputs: u32,
    /// Channels that come out.
    pub outputs: u32,
    /// Pixels for each latent position and side: 2 to the number of stages.
    pub scale: u32,
}

/// Tensor name prefixes of a network: the original's, and diffusers'.
fn prefixes(direction: Direction) -> [&'static str; 3] {
    match direction {
        Direction::Decoder => ["decoder.layers.", "decoder.", ""],
        Direction::Encoder => ["encoder.layers.", "encoder.", ""],
    }
}

impl<B: ImageBackend> Taesd<B> {
    /// Whether the file has a network of this family in this direction; its prefix. Files with one network
    /// have no prefix: there the side with three channels tells the direction.
    #[must_use]
    pub fn find(tensors: &FloatTensors, direction: Direction) -> Option<&'static str> {
        prefixes(direction).into_iter().find(|prefix| {
            let layers = numbered(tensors, prefix);
            let blocks =
                layers.values().filter(|parts| parts.iter().any(|p| p.starts_with("conv.0."))).count();
            let (end, dimension) = match direction {
                Direction::Decoder => (layers.keys().next_back(), 0),
                Direction::Encoder => (layers.keys().next(), 1),
            };
            let end = end.and_then(|n| tensors.find(&format!("{prefix}{n}.weight")));
            let colours = end.and_then(|tensor| tensor.shape.get(dimension)).copied();
            blocks > 0 && layers.len() > blocks + 1 && colours == Some(3)
        })
    }

    /// Puts the network together whose tensors begin with `prefix`.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub fn new(parts: &mut Parts<B>, prefix: &str, direction: Direction) -> Result<Self> {
        let numbers: Vec<usize> = numbered(parts.tensors(), prefix).into_keys().collect();
        let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else {
            return Err(Error::MissingTensor { tensor: format!("{prefix}0.weight") });
        };
        let mut layers = Vec::new();
        let mut scale: u32 = 1;
        let mut ends = (0, 0);
        let decoder = direction == Direction::Decoder;
        let has = |parts: &Parts<B>, name: &str| parts.tensors().find(name).is_some();
        let early = numbers.get(1).is_some_and(|second| {
            parts.has(&format!("{prefix}{second}")) && has(parts, &format!("{prefix}{second}.bias"))
        });
        for &number in &numbers {
            let name = format!("{prefix}{number}");
            if !parts.has(&name) {
                layers.push(Layer::Block(Block::new(parts, &name)?));
                continue;
            }
            let filter = parts.filter(&name)?;
            let between = number != first && number != last;
            let stage = between && !has(parts, &format!("{name}.bias"));
            // TAESANA's encoder begins with two convolutions that halve the sides, each with a bias and a ReLU.
            let shrinks = !decoder && early && layers.len() < 2;
            if stage || shrinks {
                scale = scale.saturating_mul(2);
            }
            if number == first {
                ends.0 = filter.inputs;
            }
            ends.1 = filter.outputs;
            let start = decoder && number == first;
            layers.push(Layer::Conv {
                filter,
                before: if start { Activation::Clamp } else { Activation::None },
                upsample: stage && decoder,
                stride: if shrinks || (stage && !decoder) { 2 } else { 1 },
                after: if start || shrinks { Activation::Relu } else { Activation::None },
            });
        }
        Ok(Taesd { layers, inputs: ends.0, outputs: ends.1, scale })
    }

    /// Number of the layers.
    pub fn count(&self) -> usize {
        self.layers.len()
    }

    /// Records some layers for one size of input.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(
        &self,
        tape: &mut Tape<'_, B>,
        input: &B::Image,
        layers: Range<usize>,
    ) -> Result<B::Image> {
        let mut x: Option<B::Image> = None;
        for layer in self.layers.get(layers).unwrap_or_default() {
            let from = x.as_ref().unwrap_or(input);
            let next = match layer {
                Layer::Block(block) => block.forward(tape, from)?,
                Layer::Conv { filter, before, upsample, stride, after } => {
                    let plain = conv(filter, from);
                    let (before, after) = (*before, *after);
                    run(tape, filter, Conv { before, upsample: *upsample, stride: *stride, after, ..plain })?
                }
            };
            x = Some(next);
        }
        x.ok_or_else(no_layers)
    }
}

impl<B: ImageBackend> Block<B> {
    fn new(parts: &mut Parts<B>, name: &str) -> Result<Self> {
        let mut filter = |i: usize| parts.filter(&format!("{name}.conv.{i}"));
        let conv = [filter(0)?, filter(2)?, filter(4)?];
        let skip = parts.optional(&format!("{name}.skip"))?;
        let pool = if parts.has(&format!("{name}.pool.0")) {
            Some(Pool {
                widen: parts.filter(&format!("{name}.pool.0"))?,
                gain: parts.vector(&format!("{name}.pool.1.weight"))?,
                bias: parts.vector(&format!("{name}.pool.1.bias"))?,
                narrow: parts.filter(&format!("{name}.pool.3"))?,
            })
        } else {
            None
        };
        Ok(Block { conv, skip, pool })
    }

    fn forward(&self, tape: &mut Tape<'_, B>, input: &B::Image) -> Result<B::Image> {
        let pooled = match &self.pool {
            Some(pool) => Some(pool.forward(tape, input)?),
            None => None,
        };
        let x = pooled.as_ref().unwrap_or(input);
        let skipped = match &self.skip {
            Some(skip) => Some(run(tape, skip, conv(skip, x))?),
            None => None,
        };
        let [a, b, c] = &self.conv;
        let first = run(tape, a, Conv { after: Activation::Relu, ..conv(a, x) })?;
        let second = run(tape, b, Conv { after: Activation::Relu, ..conv(b, &first) })?;
        // Its memory is free for the result.
        drop(first);
        let residual = Some(skipped.as_ref().unwrap_or(x));
        run(tape, c, Conv { after: Activation::Relu, residual, ..conv(c, &second) })
    }
}

impl<B: ImageBackend> Pool<B> {
    /// x + narrow(relu(norm(widen(x)))).
    fn forward(&self, tape: &mut Tape<'_, B>, x: &B::Image) -> Result<B::Image> {
        let wide = run(tape, &self.widen, conv(&self.widen, x))?;
        let norm = GroupNorm { groups: POOL_GROUPS, eps: EPS, gain: &self.gain, bias: &self.bias };
        let norm = tape.norm(&wide, &norm)?;
        let plain = conv(&self.narrow, &wide);
        run(
            tape,
            &self.narrow,
            Conv { norm: Some(&norm), before: Activation::Relu, residual: Some(x), ..plain },
        )
    }
}

/// The layers under a prefix: number → what follows it in the tensors' names.
fn numbered(tensors: &FloatTensors, prefix: &str) -> BTreeMap<usize, Vec<String>> {
    let mut layers: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for tensor in tensors.all() {
        let Some((number, rest)) = tensor.name.strip_prefix(prefix).and_then(|rest| rest.split_once('.'))
        else {
            continue;
        };
        if let Some(number) = number.parse().ok().filter(|n| *n <= MAX_LAYER) {
            layers.entry(number).or_default().push(rest.to_owned());
        }
    }
    layers
}
