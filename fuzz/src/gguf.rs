//! Writes GGUF files, right and wrong ones. Format: ggml's `docs/gguf.md`.

use emberglass::weights::metadata::Value;

/// A tensor of the directory, and its bytes.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    pub dims: Vec<u64>,
    /// Type number of GGUF.
    pub kind: u32,
    pub data: Vec<u8>,
}

/// What a file holds.
#[derive(Debug, Clone, Default)]
pub struct File {
    pub keys: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

const ALIGNMENT: usize = 32;

impl File {
    /// The bytes of the file, version 3.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            text(&mut out, key.as_bytes());
            write(&mut out, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            text(&mut out, tensor.name.as_bytes());
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(&tensor.data);
        }
        out
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn array(out: &mut Vec<u8>, kind: u32, count: usize) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((count as u64).to_le_bytes());
}

/// Type number and value.
fn write(out: &mut Vec<u8>, value: &Value) {
    let mut one = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::Unsigned(v) => match u32::try_from(*v) {
            Ok(v) => one(4, &v.to_le_bytes()),
            Err(_) => one(10, &v.to_le_bytes()),
        },
        Value::Signed(v) => one(11, &v.to_le_bytes()),
        Value::Float(v) => one(6, &(*v as f32).to_le_bytes()),
        Value::Bool(v) => one(7, &[u8::from(*v)]),
        Value::String(v) => {
            one(8, &[]);
            text(out, v.as_bytes());
        }
        Value::Strings(v) => {
            array(out, 8, v.iter().count());
            v.iter().for_each(|v| text(out, v));
        }
        Value::Integers(v) => {
            array(out, 5, v.len());
            v.iter().for_each(|v| out.extend(v.to_le_bytes()));
        }
        Value::Wide(v) => {
            array(out, 11, v.len());
            v.iter().for_each(|v| out.extend(v.to_le_bytes()));
        }
        Value::Floats(v) => {
            array(out, 6, v.len());
            v.iter().for_each(|v| out.extend(v.to_le_bytes()));
        }
    }
}
