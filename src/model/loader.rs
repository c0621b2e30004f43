//! Streams tensors from the sources into the backend, in file order, a few MiB at a time: a plain
//! sequential download needs one request, and the file never sits in memory.

use crate::error::{Error, Result};
use crate::formats::DType;
use crate::graph::Backend;
use crate::sort::sort_by_key;
use crate::weights::{ByteSource, TensorInfo, read_growing};

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tensor bytes uploaded.
    pub loaded_bytes: u64,
    /// Tensor bytes in all.
    pub total_bytes: u64,
}

/// One read: small enough for a phone, large enough to keep the pipe full.
const STAGING: u64 = 2 << 20;
/// Rows are read in whole multiples of this where so many fit: backends keep so many side by side.
pub(super) const PANEL: u64 = 32;
/// After this many bytes, wait for the device to take them over.
const SETTLE: u64 = 16 << 20;

enum Destination<'a, B: Backend> {
    Rows { weight: &'a B::Weight, row: u64 },
    Vector { vector: &'a B::Vector, at: u32 },
}

/// Collects where each tensor goes, then reads them all in file order.
pub(super) struct Loader<'a, B: Backend> {
    places: Vec<(&'a TensorInfo, Destination<'a, B>)>,
}

impl<'a, B: Backend> Loader<'a, B> {
    pub(super) fn new() -> Self {
        Loader { places: Vec::new() }
    }

    /// A matrix (or a block of its rows) of `cols` columns goes to rows `row…` of `weight`.
    pub(super) fn rows(&mut self, tensor: &'a TensorInfo, weight: &'a B::Weight, row: u64) {
        self.places.push((tensor, Destination::Rows { weight, row }));
    }

    /// A vector of F32 goes to `at…` of `vector`.
    pub(super) fn vector(&mut self, tensor: &'a TensorInfo, vector: &'a B::Vector, at: u32) {
        self.places.push((tensor, Destination::Vector { vector, at }));
    }

    pub(super) async fn run(
        mut self,
        backend: &mut B,
        sources: &mut [Box<dyn ByteSource>],
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        sort_by_key(&mut self.places, |(tensor, _)| (tensor.shard, tensor.offset));
        let total_bytes = self.places.iter().map(|(t, _)| t.bytes).sum();
        let mut loaded_bytes = 0;
        let mut settled_at = 0;
        let mut staging = Vec::new();
        progress(Progress { loaded_bytes, total_bytes })?;
        for (tensor, destination) in &self.places {
            match destination {
                Destination::Vector { vector, at } => {
                    let values = read_vector(sources, tensor).await?;
                    backend.upload_vector(vector, *at, &values);
                    loaded_bytes += tensor.bytes;
                }
                Destination::Rows { weight, row } => {
                    let source = source_of(sources, tensor)?;
                    let dtype = tensor.dtype()?;
                    let rows = tensor.dims.get(1).copied().unwrap_or(1);
                    let row_bytes = tensor.bytes / rows.max(1);
                    let at_once = match STAGING / row_bytes.max(1) {
                        few @ ..PANEL => (few & !1).max(2),
                        many => many / PANEL * PANEL,
                    };
                    let mut done = 0;
                    while done < rows {
                        let count = at_once.min(rows - done);
                        let bytes = usize::try_from(count * row_bytes).map_err(|_| Error::OutOfMemory {
                            what: tensor.name.clone(),
                            bytes: count * row_bytes,
                        })?;
                        staging.resize(bytes, 0);
                        source.read_at(tensor.offset + done * row_bytes, &mut staging).await?;
                        fill_rows(backend, weight, row + done, (&tensor.name, dtype), &staging)?;
                        done += count;
                        loaded_bytes += count * row_bytes;
                        if loaded_bytes - settled_at >= SETTLE {
                            backend.settle("uploading weights").await?;
                            settled_at = loaded_bytes;
                        }
                        progress(Progress { loaded_bytes, total_bytes })?;
                    }
                }
            }
        }
        backend.settle("uploading weights").await?;
        progress(Progress { loaded_bytes, total_bytes })
    }
}

fn source_of<'s>(
    sources: &'s mut [Box<dyn ByteSource>],
    tensor: &TensorInfo,
) -> Result<&'s mut Box<dyn ByteSource>> {
    let missing = || Error::SplitMismatch {
        what: format!("{} is in file {}, which was not given", tensor.name, tensor.shard + 1),
    };
    sources.get_mut(tensor.shard).ok_or_else(missing)
}

/// Checks rows as they stand in the file, and packs them.
pub(super) fn fill_rows<B: Backend>(
    backend: &mut B,
    weight: &B::Weight,
    row: u64,
    (label, dtype): (&str, DType),
    bytes: &[u8],
) -> Result<()> {
    check_finite(label, dtype, bytes)?;
    backend.upload_rows(weight, row, bytes)
}

/// A single weight that is not a number spoils every answer, and softmax may hide it: so all are looked at.
fn check_finite(tensor: &str, dtype: DType, bytes: &[u8]) -> Result<()> {
    if dtype.all_finite(bytes) {
        return Ok(());
    }
    Err(Error::NotFinite { place: format!("tensor {tensor}") })
}

/// Reads a small float tensor to the CPU.
pub(super) async fn read_vector(
    sources: &mut [Box<dyn ByteSource>],
    tensor: &TensorInfo,
) -> Result<Vec<f32>> {
    let dtype = tensor.dtype()?;
    let bytes = read_growing(source_of(sources, tensor)?.as_mut(), tensor.offset, tensor.bytes).await?;
    check_finite(&tensor.name, dtype, &bytes)?;
    dtype.floats(&bytes).ok_or_else(|| Error::UnsupportedType {
        tensor: tensor.name.clone(),
        found: dtype.name().to_owned(),
        supported: "F32, F16, BF16 for a vector".to_owned(),
    })
}
