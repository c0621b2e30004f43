//! Reading GGUF strings, scalars and arrays, each length against its cap and the bytes that remain.

use crate::error::{Error, Result};
use crate::weights::metadata::{StringArray, Value};
use crate::weights::reader::Reader;

/// Ours: the longest strings in use are chat templates of some 20 KB (llama.cpp allows 1 GiB).
const MAX_STRING: u64 = 16 << 20;
/// Ours: the longest arrays in use are merges, some 500 000 (llama.cpp allows 2^30).
const MAX_ARRAY: u64 = 1 << 24;

pub(super) fn malformed<T>(what: String) -> Result<T> {
    Err(Error::Malformed { what })
}

/// `count` if it is at most `cap`.
pub(super) fn capped(count: u64, cap: u64, what: impl FnOnce() -> String) -> Result<u64> {
    if count <= cap {
        return Ok(count);
    }
    malformed(format!("{} is {count}, more than {cap}", what()))
}

/// A string with its length in front; `what` names the length in messages.
pub(super) async fn read_string(
    reader: &mut Reader<'_>,
    cap: u64,
    what: impl Fn() -> String,
) -> Result<String> {
    let length = capped(reader.u64().await?, cap, &what)?;
    let mut bytes = Vec::new();
    reader.append(length, &mut bytes).await?;
    String::from_utf8(bytes).or_else(|_| malformed(format!("a string is not UTF-8 ({})", what())))
}

/// Bytes of one element of a GGUF value type; `None` for strings, arrays and unknown types.
fn scalar_bytes(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// The value of metadata `key`, with its type in front.
pub(super) async fn read_value(reader: &mut Reader<'_>, key: &str) -> Result<Value> {
    let kind = reader.u32().await?;
    Ok(match kind {
        8 => {
            let what = || format!("the length of the string {key}");
            Value::String(read_string(reader, MAX_STRING, what).await?)
        }
        9 => read_array(reader, key).await?,
        _ => {
            let Some(bytes) = scalar_bytes(kind) else {
                return malformed(format!("metadata {key} has unknown type {kind}"));
            };
            let mut raw = Vec::new();
            reader.append(bytes, &mut raw).await?;
            let mut wide = [0; 8];
            wide[..raw.len()].copy_from_slice(&raw);
            let unsigned = u64::from_le_bytes(wide);
            match kind {
                6 => Value::Float(f32::from_bits(unsigned as u32).into()),
                12 => Value::Float(f64::from_bits(unsigned)),
                7 if unsigned > 1 => {
                    return malformed(format!("the boolean {key} is {unsigned}"));
                }
                7 => Value::Bool(unsigned == 1),
                1 | 3 | 5 | 11 => Value::Signed(sign_extend(unsigned, bytes)),
                _ => Value::Unsigned(unsigned),
            }
        }
    })
}

/// The low `bytes` bytes of `value` as a two's complement number.
fn sign_extend(value: u64, bytes: u64) -> i64 {
    let shift = 64 - 8 * bytes as u32;
    ((value << shift) as i64) >> shift
}

async fn read_array(reader: &mut Reader<'_>, key: &str) -> Result<Value> {
    let kind = reader.u32().await?;
    let count = capped(reader.u64().await?, MAX_ARRAY, || format!("the length of the array {key}"))?;
    if kind == 8 {
        reader.require(count * 8)?;
        let mut strings = StringArray::default();
        let mut string = Vec::new();
        for _ in 0..count {
            let what = || format!("the length of a string in the array {key}");
            let length = capped(reader.u64().await?, MAX_STRING, what)?;
            string.clear();
            reader.append(length, &mut string).await?;
            strings.push(&string)?;
        }
        strings.shrink();
        return Ok(Value::Strings(strings));
    }
    let Some(bytes) = scalar_bytes(kind) else {
        return malformed(match kind {
            9 => format!("metadata {key} is an array of arrays"),
            _ => format!("metadata {key} is an array of unknown type {kind}"),
        });
    };
    let mut raw = Vec::new();
    reader.append(count * bytes, &mut raw).await?;
    let words = raw.chunks_exact(bytes as usize).map(|chunk| {
        let mut wide = [0; 8];
        wide[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(wide)
    });
    Ok(match kind {
        6 => Value::Floats(words.map(|word| f32::from_bits(word as u32)).collect()),
        12 => Value::Floats(words.map(|word| f64::from_bits(word) as f32).collect()),
        _ => {
            let signed = matches!(kind, 1 | 3 | 5 | 11);
            let number = |word| match signed {
                true => sign_extend(word, bytes),
                false => i64::try_from(word).unwrap_or(i64::MAX),
            };
            let narrow: Option<Vec<i32>> =
                words.clone().map(|word| i32::try_from(number(word)).ok()).collect();
            match narrow {
                Some(narrow) => Value::Integers(narrow),
                None if !signed && words.clone().any(|word| i64::try_from(word).is_err()) => {
                    return malformed(format!("a number in the array {key} is over 2^63"));
                }
                None => Value::Wide(words.map(number).collect()),
            }
        }
    })
}
