//! safetensors: the header by the format's own crate, the tensors by range reads.

use std::collections::BTreeMap;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::error::{Error, Result};
use crate::sort::sort_by;

use super::file_kind::FileKind;
use super::source::{ByteSource, read_growing};

/// Longest header that is read. Image networks have a few thousand tensors, of a hundred bytes each.
const MAX_HEADER: u64 = 16 << 20;
/// The types that [`FloatTensor::values`] reads.
const SUPPORTED: &str = "F32, F16, BF16, F64";

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloatTensor {
    /// Name in the file.
    pub name: String,
    /// Outermost dimension first, as PyTorch has them.
    pub shape: Vec<usize>,
    /// Type of the values. [`FloatTensor::check_type`] tells whether they can be read.
    pub dtype: Dtype,
    /// First byte in the file.
    offset: u64,
    bytes: u64,
}

/// The tensors of a safetensors file.
#[derive(Debug, Clone, Default)]
pub struct FloatTensors {
    /// By name.
    tensors: Vec<FloatTensor>,
    config: Option<String>,
}

impl FloatTensors {
    /// Reads the header. All tensors are listed, also those of types that cannot be read.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another kind of file, which the message names where its first bytes tell;
    /// [`Error::UnsupportedType`] for a type that the format's crate does not know; [`Error::Truncated`] for a
    /// file that ends before its last tensor; and what the source gives.
    pub async fn read(source: &mut dyn ByteSource) -> Result<Self> {
        let mut head = [0; 8];
        source.read_at(0, &mut head).await?;
        let read = Self::read_header(source, u64::from_le_bytes(head)).await;
        // A file of another kind may fail in any way, since its first bytes are no length.
        if let (Err(Error::Malformed { .. } | Error::Truncated { .. }), Some(kind)) =
            (&read, other_kind(&head))
        {
            return Err(Error::Malformed {
                what: format!("{} is not a safetensors file but {kind}", source.name()),
            });
        }
        read
    }

    async fn read_header(source: &mut dyn ByteSource, length: u64) -> Result<Self> {
        let name = source.name().to_owned();
        let malformed = |what: String| Error::Malformed { what: format!("{name}: {what}") };
        if length > MAX_HEADER {
            return Err(malformed(format!(
                "not a safetensors file (its header would have {length} bytes, at most {MAX_HEADER} are read)"
            )));
        }
        let header = read_growing(source, 8, length).await?;
        // The crate checks that the tensors follow each other without gap or overlap, and that their
        // sizes are those of their shapes.
        let metadata: Metadata = match serde_json::from_slice(&header) {
            Ok(metadata) => metadata,
            Err(error) => {
                return Err(unknown_type(&header).unwrap_or_else(|| malformed(error.to_string())));
            }
        };
        let begin = 8 + length;
        let needed = begin.saturating_add(metadata.data_len() as u64);
        if let Some(actual) = source.size().await?
            && actual < needed
        {
            return Err(Error::Truncated { name, needed, actual });
        }
        let mut tensors: Vec<FloatTensor> = Vec::new();
        for (name, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            tensors.push(FloatTensor {
                name,
                shape: info.shape.clone(),
                dtype: info.dtype,
                offset: begin.saturating_add(from as u64),
                bytes: to.saturating_sub(from) as u64,
            });
        }
        sort_by(&mut tensors, |a: &FloatTensor, b| a.name.cmp(&b.name));
        let config = metadata.metadata().as_ref().and_then(|notes| notes.get("config").cloned());
        Ok(FloatTensors { tensors, config })
    }

    /// The header's note `config`. Notes are free text; some programs write diffusers' `config.json` there.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// All tensors, by name.
    #[must_use]
    pub fn all(&self) -> &[FloatTensor] {
        &self.tensors
    }

    /// The tensor of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&FloatTensor> {
        self.tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok().map(|i| &self.tensors[i])
    }
}

impl FloatTensor {
    /// Bytes in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// First byte in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether [`FloatTensor::values`] can read the tensor's type.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`].
    pub fn check_type(&self) -> Result<()> {
        match self.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 => Ok(()),
            other => Err(unsupported(&self.name, &format!("{other:?}"))),
        }
    }

    /// Its values as f32.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`]; [`Error::Malformed`] for a value that is not finite; out of memory; what the
    /// source gives.
    pub async fn values(&self, source: &mut dyn ByteSource) -> Result<Vec<f32>> {
        self.check_type()?;
        let bytes = read_growing(source, self.offset, self.bytes).await?;
        let values: Vec<f32> = match self.dtype {
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => {
                bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            #[allow(clippy::cast_possible_truncation)]
            // to the nearest f32, which the check below may find infinite
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        };
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(Error::Malformed {
                what: format!(
                    "value {at} of tensor {} is {}: the file is damaged, or was so when it was written",
                    self.name, values[at]
                ),
            }),
            None => Ok(values),
        }
    }
}

fn unsupported(tensor: &str, found: &str) -> Error {
    let (tensor, found) = (tensor.to_owned(), found.to_owned());
    Error::UnsupportedType { tensor, found, supported: SUPPORTED.to_owned() }
}

/// The error for a header whose only fault may be a type that the crate does not know.
fn unknown_type(header: &[u8]) -> Option<Error> {
    let tensors: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    tensors.iter().find_map(|(tensor, info)| {
        let found = info.get("dtype")?.as_str()?;
        let known = serde_json::from_value::<Dtype>(found.into()).is_ok();
        (!known).then(|| unsupported(tensor, found))
    })
}

/// What a file of another kind is, and what to do with it; `None` for one that may be a safetensors file.
fn other_kind(head: &[u8; 8]) -> Option<&'static str> {
    Some(match FileKind::of(head) {
        FileKind::Unknown | FileKind::Safetensors => return None,
        FileKind::Zip => {
            "a zip archive; so are PyTorch checkpoints (.pth, .pt, .ckpt): in Python, load it with torch.load(…, \
            weights_only=True) and write its tensors with safetensors.torch.save_file"
        }
        FileKind::PyTorch => {
            "a PyTorch checkpoint (.pth, .pt, .ckpt): in Python, load it with torch.load(…, weights_only=True) and \
            write its tensors with safetensors.torch.save_file"
        }
        FileKind::Gguf => {
            "a GGUF file: open a language model as such; a VAE is read from diffusers' safetensors file"
        }
        FileKind::Picture => {
            "a picture (PNG, JPEG, GIF): open the model's safetensors file first, then the picture"
        }
        FileKind::Riff => "a RIFF file (WebP, WAV): open the model's safetensors file first",
        FileKind::Hdf5 => "an HDF5 file (Keras): give diffusers' safetensors file",
        FileKind::Numpy => "a NumPy array: latents are opened as latents, not as a model",
        FileKind::TfLite => "a TensorFlow Lite model: give diffusers' safetensors file",
        FileKind::Json => {
            "JSON text: a config must be called config.json, and weights are in the .safetensors file"
        }
        kind => kind.words(),
    })
}
