//! AutoencoderKL, the VAE of Stable Diffusion and FLUX, as diffusers names its tensors. Rombach et al.,
//! "High-Resolution Image Synthesis with Latent Diffusion Models", 2022; diffusers'
//! `models/autoencoders/autoencoder_kl.py` and `vae.py`.
//!
//! Depth, widths and latent channels are those of the tensors. A residual block is
//! x + conv(silu(norm(conv(silu(norm(x)))))), with a 1 × 1 convolution of x where the width changes; the middle
//! has one head of attention over all positions.

use std::ops::Range;

use crate::error::Result;
use crate::ops::{Activation, Conv, GroupNorm, ImageBackend, ImageShape};
use crate::weights::FloatTensors;

use super::parts::{Filter, Parts, conv, run};
use super::tape::Tape;
use super::{Direction, no_layers};

/// diffusers' `eps` of all norms here.
const EPS: f32 = 1e-6;
/// diffusers' default for `norm_num_groups`.
const GROUPS: u32 = 32;
/// More blocks than any of the family has.
const MAX_BLOCKS: usize = 32;

struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
    groups: u32,
}

struct Resnet<B: ImageBackend> {
    norm1: Norm,
    conv1: Filter<B>,
    norm2: Norm,
    conv2: Filter<B>,
    shortcut: Option<Filter<B>>,
}

struct Attention<B: ImageBackend> {
    norm: Norm,
    q: Filter<B>,
    k: Filter<B>,
    v: Filter<B>,
    out: Filter<B>,
}

/// Residual blocks, then a change of size.
struct Stage<B: ImageBackend> {
    resnets: Vec<Resnet<B>>,
    resize: Option<Filter<B>>,
}

/// A layer that records one picture from another.
enum Layer<'a, B: ImageBackend> {
    First,
    Resnet(&'a Resnet<B>),
    Attention(&'a Attention<B>),
    Enlarge(&'a Filter<B>),
    Shrink(&'a Filter<B>),
    Last,
}

/// A decoder or an encoder.
pub(super) struct AutoencoderKl<B: ImageBackend> {
    direction: Direction,
    /// 1 × 1, on the latents' side: first in a decoder, last in an encoder.
    quant: Option<Filter<B>>,
    conv_in: Filter<B>,
    /// Of the encoder, in front of the middle; of the decoder, behind it.
    stages: Vec<Stage<B>>,
    middle: [Resnet<B>; 2],
    attention: Option<Attention<B>>,
    norm_out: Norm,
    conv_out: Filter<B>,
    pub inputs: u32,
    pub outputs: u32,
    pub scale: u32,
}

impl<B: ImageBackend> AutoencoderKl<B> {
    /// Whether the file has this direction of it.
    pub fn is_in(tensors: &FloatTensors, direction: Direction) -> bool {
        let side = side(direction);
        tensors.find(&format!("{side}.conv_in.weight")).is_some()
            && tensors.find(&format!("{side}.mid_block.resnets.0.conv1.weight")).is_some()
    }

    /// Puts it together. `norm_groups` of the config, where there is one.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub fn new(parts: &mut Parts<B>, direction: Direction, norm_groups: Option<u32>) -> Result<Self> {
        let side = side(direction);
        let (blocks, quant, resizer) = match direction {
            Direction::Decoder => ("up_blocks", "post_quant_conv", "upsamplers"),
            Direction::Encoder => ("down_blocks", "quant_conv", "downsamplers"),
        };
        let mut reader = Reader { parts, norm_groups };
        let conv_in = reader.parts.filter(&format!("{side}.conv_in"))?;
        let mut stages = Vec::new();
        let mut scale: u32 = 1;
        for i in 0..MAX_BLOCKS {
            let name = format!("{side}.{blocks}.{i}");
            if !reader.parts.has(&format!("{name}.resnets.0.conv1")) {
                break;
            }
            let mut resnets = Vec::new();
            for j in 0..MAX_BLOCKS {
                let name = format!("{name}.resnets.{j}");
                if !reader.parts.has(&format!("{name}.conv1")) {
                    break;
                }
                resnets.push(reader.resnet(&name)?);
            }
            let resize = reader.parts.optional(&format!("{name}.{resizer}.0.conv"))?;
            if resize.is_some() {
                scale = scale.saturating_mul(2);
            }
            stages.push(Stage { resnets, resize });
        }
        let middle = [
            reader.resnet(&format!("{side}.mid_block.resnets.0"))?,
            reader.resnet(&format!("{side}.mid_block.resnets.1"))?,
        ];
        let attention = reader.attention(&format!("{side}.mid_block.attentions.0"))?;
        let norm_out = reader.norm(&format!("{side}.conv_norm_out"))?;
        let conv_out = reader.parts.filter(&format!("{side}.conv_out"))?;
        let quant = reader.parts.optional(quant)?;
        let inputs = match (&quant, direction) {
            (Some(quant), Direction::Decoder) => quant.inputs,
            _ => conv_in.inputs,
        };
        let outputs = match (&quant, direction) {
            (Some(quant), Direction::Encoder) => quant.outputs,
            _ => conv_out.outputs,
        };
        let network = AutoencoderKl {
            direction,
            quant,
            conv_in,
            stages,
            middle,
            attention,
            norm_out,
            conv_out,
            inputs,
            outputs,
            scale,
        };
        Ok(network)
    }

    /// The layers in their order.
    fn layers(&self) -> Vec<Layer<'_, B>> {
        let [first, second] = &self.middle;
        let attention = self.attention.as_ref().map(Layer::Attention);
        let middle = [Layer::Resnet(first)].into_iter().chain(attention).chain([Layer::Resnet(second)]);
        let decoder = self.direction == Direction::Decoder;
        let stages = self.stages.iter().flat_map(|stage| {
            let resize = stage.resize.as_ref();
            let resize =
                resize.map(|filter| if decoder { Layer::Enlarge(filter) } else { Layer::Shrink(filter) });
            stage.resnets.iter().map(Layer::Resnet).chain(resize)
        });
        let mut layers = vec![Layer::First];
        if decoder {
            layers.extend(middle.chain(stages));
        } else {
            layers.extend(stages.chain(middle));
        }
        layers.push(Layer::Last);
        layers
    }

    /// Number of the layers.
    pub fn count(&self) -> usize {
        self.layers().len()
    }

    /// Records some layers for one size of input.
    pub fn forward(
        &self,
        tape: &mut Tape<'_, B>,
        input: &B::Image,
        layers: Range<usize>,
    ) -> Result<B::Image> {
        let all = self.layers();
        let mut x: Option<B::Image> = None;
        for layer in all.get(layers).unwrap_or_default() {
            let from = x.as_ref().unwrap_or(input);
            x = Some(match layer {
                Layer::First => self.first(tape, from)?,
                Layer::Resnet(resnet) => resnet.forward(tape, from)?,
                Layer::Attention(attention) => attention.forward(tape, from)?,
                // Nearest-neighbour enlargement and a convolution.
                Layer::Enlarge(filter) => run(tape, filter, Conv { upsample: true, ..conv(filter, from) })?,
                Layer::Shrink(filter) => shrink(tape, filter, from)?,
                Layer::Last => self.last(tape, from)?,
            });
        }
        x.ok_or_else(no_layers)
    }

    /// The first convolution; in a decoder behind the quant convolution.
    fn first(&self, tape: &mut Tape<'_, B>, input: &B::Image) -> Result<B::Image> {
        let quantized = match (&self.quant, self.direction) {
            (Some(quant), Direction::Decoder) => Some(run(tape, quant, conv(quant, input))?),
            _ => None,
        };
        run(tape, &self.conv_in, conv(&self.conv_in, quantized.as_ref().unwrap_or(input)))
    }

    /// Norm, activation and the last convolution; in an encoder the quant convolution behind it.
    fn last(&self, tape: &mut Tape<'_, B>, x: &B::Image) -> Result<B::Image> {
        let norm = self.norm_out.record(tape, x)?;
        let plain = conv(&self.conv_out, x);
        let x = run(tape, &self.conv_out, Conv { norm: Some(&norm), before: Activation::Silu, ..plain })?;
        match (&self.quant, self.direction) {
            (Some(quant), Direction::Encoder) => run(tape, quant, conv(quant, &x)),
            _ => Ok(x),
        }
    }
}

fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Decoder => "decoder",
        Direction::Encoder => "encoder",
    }
}

/// Stride 2 with zeros only below and on the right: `F.pad(x, (0, 1, 0, 1))`.
fn shrink<B: ImageBackend>(tape: &mut Tape<'_, B>, filter: &Filter<B>, x: &B::Image) -> Result<B::Image> {
    let ImageShape { height, width, .. } = B::shape(x);
    tape.conv(filter, Conv { stride: 2, padding: 0, ..conv(filter, x) }, (height / 2, width / 2))
}

/// Takes layers out of a file's tensors.
struct Reader<'a, B: ImageBackend> {
    parts: &'a mut Parts<B>,
    /// Of all norms, where a config says so.
    norm_groups: Option<u32>,
}

impl<B: ImageBackend> Reader<'_, B> {
    fn norm(&mut self, name: &str) -> Result<Norm> {
        let gain = self.parts.vector(&format!("{name}.weight"))?;
        let bias = self.parts.vector(&format!("{name}.bias"))?;
        let channels = gain.len() as u32;
        // Networks made smaller than diffusers' default say so in their config; without one, a group a channel.
        let groups =
            self.norm_groups.unwrap_or(if channels.is_multiple_of(GROUPS) { GROUPS } else { channels });
        Ok(Norm { gain, bias, groups })
    }

    fn resnet(&mut self, name: &str) -> Result<Resnet<B>> {
        Ok(Resnet {
            norm1: self.norm(&format!("{name}.norm1"))?,
            conv1: self.parts.filter(&format!("{name}.conv1"))?,
            norm2: self.norm(&format!("{name}.norm2"))?,
            conv2: self.parts.filter(&format!("{name}.conv2"))?,
            shortcut: self.parts.optional(&format!("{name}.conv_shortcut"))?,
        })
    }

    /// Under today's names, or those of diffusers before 0.18.
    fn attention(&mut self, name: &str) -> Result<Option<Attention<B>>> {
        let names = if self.parts.has(&format!("{name}.to_q")) {
            ["to_q", "to_k", "to_v", "to_out.0"]
        } else if self.parts.has(&format!("{name}.query")) {
            ["query", "key", "value", "proj_attn"]
        } else {
            return Ok(None);
        };
        let [q, k, v, out] = names.map(|part| format!("{name}.{part}"));
        Ok(Some(Attention {
            norm: self.norm(&format!("{name}.group_norm"))?,
            q: self.parts.filter(&q)?,
            k: self.parts.filter(&k)?,
            v: self.parts.filter(&v)?,
            out: self.parts.filter(&out)?,
        }))
    }
}

impl Norm {
    fn record<B: ImageBackend>(&self, tape: &mut Tape<'_, B>, x: &B::Image) -> Result<B::Norm> {
        tape.norm(x, &GroupNorm { groups: self.groups, eps: EPS, gain: &self.gain, bias: &self.bias })
    }
}

impl<B: ImageBackend> Resnet<B> {
    fn forward(&self, tape: &mut Tape<'_, B>, x: &B::Image) -> Result<B::Image> {
        let norm = self.norm1.record(tape, x)?;
        let y = run(
            tape,
            &self.conv1,
            Conv { norm: Some(&norm), before: Activation::Silu, ..conv(&self.conv1, x) },
        )?;
        let skipped = match &self.shortcut {
            Some(shortcut) => Some(run(tape, shortcut, conv(shortcut, x))?),
            None => None,
        };
        let norm = self.norm2.record(tape, &y)?;
        let residual = Some(skipped.as_ref().unwrap_or(x));
        let plain = conv(&self.conv2, &y);
        run(tape, &self.conv2, Conv { norm: Some(&norm), before: Activation::Silu, residual, ..plain })
    }
}

impl<B: ImageBackend> Attention<B> {
    /// x + out(attention of norm(x)).
    fn forward(&self, tape: &mut Tape<'_, B>, x: &B::Image) -> Result<B::Image> {
        let norm = self.norm.record(tape, x)?;
        let normed = |filter| Conv { norm: Some(&norm), ..conv(filter, x) };
        let q = run(tape, &self.q, normed(&self.q))?;
        let k = run(tape, &self.k, normed(&self.k))?;
        let v = run(tape, &self.v, normed(&self.v))?;
        let mixed = tape.attention(&q, &k, &v)?;
        run(tape, &self.out, Conv { residual: Some(x), ..conv(&self.out, &mixed) })
    }
}
