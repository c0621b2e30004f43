//! AutoencoderKL, the VAE of Stable Diffusion and FLUX, as diffusers names its tensors. Rombach et al.,
//! "High-Resolution Image Synthesis with Latent Diffusion Models", 2022; diffusers'
//! `models/autoencoders/autoencoder_kl.py` and `vae.py`.
//!
//! Depth, widths and latent channels are those of the tensors. A residual block is
//! x + conv(silu(norm(conv(silu(norm(x)))))), with a 1 × 1 convolution of x where the width changes; the middle
//! has one head of attention over all positions.

use crate::error::{Error, Result};
use crate::ops::{Activation, Conv, GroupNorm, ImageBackend, ImageShape};
use crate::weights::{ByteSource, FloatTensors};

use super::filter::{Filter, Reader, conv, run};
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

    /// Reads it.
    ///
    /// # Errors
    /// Missing or misshapen tensors; out of memory; what the source gives.
    pub async fn load(
        backend: &mut B,
        tensors: &FloatTensors,
        source: &mut dyn ByteSource,
        direction: Direction,
        norm_groups: Option<u32>,
    ) -> Result<Self> {
        let side = side(direction);
        let (blocks, quant, resizer) = match direction {
            Direction::Decoder => ("up_blocks", "post_quant_conv", "upsamplers"),
            Direction::Encoder => ("down_blocks", "quant_conv", "downsamplers"),
        };
        let mut reader = Reader { backend, tensors, source, norm_groups };
        let conv_in = reader.filter(&format!("{side}.conv_in")).await?;
        let mut stages = Vec::new();
        let mut scale: u32 = 1;
        for i in 0..MAX_BLOCKS {
            let name = format!("{side}.{blocks}.{i}");
            if tensors.find(&format!("{name}.resnets.0.conv1.weight")).is_none() {
                break;
            }
            let mut resnets = Vec::new();
            for j in 0..MAX_BLOCKS {
                let name = format!("{name}.resnets.{j}");
                if tensors.find(&format!("{name}.conv1.weight")).is_none() {
                    break;
                }
                resnets.push(Resnet::read(&mut reader, &name).await?);
            }
            let resize = reader.optional(&format!("{name}.{resizer}.0.conv")).await?;
            if resize.is_some() {
                scale = scale.saturating_mul(2);
            }
            stages.push(Stage { resnets, resize });
        }
        let middle = [
            Resnet::read(&mut reader, &format!("{side}.mid_block.resnets.0")).await?,
            Resnet::read(&mut reader, &format!("{side}.mid_block.resnets.1")).await?,
        ];
        let attention = Attention::read(&mut reader, &format!("{side}.mid_block.attentions.0")).await?;
        let norm_out = Norm::read(&mut reader, &format!("{side}.conv_norm_out")).await?;
        let conv_out = reader.filter(&format!("{side}.conv_out")).await?;
        let quant = reader.optional(quant).await?;
        let first = |name: &str| tensors.get(name).map(|t| t.shape.get(1).copied().unwrap_or(0) as u32);
        let inputs = match (&quant, direction) {
            (Some(_), Direction::Decoder) => first("post_quant_conv.weight")?,
            _ => first(&format!("{side}.conv_in.weight"))?,
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
            return match half {
                Half::Both => {
                    let x = self.small(backend, input, norms)?;
                    self.large(backend, x, norms)
                }
                Half::Small => self.small(backend, input, norms),
                Half::Large => self.enlarge_first(backend, input, norms),
            };
        }
        let mut x = run(backend, &self.conv_in, conv(&self.conv_in, input))?;
        for stage in &self.stages {
            for resnet in &stage.resnets {
                x = resnet.forward(backend, &x, norms)?;
            }
            if let Some(resize) = &stage.resize {
                x = shrink(backend, resize, &x)?;
            }
        }
        x = self.middle(backend, x, norms)?;
        x = self.last(backend, &x, norms)?;
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
        x = self.middle(backend, x, norms)?;
        for resnet in self.stages.iter().take(1).flat_map(|stage| &stage.resnets) {
            x = resnet.forward(backend, &x, norms)?;
        }
        Ok(x)
    }

    /// The rest of a decoder, of what [`AutoencoderKl::small`] gave.
    fn large(&self, backend: &mut B, x: B::Image, norms: &mut Norms<'_, B>) -> Result<B::Image> {
        let first = self.stages.first().and_then(|stage| stage.resize.as_ref());
        match first {
            Some(resize) => {
                let y = enlarge(backend, resize, &x)?;
                drop(x);
                self.stages_after_first(backend, y, norms)
            }
            None => self.stages_after_first(backend, x, norms),
        }
    }

    /// The same of a picture that someone else keeps: a tile's input.
    fn enlarge_first(&self, backend: &mut B, x: &B::Image, norms: &mut Norms<'_, B>) -> Result<B::Image> {
        let Some(resize) = self.stages.first().and_then(|stage| stage.resize.as_ref()) else {
            return Err(Error::Internal { what: "a decoder without stages has no halves".to_owned() });
        };
        let y = enlarge(backend, resize, x)?;
        self.stages_after_first(backend, y, norms)
    }

    fn stages_after_first(
        &self,
        backend: &mut B,
        mut x: B::Image,
        norms: &mut Norms<'_, B>,
    ) -> Result<B::Image> {
        for stage in self.stages.iter().skip(1) {
            for resnet in &stage.resnets {
                x = resnet.forward(backend, &x, norms)?;
            }
            if let Some(resize) = &stage.resize {
                x = enlarge(backend, resize, &x)?;
            }
        }
        self.last(backend, &x, norms)
    }

    /// Norm, activation and the last convolution.
    fn last(&self, backend: &mut B, x: &B::Image, norms: &mut Norms<'_, B>) -> Result<B::Image> {
        let norm = self.norm_out.record(backend, x, norms)?;
        let plain = conv(&self.conv_out, x);
        run(backend, &self.conv_out, Conv { norm: Some(&norm), before: Activation::Silu, ..plain })
    }

    /// Whether a decoder has two halves.
    pub fn splits(&self) -> bool {
        self.direction == Direction::Decoder
            && self.stages.first().is_some_and(|stage| stage.resize.is_some())
    }

    fn middle(&self, backend: &mut B, x: B::Image, norms: &mut Norms<'_, B>) -> Result<B::Image> {
        let [first, second] = &self.middle;
        let mut x = first.forward(backend, &x, norms)?;
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

impl Norm {
    async fn read<B: ImageBackend>(reader: &mut Reader<'_, B>, name: &str) -> Result<Self> {
        let missing = |part: &str| Error::MissingTensor { tensor: format!("{name}.{part}") };
        let gain = reader.vector(&format!("{name}.weight")).await?.ok_or_else(|| missing("weight"))?;
        let bias = reader.vector(&format!("{name}.bias")).await?.ok_or_else(|| missing("bias"))?;
        let channels = gain.len() as u32;
        // Networks made smaller than diffusers' default say so in their config; without one, a group a channel.
        let groups =
            reader.norm_groups.unwrap_or(if channels.is_multiple_of(GROUPS) { GROUPS } else { channels });
        Ok(Norm { gain, bias, groups })
    }

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
    async fn read(reader: &mut Reader<'_, B>, name: &str) -> Result<Self> {
        Ok(Resnet {
            norm1: Norm::read(reader, &format!("{name}.norm1")).await?,
            conv1: reader.filter(&format!("{name}.conv1")).await?,
            norm2: Norm::read(reader, &format!("{name}.norm2")).await?,
            conv2: reader.filter(&format!("{name}.conv2")).await?,
            shortcut: reader.optional(&format!("{name}.conv_shortcut")).await?,
        })
    }

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
    /// Under today's names, or those of diffusers before 0.18.
    async fn read(reader: &mut Reader<'_, B>, name: &str) -> Result<Option<Self>> {
        let names = if reader.tensors.find(&format!("{name}.to_q.weight")).is_some() {
            ["to_q", "to_k", "to_v", "to_out.0"]
        } else if reader.tensors.find(&format!("{name}.query.weight")).is_some() {
            ["query", "key", "value", "proj_attn"]
        } else {
            return Ok(None);
        };
        let [q, k, v, out] = names.map(|part| format!("{name}.{part}"));
        Ok(Some(Attention {
            norm: Norm::read(reader, &format!("{name}.group_norm")).await?,
            q: reader.filter(&q).await?,
            k: reader.filter(&k).await?,
            v: reader.filter(&v).await?,
            out: reader.filter(&out).await?,
        }))
    }

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
