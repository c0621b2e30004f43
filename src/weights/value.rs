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

/// Bytes of one element of a GGUF value type, up to 8; `None` for strings, arrays and unknown types.
fn scalar_bytes(kind: u32) -> Option<u8> {
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
            reader.append(bytes.into(), &mut raw).await?;
            let unsigned = widened(&raw);
            match kind {
                6 => Value::Float(single(unsigned).into()),
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

/// Up to eight bytes as a little-endian number.
fn widened(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The float whose bits are the low half of a word.
fn single(word: u64) -> f32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    f32::from_le_bytes([a, b, c, d])
}

/// The f32 nearest to the double whose bits these are.
#[allow(clippy::cast_possible_truncation)] // infinite beyond the range of f32
fn nearest(word: u64) -> f32 {
    f64::from_bits(word) as f32
}

/// The low `bytes` bytes of `value` as a two's complement number.
fn sign_extend(value: u64, bytes: u8) -> i64 {
    let shift = 64 - 8 * u32::from(bytes);
    (value << shift).cast_signed() >> shift
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
    reader.append(count * u64::from(bytes), &mut raw).await?;
    let words = raw.chunks_exact(bytes.into()).map(widened);
    Ok(match kind {
        6 => Value::Floats(words.map(single).collect()),
        12 => Value::Floats(words.map(nearest).collect()),
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
