//! AutoencoderKL, the VAE of Stable Diffusion and FLUX, as diffusers names its tensors. Rombach et al.,
//! "High-Resolution Image Synthesis with Latent Diffusion Models", 2022; diffusers'
//! `models/autoencoders/autoencoder_kl.py` and `vae.py`.
//!
//! Depth, widths and latent channels are those of the tensors. A config only has to agree with them. A residual block is
//! x + conv(silu(norm(conv(silu(norm(x)))))), with a 1 × 1 convolution of x where the width changes; the middle
//! has one head of attention over all positions.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::graph::{Activation, Conv, GroupNorm, ImageBackend, ImageShape, check_attention};

use super::config::ImageConfig;
use super::names::Named;
use super::parts::{Filter, Parts, Want, conv, run};
use super::tape::Tape;
use super::{COLOURS, Direction, no_layers};

/// diffusers' `eps` of all norms here.
const EPS: f32 = 1e-6;
/// diffusers' default for `norm_num_groups`.
const GROUPS: u32 = 32;

struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
    groups: u32,
}

struct Resnet<W> {
    norm1: Norm,
    conv1: Filter<W>,
    norm2: Norm,
    conv2: Filter<W>,
    shortcut: Option<Filter<W>>,
}

struct Attention<W> {
    norm: Norm,
    q: Filter<W>,
    k: Filter<W>,
    v: Filter<W>,
    out: Filter<W>,
}

/// Two residual blocks that keep the width, and one head of attention between them.
struct Middle<W> {
    resnets: [Resnet<W>; 2],
    attention: Option<Attention<W>>,
}

/// Residual blocks, then a change of size.
struct Stage<W> {
    resnets: Vec<Resnet<W>>,
    resize: Option<Filter<W>>,
}

/// A layer that records one picture from another.
enum Layer<'a, W> {
    First,
    Resnet(&'a Resnet<W>),
    Attention(&'a Attention<W>),
    Enlarge(&'a Filter<W>),
    Shrink(&'a Filter<W>),
    Last,
}

/// A decoder or an encoder.
pub(super) struct AutoencoderKl<W> {
    direction: Direction,
    /// 1 × 1, on the latents' side: first in a decoder, last in an encoder.
    quant: Option<Filter<W>>,
    conv_in: Filter<W>,
    /// Of the encoder, in front of the middle; of the decoder, behind it.
    stages: Vec<Stage<W>>,
    middle: Middle<W>,
    norm_out: Norm,
    conv_out: Filter<W>,
    pub inputs: u32,
    pub outputs: u32,
    pub scale: u32,
}

impl<W> AutoencoderKl<W> {
    /// Whether the file has tensors of this direction of it.
    pub fn is_in(named: &Named, direction: Direction) -> bool {
        let side = side(direction);
        ["conv_in.", "conv_out.", "conv_norm_out.", "mid_block.", "up_blocks.", "down_blocks."]
            .iter()
            .any(|layer| named.any(&format!("{side}.{layer}")))
    }

    /// Puts it together, checks every tensor's shape against the layers beside it, and the config against the
    /// tensors.
    ///
    /// # Errors
    /// Missing or misshapen tensors; a config that contradicts them.
    pub fn new(parts: &mut Parts<'_, W>, direction: Direction, config: &ImageConfig) -> Result<Self> {
        let side = side(direction);
        let (blocks, quant_name, resizer) = match direction {
            Direction::Decoder => ("up_blocks", "post_quant_conv", "upsamplers"),
            Direction::Encoder => ("down_blocks", "quant_conv", "downsamplers"),
        };
        let mut reader = Reader { parts, groups: config.norm_num_groups };
        let quant_is_in = reader.parts.has(quant_name);
        let conv_in = format!("{side}.conv_in");
        let (mut width, mut quant) = (COLOURS, None);
        if direction == Direction::Decoder {
            width = reader.parts.inputs(if quant_is_in { quant_name } else { &conv_in })?;
            if quant_is_in {
                let filter = reader.filter(quant_name, width, None, 1)?;
                width = filter.outputs;
                quant = Some(filter);
            }
        }
        let conv_in = reader.filter(&conv_in, width, None, 3)?;
        width = conv_in.outputs;
        let prefix = format!("{side}.{blocks}.");
        let count = reader.parts.named().count(&prefix);
        // All stages have as many residual blocks.
        let layers = (0..count).map(|i| reader.parts.named().count(&format!("{prefix}{i}.resnets."))).max();
        let layers = layers
            .filter(|layers| *layers > 0)
            .ok_or_else(|| Error::MissingTensor { tensor: format!("{prefix}0.resnets.0.conv1.weight") })?;
        let mut middle = None;
        let has_attention = reader.parts.named().any(&format!("{side}.mid_block.attentions.0."));
        if direction == Direction::Decoder {
            middle = Some(reader.middle(side, width, has_attention)?);
        }
        let mut stages = Vec::new();
        let mut scale: u32 = 1;
        for i in 0..count {
            let name = format!("{prefix}{i}");
            let mut resnets = Vec::new();
            for j in 0..layers {
                let resnet = reader.resnet(&format!("{name}.resnets.{j}"), width)?;
                width = resnet.conv2.outputs;
                resnets.push(resnet);
            }
            // All stages but the last change the size.
            let resize = if i + 1 < count {
                scale = scale.saturating_mul(2);
                Some(reader.filter(&format!("{name}.{resizer}.0.conv"), width, Some(width), 3)?)
            } else {
                None
            };
            stages.push(Stage { resnets, resize });
        }
        let middle = match middle {
            Some(middle) => middle,
            None => reader.middle(side, width, has_attention)?,
        };
        let norm_out = reader.norm(&format!("{side}.conv_norm_out"), width)?;
        let colours = (direction == Direction::Decoder).then_some(COLOURS);
        let conv_out = reader.filter(&format!("{side}.conv_out"), width, colours, 3)?;
        if direction == Direction::Encoder && quant_is_in {
            quant = Some(reader.filter(quant_name, conv_out.outputs, None, 1)?);
        }
        let inputs = match (&quant, direction) {
            (Some(quant), Direction::Decoder) => quant.inputs,
            _ => conv_in.inputs,
        };
        let outputs = match (&quant, direction) {
            (Some(quant), Direction::Encoder) => quant.outputs,
            _ => conv_out.outputs,
        };
        if direction == Direction::Encoder && !outputs.is_multiple_of(2) {
            return Err(Error::UnsupportedModel {
                what: format!("an encoder of {outputs} channels, which are not a mean and a variance each"),
            });
        }
        let network = AutoencoderKl {
            direction,
            quant,
            conv_in,
            stages,
            middle,
            norm_out,
            conv_out,
            inputs,
            outputs,
            scale,
        };
        network.check(config)?;
        Ok(network)
    }

    /// Whether the config says what the tensors do.
    fn check(&self, config: &ImageConfig) -> Result<()> {
        config.only("act_fn", &["silu", "swish"])?;
        config.agrees("patch_size", &[2, 2])?;
        let widths: Vec<u32> =
            self.stages.iter().filter_map(|stage| Some(stage.resnets.last()?.conv2.outputs)).collect();
        let count = self.stages.len();
        let (layers, attention) =
            (self.stages.first().map_or(0, |stage| stage.resnets.len()), self.middle.attention.is_some());
        config.agrees("mid_block_add_attention", &attention)?;
        match self.direction {
            Direction::Decoder => {
                config.all("up_block_types", "UpDecoderBlock2D", count)?;
                config.agrees("latent_channels", &self.inputs)?;
                config.agrees("out_channels", &self.conv_out.outputs)?;
                config.agrees("use_post_quant_conv", &self.quant.is_some())?;
                config.agrees("layers_per_block", &layers.saturating_sub(1))?;
                let widths: Vec<u32> = widths.into_iter().rev().collect();
                let own = "decoder_block_out_channels";
                config.agrees(if config.has(own) { own } else { "block_out_channels" }, &widths)
            }
            Direction::Encoder => {
                config.all("down_block_types", "DownEncoderBlock2D", count)?;
                config.agrees("latent_channels", &(self.outputs / 2))?;
                config.agrees("in_channels", &self.conv_in.inputs)?;
                config.agrees("use_quant_conv", &self.quant.is_some())?;
                config.agrees("layers_per_block", &layers)?;
                config.agrees("block_out_channels", &widths)
            }
        }
    }

    /// The layers that a model may lack: the key of the config that tells, whether they are there, and the name of one.
    pub fn options(&self) -> [(&'static str, bool, String); 2] {
        let (key, quant) = match self.direction {
            Direction::Decoder => ("use_post_quant_conv", "post_quant_conv"),
            Direction::Encoder => ("use_quant_conv", "quant_conv"),
        };
        let attention = format!("{}.mid_block.attentions.0.to_q", side(self.direction));
        [
            ("mid_block_add_attention", self.middle.attention.is_some(), attention),
            (key, self.quant.is_some(), quant.to_owned()),
        ]
    }

    /// The layers in their order.
    fn layers(&self) -> Vec<Layer<'_, W>> {
        let [first, second] = &self.middle.resnets;
        let attention = self.middle.attention.as_ref().map(Layer::Attention);
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
    pub fn forward<B: ImageBackend<Weights = W>>(
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
    fn first<B: ImageBackend<Weights = W>>(
        &self,
        tape: &mut Tape<'_, B>,
        input: &B::Image,
    ) -> Result<B::Image> {
        let quantized = match (&self.quant, self.direction) {
            (Some(quant), Direction::Decoder) => Some(run(tape, quant, conv(quant, input))?),
            _ => None,
        };
        run(tape, &self.conv_in, conv(&self.conv_in, quantized.as_ref().unwrap_or(input)))
    }

    /// Norm, activation and the last convolution; in an encoder the quant convolution behind it.
    fn last<B: ImageBackend<Weights = W>>(&self, tape: &mut Tape<'_, B>, x: &B::Image) -> Result<B::Image> {
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
fn shrink<B: ImageBackend>(
    tape: &mut Tape<'_, B>,
    filter: &Filter<B::Weights>,
    x: &B::Image,
) -> Result<B::Image> {
    let ImageShape { height, width, .. } = B::shape(x);
    tape.conv(filter, Conv { stride: 2, padding: 0, ..conv(filter, x) }, (height / 2, width / 2))
}

/// Takes layers out of a file's tensors.
struct Reader<'a, 'p, W> {
    parts: &'a mut Parts<'p, W>,
    /// Of all norms, where a config says so.
    groups: Option<u32>,
}

impl<W> Reader<'_, '_, W> {
    /// A convolution; all in this family have a bias.
    fn filter(&mut self, name: &str, inputs: u32, outputs: Option<u32>, kernel: u32) -> Result<Filter<W>> {
        self.parts.filter(name, Want { inputs, outputs, kernel, bias: true })
    }

    fn norm(&mut self, name: &str, channels: u32) -> Result<Norm> {
        let groups = self.groups.unwrap_or(GROUPS);
        if !channels.is_multiple_of(groups) {
            return Err(match self.groups {
                Some(_) => Error::Malformed {
                    what: format!(
                        "config: norm_num_groups = {groups} does not divide the {channels} channels of {name}"
                    ),
                },
                None => Error::MissingMetadata {
                    key: "norm_num_groups".to_owned(),
                    expected: "known: the groups of the norms are not in the tensors, and 32, the usual number, do \
                               not divide their channels; give the model's config.json too",
                },
            });
        }
        let mut vector = |part| self.parts.values(&format!("{name}.{part}"), &[channels as usize]);
        Ok(Norm { gain: vector("weight")?, bias: vector("bias")?, groups })
    }

    fn resnet(&mut self, name: &str, inputs: u32) -> Result<Resnet<W>> {
        let norm1 = self.norm(&format!("{name}.norm1"), inputs)?;
        let conv1 = self.filter(&format!("{name}.conv1"), inputs, None, 3)?;
        let outputs = conv1.outputs;
        let shortcut = if outputs == inputs {
            None
        } else {
            Some(self.filter(&format!("{name}.conv_shortcut"), inputs, Some(outputs), 1)?)
        };
        Ok(Resnet {
            norm1,
            conv1,
            norm2: self.norm(&format!("{name}.norm2"), outputs)?,
            conv2: self.filter(&format!("{name}.conv2"), outputs, Some(outputs), 3)?,
            shortcut,
        })
    }

    fn middle(&mut self, side: &str, width: u32, has_attention: bool) -> Result<Middle<W>> {
        let first = self.resnet(&format!("{side}.mid_block.resnets.0"), width)?;
        let width = first.conv2.outputs;
        let attention = if has_attention {
            Some(self.attention(&format!("{side}.mid_block.attentions.0"), width)?)
        } else {
            None
        };
        let second = self.resnet(&format!("{side}.mid_block.resnets.1"), width)?;
        Ok(Middle { resnets: [first, second], attention })
    }

    fn attention(&mut self, name: &str, width: u32) -> Result<Attention<W>> {
        check_attention([ImageShape { height: 1, width: 1, channels: width }; 4])?;
        let norm = self.norm(&format!("{name}.group_norm"), width)?;
        let mut filter = |part| self.filter(&format!("{name}.{part}"), width, Some(width), 1);
        Ok(Attention {
            norm,
            q: filter("to_q")?,
            k: filter("to_k")?,
            v: filter("to_v")?,
            out: filter("to_out.0")?,
        })
    }
}

impl Norm {
    fn record<B: ImageBackend>(&self, tape: &mut Tape<'_, B>, x: &B::Image) -> Result<B::Norm> {
        tape.norm(x, &GroupNorm { groups: self.groups, eps: EPS, gain: &self.gain, bias: &self.bias })
    }
}

impl<W> Resnet<W> {
    fn forward<B: ImageBackend<Weights = W>>(
        &self,
        tape: &mut Tape<'_, B>,
        x: &B::Image,
    ) -> Result<B::Image> {
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

impl<W> Attention<W> {
    /// x + out(attention of norm(x)).
    fn forward<B: ImageBackend<Weights = W>>(
        &self,
        tape: &mut Tape<'_, B>,
        x: &B::Image,
    ) -> Result<B::Image> {
        let norm = self.norm.record(tape, x)?;
        let normed = |filter| Conv { norm: Some(&norm), ..conv(filter, x) };
        let q = run(tape, &self.q, normed(&self.q))?;
        let k = run(tape, &self.k, normed(&self.k))?;
        let v = run(tape, &self.v, normed(&self.v))?;
        let mixed = tape.attention(&q, &k, &v)?;
        run(tape, &self.out, Conv { residual: Some(x), ..conv(&self.out, &mixed) })
    }
}
