//! What all image networks are made of: convolutions out of named tensors.

use crate::error::{Error, Result};
use crate::ops::{Activation, Conv, ConvShape, ImageBackend, ImageShape};
use crate::weights::{ByteSource, FloatTensors};

/// Weights and bias of one convolution.
pub(super) struct Filter<B: ImageBackend> {
    pub weights: B::Weights,
    pub outputs: u32,
}

/// Reads the filters of one network.
pub(super) struct Reader<'a, B: ImageBackend> {
    pub backend: &'a mut B,
    pub tensors: &'a FloatTensors,
    pub source: &'a mut dyn ByteSource,
    /// Groups of an AutoencoderKL's norms, where a config says so.
    pub norm_groups: Option<u32>,
}

impl<B: ImageBackend> Reader<'_, B> {
    /// The convolution `name.weight` with `name.bias`, if there is one. A matrix counts as a 1 × 1 kernel.
    pub async fn filter(&mut self, name: &str) -> Result<Filter<B>> {
        let tensor = self.tensors.get(&format!("{name}.weight"))?;
        let (outputs, inputs, kernel, width) = match tensor.shape[..] {
            [outputs, inputs, kernel, width] => (outputs, inputs, kernel, width),
            [outputs, inputs] => (outputs, inputs, 1, 1),
            _ => return Err(misshapen(&tensor.name, &tensor.shape)),
        };
        if kernel != width || outputs.max(inputs) > 1 << 14 {
            return Err(misshapen(&tensor.name, &tensor.shape));
        }
        let shape = ConvShape { inputs: inputs as u32, outputs: outputs as u32, kernel: kernel as u32 };
        let values = tensor.values(self.source).await?;
        let bias = self.vector(&format!("{name}.bias")).await?;
        let weights = self.backend.weights(name, shape, &values, bias.as_deref())?;
        Ok(Filter { weights, outputs: shape.outputs })
    }

    /// The convolution, if it is there.
    pub async fn optional(&mut self, name: &str) -> Result<Option<Filter<B>>> {
        match self.tensors.find(&format!("{name}.weight")) {
            Some(_) => Ok(Some(self.filter(name).await?)),
            None => Ok(None),
        }
    }

    /// A vector, if it is there.
    pub async fn vector(&mut self, name: &str) -> Result<Option<Vec<f32>>> {
        match self.tensors.find(name) {
            Some(tensor) if tensor.shape.len() == 1 => Ok(Some(tensor.values(self.source).await?)),
            Some(tensor) => Err(misshapen(name, &tensor.shape)),
            None => Ok(None),
        }
    }
}

/// A tensor of a shape that its place cannot have.
pub(super) fn misshapen(name: &str, shape: &[usize]) -> Error {
    Error::ShapeMismatch {
        what: name.to_owned(),
        found: shape.iter().map(|&d| d as u64).collect(),
        expected: Vec::new(),
    }
}

/// A convolution of stride 1 that keeps the size.
pub(super) fn conv<'a, B: ImageBackend>(filter: &'a Filter<B>, input: &'a B::Image) -> Conv<'a, B> {
    Conv {
        weights: &filter.weights,
        input,
        norm: None,
        before: Activation::None,
        upsample: false,
        stride: 1,
        padding: B::kernel(&filter.weights) / 2,
        residual: None,
        after: Activation::None,
    }
}

/// Records a convolution into a picture of its own.
pub(super) fn run<B: ImageBackend>(
    backend: &mut B,
    filter: &Filter<B>,
    conv: Conv<'_, B>,
) -> Result<B::Image> {
    let input = B::shape(conv.input);
    let factor = if conv.upsample { 2 } else { 1 };
    let size = |n: u32| (n * factor).div_ceil(conv.stride);
    let out = backend.image(ImageShape {
        height: size(input.height),
        width: size(input.width),
        channels: filter.outputs,
    })?;
    backend.conv(&conv, &out)?;
    Ok(out)
}
