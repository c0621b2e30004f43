//! AutoencoderKL, the VAE of Stable Diffusion and FLUX, as diffusers names its tensors. Rombach et al.,
//! "High-Resolution Image Synthesis with Latent Diffusion Models", 2022; diffusers'
//! `models/autoencoders/autoencoder_kl.py` and `vae.py`.
//!
//! Depth, widths and latent channels are those of the tensors. A residual block is
//! x + conv(silu(norm(conv(silu(norm(x)))))), with a 1 × 1 convolution of x where the width changes; the middle
//! has one head of attention over all positions.

use crate::error::{Error, Result};
use crate::ops::{Activation, Conv, GroupNorm, ImageBackend, ImageShape};
use crate::weights::FloatTensors;

use super::parts::{Filter, Parts, conv, run};
use super::{Direction, Half, MeasuredNorm, Norms};

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

    /// Records the network, or half of it, for one size of input.
    pub fn forward(
        &self,
        backend: &mut B,
        input: &B::Image,
        half: Half,
        norms: &mut Norms<'_, B>,
    ) -> Result<B::Image> {
        if self.direction == Direction::Decoder {
            return self.decode(backend, input, half, norms);
        }
        self.encode(backend, input, half, norms)
    }

    /// An encoder, or half of it: the small one begins behind the last stage that halves the sides.
    fn encode(
        &self,
        backend: &mut B,
        input: &B::Image,
        half: Half,
        norms: &mut Norms<'_, B>,
    ) -> Result<B::Image> {
        let middle = self.stages.iter().rposition(|stage| stage.resize.is_some()).map_or(0, |last| last + 1);
        let stages = match half {
            Half::Both => &self.stages[..],
            Half::Large => &self.stages[..middle],
            Half::Small => &self.stages[middle..],
        };
        // `None` for the input, which somebody else keeps.
        let mut x: Option<B::Image> = None;
        if half != Half::Small {
            x = Some(run(backend, &self.conv_in, conv(&self.conv_in, input))?);
        }
        for stage in stages {
            for resnet in &stage.resnets {
                x = Some(resnet.forward(backend, x.as_ref().unwrap_or(input), norms)?);
            }
            if let Some(resize) = &stage.resize {
                x = Some(shrink(backend, resize, x.as_ref().unwrap_or(input))?);
            }
        }
        if half == Half::Large {
            return x.ok_or_else(|| Error::Internal { what: "half a network without layers".to_owned() });
        }
        let x = self.middle(backend, x.as_ref().unwrap_or(input), norms)?;
        let x = self.last(backend, &x, norms)?;
        match &self.quant {
            Some(quant) => run(backend, quant, conv(quant, &x)),
            None => Ok(x),
        }
    }

    /// A decoder up to its first enlargement: what works on as many positions as the latents have.
    fn small(&self, backend: &mut B, latents: &B::Image, norms: &mut Norms<'_, B>) -> Result<B::Image> {
        let quantized = match &self.quant {
            Some(quant) => Some(run(backend, quant, conv(quant, latents))?),
            None => None,
        };
        let mut x = run(backend, &self.conv_in, conv(&self.conv_in, quantized.as_ref().unwrap_or(latents)))?;
        drop(quantized);
        x = self.middle(backend, &x, norms)?;
        for resnet in self.stages.iter().take(1).flat_map(|stage| &stage.resnets) {
            x = resnet.forward(backend, &x, norms)?;
        }
        Ok(x)
    }

    /// A decoder, or half of it.
    fn decode(
        &self,
        backend: &mut B,
        input: &B::Image,
        half: Half,
        norms: &mut Norms<'_, B>,
    ) -> Result<B::Image> {
        // `None` for the input, which somebody else keeps.
        let mut x: Option<B::Image> = None;
        if half != Half::Large {
            let small = self.small(backend, input, norms)?;
            if half == Half::Small {
                return Ok(small);
            }
            x = Some(small);
        }
        for (i, stage) in self.stages.iter().enumerate() {
            let resnets = if i == 0 { &[] } else { &stage.resnets[..] };
            for resnet in resnets {
                x = Some(resnet.forward(backend, x.as_ref().unwrap_or(input), norms)?);
            }
            if let Some(resize) = &stage.resize {
                x = Some(enlarge(backend, resize, x.as_ref().unwrap_or(input))?);
            }
        }
        self.last(backend, x.as_ref().unwrap_or(input), norms)
    }

    /// Norm, activation and the last convolution.
    fn last(&self, backend: &mut B, x: &B::Image, norms: &mut Norms<'_, B>) -> Result<B::Image> {
        let norm = self.norm_out.record(backend, x, norms)?;
        let plain = conv(&self.conv_out, x);
        run(backend, &self.conv_out, Conv { norm: Some(&norm), before: Activation::Silu, ..plain })
    }

    fn middle(&self, backend: &mut B, x: &B::Image, norms: &mut Norms<'_, B>) -> Result<B::Image> {
        let [first, second] = &self.middle;
        let mut x = first.forward(backend, x, norms)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(backend, &x, norms)?;
        }
        second.forward(backend, &x, norms)
    }
}

fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Decoder => "decoder",
        Direction::Encoder => "encoder",
    }
}

/// Nearest-neighbour enlargement and a convolution.
fn enlarge<B: ImageBackend>(backend: &mut B, filter: &Filter<B>, x: &B::Image) -> Result<B::Image> {
    run(backend, filter, Conv { upsample: true, ..conv(filter, x) })
}

/// Stride 2 with zeros only below and on the right: `F.pad(x, (0, 1, 0, 1))`.
fn shrink<B: ImageBackend>(backend: &mut B, filter: &Filter<B>, x: &B::Image) -> Result<B::Image> {
    let shape = B::shape(x);
    let (height, width) = (shape.height / 2, shape.width / 2);
    let out = backend.image(ImageShape { height, width, channels: filter.outputs })?;
    backend.conv(&Conv { stride: 2, padding: 0, ..conv(filter, x) }, &out)?;
    Ok(out)
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
        #[allow(clippy::cast_possible_truncation)] // at most MAX_CHANNELS
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
    fn record<B: ImageBackend>(
        &self,
        backend: &mut B,
        x: &B::Image,
        norms: &mut Norms<'_, B>,
    ) -> Result<B::Norm> {
        let norm = GroupNorm { groups: self.groups, eps: EPS, gain: &self.gain, bias: &self.bias };
        let measured = backend.group_norm(x, &norm)?;
        let (gain, bias, groups) = (self.gain.clone(), self.bias.clone(), self.groups);
        Ok(norms.choose(MeasuredNorm { norm: measured, gain, bias, groups }))
    }
}

impl<B: ImageBackend> Resnet<B> {
    fn forward(&self, backend: &mut B, x: &B::Image, norms: &mut Norms<'_, B>) -> Result<B::Image> {
        let norm = self.norm1.record(backend, x, norms)?;
        let y = run(
            backend,
            &self.conv1,
            Conv { norm: Some(&norm), before: Activation::Silu, ..conv(&self.conv1, x) },
        )?;
        let skipped = match &self.shortcut {
            Some(shortcut) => Some(run(backend, shortcut, conv(shortcut, x))?),
            None => None,
        };
        let norm = self.norm2.record(backend, &y, norms)?;
        let residual = Some(skipped.as_ref().unwrap_or(x));
        let plain = conv(&self.conv2, &y);
        run(backend, &self.conv2, Conv { norm: Some(&norm), before: Activation::Silu, residual, ..plain })
    }
}

impl<B: ImageBackend> Attention<B> {
    /// x + out(attention of norm(x)).
    fn forward(&self, backend: &mut B, x: &B::Image, norms: &mut Norms<'_, B>) -> Result<B::Image> {
        let norm = self.norm.record(backend, x, norms)?;
        let normed = |filter| Conv { norm: Some(&norm), ..conv(filter, x) };
        let q = run(backend, &self.q, normed(&self.q))?;
        let k = run(backend, &self.k, normed(&self.k))?;
        let v = run(backend, &self.v, normed(&self.v))?;
        let mixed = backend.image(B::shape(&q))?;
        backend.attention(&q, &k, &v, &mixed)?;
        run(backend, &self.out, Conv { residual: Some(x), ..conv(&self.out, &mixed) })
    }
}
