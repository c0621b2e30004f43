//! safetensors: the header by the format's own crate, the tensors by range reads.

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::dtype::DType;
use crate::error::{Error, Result};

use super::source::{ByteSource, read_growing};

/// A header longer than this is none: image networks have a few thousand tensors of a hundred bytes.
const MAX_HEADER: u64 = 16 << 20;

/// One tensor of floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloatTensor {
    /// Name in the file.
    pub name: String,
    /// Outermost dimension first, as PyTorch has them.
    pub shape: Vec<usize>,
    /// F32, F16 or BF16.
    pub dtype: DType,
    /// First byte in the file.
    offset: u64,
    bytes: u64,
}

/// What is in a safetensors file.
#[derive(Debug, Clone, Default)]
pub struct FloatTensors {
    tensors: Vec<FloatTensor>,
    config: Option<String>,
}

impl FloatTensors {
    /// Reads the header. Tensors of other types are left out, so that a file may hold them as long as
    /// nobody asks for one.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no such header, [`Error::Truncated`] for a file that ends before its
    /// last tensor, and what the source gives.
    pub async fn read(source: &mut dyn ByteSource) -> Result<Self> {
        let name = source.name().to_owned();
        let malformed = |what: String| Error::Malformed { what: format!("{name}: {what}") };
        let mut length = [0; 8];
        source.read_at(0, &mut length).await?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(malformed(format!("a safetensors header of {length} bytes")));
        }
        let header = read_growing(source, 8, length).await?;
        // The crate checks that the tensors follow each other without gap or overlap, and that their
        // sizes are those of their shapes.
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| malformed(e.to_string()))?;
        let begin = 8 + length;
        let needed = begin + metadata.data_len() as u64;
        if let Some(actual) = source.size().await?
            && actual < needed
        {
            return Err(Error::Truncated { name, needed, actual });
        }
        let mut tensors: Vec<FloatTensor> = Vec::new();
        for (name, info) in metadata.tensors() {
            let dtype = match info.dtype {
                Dtype::F32 => DType::F32,
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                _ => continue,
            };
            let (from, to) = info.data_offsets;
            tensors.push(FloatTensor {
                name,
                shape: info.shape.clone(),
                dtype,
                offset: begin + from as u64,
                bytes: (to - from) as u64,
            });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let config = metadata.metadata().as_ref().and_then(|notes| notes.get("config").cloned());
        Ok(FloatTensors { tensors, config })
    }

    /// The note `config` of the header: diffusers' `config.json`, where whoever wrote the file put it there.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// All tensors, by name.
    #[must_use]
    pub fn all(&self) -> &[FloatTensor] {
        &self.tensors
    }

    /// All tensors, as they follow each other in the file.
    pub fn in_file_order(&self) -> impl Iterator<Item = &FloatTensor> {
        let mut tensors: Vec<&FloatTensor> = self.tensors.iter().collect();
        tensors.sort_by_key(|tensor| tensor.offset);
        tensors.into_iter()
    }

    /// The tensor of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&FloatTensor> {
        self.tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok().map(|i| &self.tensors[i])
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn get(&self, name: &str) -> Result<&FloatTensor> {
        self.find(name).ok_or_else(|| Error::MissingTensor { tensor: name.to_owned() })
    }
}

impl FloatTensor {
    /// Bytes in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its values as f32.
    ///
    /// # Errors
    /// What the source gives.
    pub async fn values(&self, source: &mut dyn ByteSource) -> Result<Vec<f32>> {
        let bytes = read_growing(source, self.offset, self.bytes).await?;
        Ok(match self.dtype {
            DType::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            DType::BF16 => {
                bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            _ => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        })
    }
}
