//! What all image networks are made of: the named tensors of one file, read once from its start to its end.
//!
//! A network wants its tensors from end to end, a file has them by name. Over HTTP each step back would be a
//! request of its own, so everything is read in the file's order first; networks are put together of it.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::ops::{Activation, Conv, ConvShape, ImageBackend, ImageShape};
use crate::weights::{ByteSource, FloatTensor, FloatTensors};

/// What names of tensors begin with in the families that there are files for; TAESD's may also begin with a
/// number.
const PREFIXES: [&str; 5] = ["decoder.", "encoder.", "quant_conv.", "post_quant_conv.", "prior."];
/// More channels than any network has.
const MAX_CHANNELS: usize = 1 << 14;

/// Weights and bias of one convolution.
pub(super) struct Filter<B: ImageBackend> {
    pub weights: B::Weights,
    pub inputs: u32,
    pub outputs: u32,
}

/// The tensors of one file, on the device where they are a convolution's.
pub struct Parts<B: ImageBackend> {
    tensors: FloatTensors,
    filters: BTreeMap<String, Filter<B>>,
    values: BTreeMap<String, Vec<f32>>,
}

/// Bytes of the tensors that [`Parts::read`] reads.
#[must_use]
pub fn wanted_bytes(tensors: &FloatTensors) -> u64 {
    tensors.all().iter().filter(|tensor| is_wanted(tensor)).map(FloatTensor::bytes).sum()
}

fn is_wanted(tensor: &FloatTensor) -> bool {
    let name = tensor.name.as_str();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name.starts_with(|c: char| c.is_ascii_digit())
}

impl<B: ImageBackend> Parts<B> {
    /// Reads all tensors of image networks. `progress` gets the bytes of each; an error of it ends the reading.
    ///
    /// # Errors
    /// Out of memory; what the source gives. Tensors of odd shapes are an error only once they are asked for.
    pub async fn read(
        backend: &mut B,
        tensors: FloatTensors,
        source: &mut dyn ByteSource,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let mut parts = Parts { filters: BTreeMap::new(), values: BTreeMap::new(), tensors };
        // Weights whose bias comes later in the file.
        let mut waiting: BTreeMap<String, (ConvShape, Vec<f32>)> = BTreeMap::new();
        for tensor in parts.tensors.in_file_order().filter(|tensor| is_wanted(tensor)) {
            let values = tensor.values(source).await?;
            let bytes = tensor.bytes();
            match (tensor.name.strip_suffix(".weight"), conv_shape(tensor)) {
                (Some(name), Ok(shape)) => {
                    let bias = format!("{name}.bias");
                    if parts.tensors.find(&bias).is_some() && !parts.values.contains_key(&bias) {
                        waiting.insert(name.to_owned(), (shape, values));
                    } else {
                        let filter = filter(backend, name, shape, &values, parts.values.get(&bias))?;
                        parts.filters.insert(name.to_owned(), filter);
                    }
                }
                _ => {
                    if let Some(name) = tensor.name.strip_suffix(".bias")
                        && let Some((shape, weights)) = waiting.remove(name)
                    {
                        let filter = filter(backend, name, shape, &weights, Some(&values))?;
                        parts.filters.insert(name.to_owned(), filter);
                    }
                    parts.values.insert(tensor.name.clone(), values);
                }
            }
            progress(bytes)?;
        }
        Ok(parts)
    }

    /// What the file says of its tensors.
    pub fn tensors(&self) -> &FloatTensors {
        &self.tensors
    }

    /// Whether the file has the convolution.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.find(&format!("{name}.weight")).is_some()
    }

    /// The convolution `name.weight` with `name.bias`, if there is one. A matrix counts as a 1 × 1 kernel.
    pub(super) fn filter(&mut self, name: &str) -> Result<Filter<B>> {
        match self.filters.remove(name) {
            Some(filter) => Ok(filter),
            None => {
                let tensor = self.tensors.get(&format!("{name}.weight"))?;
                conv_shape(tensor)?;
                Err(Error::Internal { what: format!("{name} is used twice") })
            }
        }
    }

    /// The convolution, if it is there.
    pub(super) fn optional(&mut self, name: &str) -> Result<Option<Filter<B>>> {
        if self.has(name) { self.filter(name).map(Some) } else { Ok(None) }
    }

    /// A vector.
    pub(super) fn vector(&mut self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensors.get(name)?;
        match self.values.remove(name) {
            Some(values) if tensor.shape.len() == 1 => Ok(values),
            _ => Err(misshapen(tensor)),
        }
    }

    /// Values of any shape that is no convolution's, if they are there.
    pub fn take(&mut self, name: &str) -> Option<Vec<f32>> {
        self.values.remove(name)
    }
}

/// Shape of a convolution's weights.
fn conv_shape(tensor: &FloatTensor) -> Result<ConvShape> {
    let (outputs, inputs, kernel, width) = match tensor.shape[..] {
        [outputs, inputs, kernel, width] => (outputs, inputs, kernel, width),
        [outputs, inputs] => (outputs, inputs, 1, 1),
        _ => return Err(misshapen(tensor)),
    };
    if kernel != width || outputs.min(inputs) == 0 || outputs.max(inputs) > MAX_CHANNELS {
        return Err(misshapen(tensor));
    }
    if kernel != 1 && kernel != 3 {
        return Err(Error::UnsupportedModel {
            what: format!("{}: a kernel of {kernel} × {kernel} (1 and 3 are supported)", tensor.name),
        });
    }
    #[allow(clippy::cast_possible_truncation)] // at most MAX_CHANNELS
    let shape = ConvShape { inputs: inputs as u32, outputs: outputs as u32, kernel: kernel as u32 };
    Ok(shape)
}

fn filter<B: ImageBackend>(
    backend: &mut B,
    name: &str,
    shape: ConvShape,
    weights: &[f32],
    bias: Option<&Vec<f32>>,
) -> Result<Filter<B>> {
    let weights = backend.weights(name, shape, weights, bias.map(Vec::as_slice))?;
    Ok(Filter { weights, inputs: shape.inputs, outputs: shape.outputs })
}

/// A tensor of a shape that its place cannot have.
fn misshapen(tensor: &FloatTensor) -> Error {
    Error::ShapeMismatch {
        what: tensor.name.clone(),
        found: tensor.shape.iter().map(|&d| d as u64).collect(),
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
