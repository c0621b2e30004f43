//! The TAESD family: tiny autoencoders for the latents of large image models. O. Boer Bohan, "TAESD",
//! 2023, github.com/madebyollin/taesd; diffusers' `AutoencoderTiny` is the same network under other names.
//!
//! A network is a list of layers, `layer.N.…`, whose numbers leave gaps for what has no weights, the same gaps in each
//! stage. The
//! widths, the number of stages and the number of latent channels are those of the tensors:
//!
//! - decoder: clamp, convolution, ReLU; then blocks, and for each stage an enlargement with a convolution
//!   without bias; at the end a convolution to three channels
//! - encoder: convolution; then blocks, and for each stage a convolution of stride 2 without bias; at the end
//!   a convolution to the latent channels
//!
//! A block is relu(conv(relu(conv(relu(conv(x))))) + skip(x)). In TAEF2 some blocks first add
//! conv(relu(group_norm(conv(x)))) to x.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::graph::{Activation, Conv, GroupNorm, ImageBackend};

use super::config::ImageConfig;
use super::names::Named;
use super::parts::{Filter, Parts, Want, conv, run};
use super::tape::Tape;
use super::{COLOURS, Direction, no_layers};

/// PyTorch's default for `GroupNorm`.
const EPS: f32 = 1e-5;
/// Groups of the pooling branch's norm.
const POOL_GROUPS: u32 = 4;

/// The branch that TAEF2 adds: 1 × 1 convolution, norm, ReLU, 1 × 1 convolution.
struct Pool<W> {
    widen: Filter<W>,
    gain: Vec<f32>,
    bias: Vec<f32>,
    narrow: Filter<W>,
}

struct Block<W> {
    conv: [Filter<W>; 3],
    skip: Option<Filter<W>>,
    pool: Option<Pool<W>>,
}

enum Layer<W> {
    Block(Block<W>),
    Conv { filter: Filter<W>, before: Activation, upsample: bool, stride: u32, after: Activation },
}

/// A decoder or an encoder.
pub struct Taesd<W> {
    layers: Vec<Layer<W>>,
    /// Channels that go in.
    pub inputs: u32,
    /// Channels that come out.
    pub outputs: u32,
    /// Pixels for each latent position and side: 2 to the number of stages.
    pub scale: u32,
}

/// How the names of a network's layers begin, and the number of the first: the original's one-file names, diffusers',
/// and those of a file with one network only, which have no prefix.
fn prefixes(direction: Direction) -> [(&'static str, usize); 3] {
    match direction {
        // Layer 0 of the original is the clamp, which has no weights. diffusers does not count it.
        Direction::Decoder => [("decoder.layers.", 0), ("decoder.", 1), ("", 1)],
        Direction::Encoder => [("encoder.layers.", 0), ("encoder.", 0), ("", 0)],
    }
}

impl<W> Taesd<W> {
    /// How the names of this direction's layers begin and the number of the first, if the file has any. In a file
    /// without prefixes the end with three channels tells the direction.
    #[must_use]
    pub fn find(named: &Named, direction: Direction) -> Option<(&'static str, usize)> {
        prefixes(direction).into_iter().find(|(prefix, _)| {
            let count = named.count(prefix);
            let blocks = (0..count).any(|n| named.any(&format!("{prefix}{n}.conv.0.")));
            let channels = |n: usize, dimension: usize| {
                let tensor = named.find(&format!("{prefix}{n}.weight"));
                tensor.and_then(|tensor| tensor.shape.get(dimension)).copied()
            };
            let (end, dimension) = match direction {
                Direction::Decoder => (count.saturating_sub(1), 0),
                Direction::Encoder => (0, 1),
            };
            blocks && (!prefix.is_empty() || channels(end, dimension) == Some(COLOURS as usize))
        })
    }

    /// Puts the network together whose layers' names begin with `prefix`, from layer `first` on, and checks the
    /// config against it.
    ///
    /// # Errors
    /// Missing or misshapen tensors; a config that contradicts them.
    pub fn new(
        parts: &mut Parts<'_, W>,
        (prefix, first): (&str, usize),
        direction: Direction,
        config: &ImageConfig,
    ) -> Result<Self> {
        let mut reader = Reader {
            parts,
            prefix,
            layers: Vec::new(),
            widths: Vec::new(),
            blocks: Vec::new(),
            width: 0,
            gap: None,
        };
        match direction {
            Direction::Decoder => reader.decoder(first)?,
            Direction::Encoder => reader.encoder(first)?,
        }
        let Reader { layers, widths, blocks, width: outputs, .. } = reader;
        let inputs = match layers.first() {
            Some(Layer::Conv { filter, .. }) => filter.inputs,
            _ => 0,
        };
        let resizes = |layer: &&Layer<W>| matches!(layer, Layer::Conv { upsample, stride, .. } if *upsample || *stride == 2);
        let scale = layers.iter().filter(resizes).fold(1u32, |scale, _| scale.saturating_mul(2));
        config.only("act_fn", &["relu"])?;
        config.only("upsample_fn", &["nearest"])?;
        config.agrees("upsampling_scaling_factor", &2)?;
        match direction {
            Direction::Decoder => {
                config.agrees("latent_channels", &inputs)?;
                config.agrees("out_channels", &outputs)?;
                config.agrees("decoder_block_out_channels", &widths)?;
                config.agrees("block_out_channels", &widths)?;
                config.agrees("num_decoder_blocks", &blocks)?;
            }
            Direction::Encoder => {
                config.agrees("in_channels", &inputs)?;
                config.agrees("latent_channels", &outputs)?;
                config.agrees("encoder_block_out_channels", &widths)?;
                config.agrees("num_encoder_blocks", &blocks)?;
            }
        }
        Ok(Taesd { layers, inputs, outputs, scale })
    }

    /// Number of the layers.
    pub fn count(&self) -> usize {
        self.layers.len()
    }

    /// Records some layers for one size of input.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward<B: ImageBackend<Weights = W>>(
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

/// Takes the layers out of a file's tensors, one after the other.
struct Reader<'a, 'p, W> {
    parts: &'a mut Parts<'p, W>,
    prefix: &'a str,
    layers: Vec<Layer<W>>,
    /// Channels of each stage.
    widths: Vec<u32>,
    /// Blocks of each stage.
    blocks: Vec<usize>,
    /// Channels behind the last layer so far.
    width: u32,
    /// Numbers that are left out between the blocks of the first stage and its convolution, and the first of them.
    gap: Option<(usize, usize)>,
}

impl<W> Reader<'_, '_, W> {
    fn name(&self, number: usize) -> String {
        format!("{}{number}", self.prefix)
    }

    fn has_conv(&self, number: usize) -> bool {
        self.parts.has(&self.name(number))
    }

    fn has_bias(&self, number: usize) -> bool {
        self.parts.named().find(&format!("{}.bias", self.name(number))).is_some()
    }

    /// Blocks from layer `number` on; the number of the layer behind them.
    fn blocks(&mut self, mut number: usize) -> Result<usize> {
        let first = number;
        while self.parts.named().any(&format!("{}.conv.0.", self.name(number))) {
            let block = Block::new(self.parts, &self.name(number), self.width)?;
            self.width = block.conv[2].outputs;
            self.layers.push(Layer::Block(block));
            number += 1;
        }
        self.blocks.push(number - first);
        self.widths.push(self.width);
        Ok(number)
    }

    /// A 3 × 3 convolution.
    fn conv(&mut self, number: usize, outputs: Option<u32>, bias: bool, step: Step) -> Result<()> {
        let want = Want { inputs: self.width, outputs, kernel: 3, bias };
        let filter = self.parts.filter(&self.name(number), want)?;
        self.width = filter.outputs;
        let Step { before, upsample, stride, after } = step;
        self.layers.push(Layer::Conv { filter, before, upsample, stride, after });
        Ok(())
    }

    fn missing(&self, number: usize, part: &str) -> Error {
        Error::MissingTensor { tensor: format!("{}.{part}", self.name(number)) }
    }

    /// The number of the first layer from `number` on that has tensors.
    fn next(&self, number: usize) -> Option<usize> {
        let named = self.parts.named();
        (number..named.count(self.prefix)).find(|&number| named.any(&format!("{}.", self.name(number))))
    }

    /// The number of the first convolution; `usual` where nothing is missing.
    fn first(&self, usual: usize) -> Result<usize> {
        let first = self.next(0).filter(|&first| self.has_conv(first));
        first.ok_or_else(|| self.missing(usual, "weight"))
    }

    /// The number of the convolution behind the blocks, of which the last has the number in front of `number`.
    fn behind(&self, number: usize) -> Result<usize> {
        match self.next(number) {
            Some(next) if self.has_conv(next) => Ok(next),
            // Blocks follow each other without a gap, so it is not theirs.
            Some(next) if next > number + 1 => Err(self.missing(next - 1, "weight")),
            Some(_) => Err(self.missing(number, "conv.0.weight")),
            None => Err(self.missing(number, "weight")),
        }
    }

    /// Checks that as many numbers are left out between blocks and convolution as in the other stages: if they are not,
    /// a block is missing.
    fn even(&mut self, number: usize, next: usize) -> Result<()> {
        let gap = next - number;
        let (other, before) = *self.gap.get_or_insert((gap, number));
        if gap == other {
            return Ok(());
        }
        Err(self.missing(if gap > other { number } else { before }, "conv.0.weight"))
    }

    /// All layers of a decoder.
    fn decoder(&mut self, usual: usize) -> Result<()> {
        let first = self.first(usual)?;
        self.width = self.parts.inputs(&self.name(first))?;
        let start = Step { before: Activation::Clamp, after: Activation::Relu, ..PLAIN };
        self.conv(first, None, true, start)?;
        // A ReLU has no weights, but a number.
        let mut number = first + 2;
        loop {
            number = self.blocks(number)?;
            let next = self.behind(number)?;
            if next == number {
                return self.conv(next, Some(COLOURS), true, PLAIN);
            }
            if self.has_bias(next) {
                return Err(self.missing(number, "conv.0.weight"));
            }
            // The enlargement has no weights, but a number.
            self.even(number, next)?;
            self.conv(next, None, false, Step { upsample: true, ..PLAIN })?;
            number = next + 1;
        }
    }

    /// All layers of an encoder.
    fn encoder(&mut self, usual: usize) -> Result<()> {
        let first = self.first(usual)?;
        self.width = COLOURS;
        let mut number = first + 1;
        // TAESANA's begins with two convolutions that halve the sides, each with a bias and a ReLU.
        if self.next(first + 1) == Some(first + 2) && self.has_conv(first + 2) && self.has_bias(first + 2) {
            let halving = Step { stride: 2, after: Activation::Relu, ..PLAIN };
            self.conv(first, None, true, halving)?;
            self.conv(first + 2, None, true, halving)?;
            number = first + 4;
        } else {
            self.conv(first, None, true, PLAIN)?;
        }
        loop {
            number = self.blocks(number)?;
            let next = self.behind(number)?;
            self.even(number, next)?;
            if self.has_bias(next) {
                return self.conv(next, None, true, PLAIN);
            }
            self.conv(next, None, false, Step { stride: 2, ..PLAIN })?;
            number = next + 1;
        }
    }
}

/// What a convolution does beside its sums.
#[derive(Clone, Copy)]
struct Step {
    before: Activation,
    upsample: bool,
    stride: u32,
    after: Activation,
}

const PLAIN: Step = Step { before: Activation::None, upsample: false, stride: 1, after: Activation::None };

impl<W> Block<W> {
    fn new(parts: &mut Parts<'_, W>, name: &str, inputs: u32) -> Result<Self> {
        let mut filter = |i: usize, inputs, outputs| {
            parts.filter(&format!("{name}.conv.{i}"), Want { inputs, outputs, kernel: 3, bias: true })
        };
        let first = filter(0, inputs, None)?;
        let width = first.outputs;
        let conv = [first, filter(2, width, Some(width))?, filter(4, width, Some(width))?];
        let mut thin = |part, inputs, outputs| {
            parts.filter(&format!("{name}.{part}"), Want { inputs, outputs, kernel: 1, bias: false })
        };
        let skip = if width == inputs { None } else { Some(thin("skip", inputs, Some(width))?) };
        let pool = if parts.named().any(&format!("{name}.pool.")) {
            Some(Pool::new(parts, &format!("{name}.pool"), inputs)?)
        } else {
            None
        };
        Ok(Block { conv, skip, pool })
    }

    fn forward<B: ImageBackend<Weights = W>>(
        &self,
        tape: &mut Tape<'_, B>,
        input: &B::Image,
    ) -> Result<B::Image> {
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

impl<W> Pool<W> {
    fn new(parts: &mut Parts<'_, W>, name: &str, inputs: u32) -> Result<Self> {
        let mut filter = |i: usize, inputs, outputs| {
            parts.filter(&format!("{name}.{i}"), Want { inputs, outputs, kernel: 1, bias: false })
        };
        let widen = filter(0, inputs, None)?;
        let width = widen.outputs;
        if !width.is_multiple_of(POOL_GROUPS) {
            return Err(Error::UnsupportedModel {
                what: format!("{name}: {width} channels, which {POOL_GROUPS} groups do not divide"),
            });
        }
        let narrow = filter(3, width, Some(inputs))?;
        let mut vector = |part| parts.values(&format!("{name}.1.{part}"), &[width as usize]);
        Ok(Pool { widen, gain: vector("weight")?, bias: vector("bias")?, narrow })
    }

    /// x + narrow(relu(norm(widen(x)))).
    fn forward<B: ImageBackend<Weights = W>>(
        &self,
        tape: &mut Tape<'_, B>,
        x: &B::Image,
    ) -> Result<B::Image> {
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
