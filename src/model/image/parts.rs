//! What all image networks are made of: the named tensors of one file.
//!
//! A network is put together twice. The first time ([`check`]) only the header is known: every layer says which
//! tensors it wants and what shape they must have, and a file that lacks one, or has one that no layer wants, is
//! refused before its weights are read. Then [`Loaded::read`] reads what was wanted, in the file's order, since over
//! HTTP each step back would be a request of its own; and the network is put together again, with weights.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::graph::{Activation, Conv, ConvShape, ImageBackend};
use crate::sort::sort_by_key;
use crate::weights::{ByteSource, FloatTensor};

use super::names::Named;
use super::tape::Tape;

/// More channels than any network has.
const MAX_CHANNELS: u32 = 1 << 14;

/// Weights and bias of one convolution.
pub(super) struct Filter<W> {
    pub weights: W,
    pub inputs: u32,
    pub outputs: u32,
    kernel: u32,
}

impl<W> Filter<W> {
    /// Channels and kernel.
    pub fn shape(&self) -> ConvShape {
        ConvShape { inputs: self.inputs, outputs: self.outputs, kernel: self.kernel }
    }
}

/// What a network asks of a convolution's tensors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub inputs: u32,
    /// `None` for any.
    pub outputs: Option<u32>,
    pub kernel: u32,
    pub bias: bool,
}

/// Tensors that a layer wants.
enum Wanted {
    Conv { name: String, shape: ConvShape, bias: bool },
    Values { name: String },
}

/// Where weights come from.
trait Give<W> {
    fn conv(&mut self, name: &str, shape: ConvShape, bias: bool) -> Result<W>;
    fn values(&mut self, name: &str) -> Result<Vec<f32>>;
}

/// The tensors of one file while a network is put together.
pub struct Parts<'a, W> {
    named: &'a Named,
    give: &'a mut dyn Give<W>,
}

/// Gives nothing, and notes what was wanted.
#[derive(Default)]
struct Check {
    wanted: Vec<Wanted>,
    used: BTreeSet<String>,
}

/// What the networks of a file want of it.
pub struct Checked {
    wanted: Vec<Wanted>,
    /// Bytes of the tensors.
    pub bytes: u64,
}

/// The wanted tensors, on the device where they are a convolution's.
pub struct Loaded<W> {
    filters: BTreeMap<String, W>,
    values: BTreeMap<String, Vec<f32>>,
}

/// Puts the networks of a file together without weights: `build` does so.
///
/// # Errors
/// What `build` gives; [`Error::UnsupportedType`] for a tensor whose type cannot be read; and
/// [`Error::UnsupportedModel`] for a tensor that no network wants.
pub fn check<T>(named: &Named, build: impl FnOnce(&mut Parts<'_, ()>) -> Result<T>) -> Result<(T, Checked)> {
    let mut check = Check::default();
    let built = build(&mut Parts { named, give: &mut check })?;
    let mut unused = named.iter().filter(|(name, _)| !check.used.contains(*name));
    if let Some((name, tensor)) = unused.next() {
        let more = match unused.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let why = if name.contains(".attentions.") || name.contains(".attn.") {
            ": attention inside the blocks"
        } else {
            ""
        };
        return Err(Error::UnsupportedModel {
            what: format!(
                "the file has tensor {}{more}, which no layer of {} uses{why}",
                tensor.name,
                super::IMAGE_ARCHITECTURES.join(" or ")
            ),
        });
    }
    let mut bytes = 0u64;
    for (_, tensor) in named.iter() {
        tensor.check_type()?;
        bytes = bytes.saturating_add(tensor.bytes());
    }
    Ok((built, Checked { wanted: check.wanted, bytes }))
}

impl<W> Loaded<W> {
    /// Reads what the networks of a file want. `progress` gets the bytes of each tensor; an error of it ends the
    /// reading.
    ///
    /// # Errors
    /// Out of memory; values that are not finite; what the source gives.
    pub async fn read<B: ImageBackend<Weights = W>>(
        backend: &mut B,
        named: &Named,
        checked: &Checked,
        source: &mut dyn ByteSource,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let mut tensors: Vec<(&FloatTensor, &Wanted, bool)> = Vec::new();
        for wanted in &checked.wanted {
            let mut add = |name: &str, is_bias| -> Result<()> {
                tensors.push((find(named, name)?, wanted, is_bias));
                Ok(())
            };
            match wanted {
                Wanted::Values { name } => add(name, false)?,
                Wanted::Conv { name, bias, .. } => {
                    add(&format!("{name}.weight"), false)?;
                    if *bias {
                        add(&format!("{name}.bias"), true)?;
                    }
                }
            }
        }
        sort_by_key(&mut tensors, |(tensor, ..)| tensor.offset());
        let mut loaded = Loaded { filters: BTreeMap::new(), values: BTreeMap::new() };
        // The first of a convolution's two tensors, until the second is there.
        let mut waiting: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        for (tensor, wanted, is_bias) in tensors {
            let values = tensor.values(source).await?;
            match wanted {
                Wanted::Values { name } => drop(loaded.values.insert(name.clone(), values)),
                Wanted::Conv { name, shape, bias } => {
                    let first = waiting.remove(name.as_str());
                    let (weights, bias) = match (first, is_bias) {
                        (None, _) if *bias => {
                            waiting.insert(name, values);
                            progress(tensor.bytes())?;
                            continue;
                        }
                        (first, true) => (first.unwrap_or_default(), Some(values)),
                        (first, false) => (values, first),
                    };
                    let filter = backend.weights(name, *shape, &weights, bias.as_deref())?;
                    loaded.filters.insert(name.clone(), filter);
                }
            }
            progress(tensor.bytes())?;
        }
        Ok(loaded)
    }

    /// Puts the networks of a file together again, as [`check`] did.
    ///
    /// # Errors
    /// What `build` gives.
    pub fn build<T>(
        &mut self,
        named: &Named,
        build: impl FnOnce(&mut Parts<'_, W>) -> Result<T>,
    ) -> Result<T> {
        build(&mut Parts { named, give: self })
    }
}

impl Give<()> for Check {
    fn conv(&mut self, name: &str, shape: ConvShape, bias: bool) -> Result<()> {
        self.used.insert(format!("{name}.weight"));
        if bias {
            self.used.insert(format!("{name}.bias"));
        }
        self.wanted.push(Wanted::Conv { name: name.to_owned(), shape, bias });
        Ok(())
    }

    fn values(&mut self, name: &str) -> Result<Vec<f32>> {
        self.used.insert(name.to_owned());
        self.wanted.push(Wanted::Values { name: name.to_owned() });
        Ok(Vec::new())
    }
}

impl<W> Give<W> for Loaded<W> {
    fn conv(&mut self, name: &str, _: ConvShape, _: bool) -> Result<W> {
        self.filters.remove(name).ok_or_else(|| twice(name))
    }

    fn values(&mut self, name: &str) -> Result<Vec<f32>> {
        self.values.remove(name).ok_or_else(|| twice(name))
    }
}

fn twice(name: &str) -> Error {
    Error::Internal { what: format!("{name} is used twice") }
}

fn find<'a>(named: &'a Named, name: &str) -> Result<&'a FloatTensor> {
    named.find(name).ok_or_else(|| Error::MissingTensor { tensor: name.to_owned() })
}

impl<W> Parts<'_, W> {
    /// The file's tensors.
    pub fn named(&self) -> &Named {
        self.named
    }

    /// Whether the file has the convolution.
    pub(super) fn has(&self, name: &str) -> bool {
        self.named.find(&format!("{name}.weight")).is_some()
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Result<&[usize]> {
        find(self.named, name).map(|tensor| &tensor.shape[..])
    }

    /// Input channels of a convolution, as its weights have them.
    pub(super) fn inputs(&self, name: &str) -> Result<u32> {
        let name = format!("{name}.weight");
        let tensor = find(self.named, &name)?;
        let inputs = tensor.shape.get(1).and_then(|&inputs| u32::try_from(inputs).ok());
        inputs.ok_or_else(|| misshapen(tensor, &[3, 3, 3, 3]))
    }

    /// The convolution `name.weight` and `name.bias`. A matrix counts as a 1 × 1 kernel.
    pub(super) fn filter(&mut self, name: &str, want: Want) -> Result<Filter<W>> {
        let weight = find(self.named, &format!("{name}.weight"))?;
        let Want { inputs, kernel, bias, .. } = want;
        let found = weight.shape.first().and_then(|&outputs| u32::try_from(outputs).ok());
        let outputs = want.outputs.or(found).unwrap_or(1);
        let expected = [outputs, inputs, kernel, kernel].map(u64::from);
        let shape: Vec<u64> = weight.shape.iter().map(|&d| d as u64).collect();
        if shape != expected && !(kernel == 1 && shape == expected[..2]) {
            return Err(misshapen(weight, &expected));
        }
        if outputs == 0 || outputs.max(inputs) > MAX_CHANNELS {
            return Err(Error::UnsupportedModel {
                what: format!("{}: {inputs} to {outputs} channels (1 to {MAX_CHANNELS} are)", weight.name),
            });
        }
        if bias {
            let name = format!("{name}.bias");
            let tensor = find(self.named, &name)?;
            if tensor.shape != [outputs as usize] {
                return Err(misshapen(tensor, &[u64::from(outputs)]));
            }
        }
        let shape = ConvShape { inputs, outputs, kernel };
        Ok(Filter { weights: self.give.conv(name, shape, bias)?, inputs, outputs, kernel })
    }

    /// Values of one shape.
    pub(super) fn values(&mut self, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
        let tensor = find(self.named, name)?;
        if tensor.shape != expected {
            let expected: Vec<u64> = expected.iter().map(|&d| d as u64).collect();
            return Err(misshapen(tensor, &expected));
        }
        self.give.values(name)
    }
}

/// A tensor of a shape that its place cannot have.
fn misshapen(tensor: &FloatTensor, expected: &[u64]) -> Error {
    let found = tensor.shape.iter().map(|&d| d as u64).collect();
    Error::ShapeMismatch { what: tensor.name.clone(), found, expected: expected.to_vec() }
}

/// A convolution of stride 1 that keeps the size.
pub(super) fn conv<'a, B: ImageBackend>(filter: &'a Filter<B::Weights>, input: &'a B::Image) -> Conv<'a, B> {
    Conv {
        weights: &filter.weights,
        input,
        norm: None,
        before: Activation::None,
        upsample: false,
        stride: 1,
        padding: filter.kernel / 2,
        residual: None,
        after: Activation::None,
    }
}

/// Records a convolution into a picture of the size that its input, stride and enlargement give.
pub(super) fn run<B: ImageBackend>(
    tape: &mut Tape<'_, B>,
    filter: &Filter<B::Weights>,
    conv: Conv<'_, B>,
) -> Result<B::Image> {
    let input = B::shape(conv.input);
    let factor = if conv.upsample { 2 } else { 1 };
    let stride = conv.stride;
    let size = |n: u32| (n * factor).div_ceil(stride);
    tape.conv(filter, conv, (size(input.height), size(input.width)))
}
