//! Spellings of bytes in token texts, and text from bytes that arrive in pieces.

/// SentencePiece's visible space, U+2581.
const SPACE: &[u8] = "▁".as_bytes();

/// The character that stands for `byte` in a byte-level vocabulary: itself if it is printable in
/// Latin-1, else one from U+0100 on, in order (GPT-2's `bytes_to_unicode`).
pub(crate) fn byte_level_char(byte: u8) -> char {
    let code = u32::from(byte);
    let shifted = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x00..=0x20 => 0x100 + code,
        0x7F..=0xA0 => 0x121 + code - 0x7F,
        0xAD => 0x143,
    };
    char::from_u32(shifted).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that `c` stands for in a byte-level vocabulary.
fn byte_of(c: char) -> Option<u8> {
    let code = c as u32;
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Appends what a byte-level token text stands for. Characters outside the byte alphabet, and texts
/// that are not UTF-8, stand for themselves.
pub(crate) fn from_byte_level(text: &[u8], to: &mut Vec<u8>) {
    match std::str::from_utf8(text) {
        Err(_) => to.extend_from_slice(text),
        Ok(text) => {
            for c in text.chars() {
                match byte_of(c) {
                    Some(byte) => to.push(byte),
                    None => to.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
        }
    }
}

/// Appends `text` with every `▁` as a space.
pub(crate) fn unescape_spaces(text: &[u8], to: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(&first) = rest.first() {
        match rest.strip_prefix(SPACE) {
            Some(after) => {
                to.push(b' ');
                rest = after;
            }
            None => {
                to.push(first);
                rest = &rest[1..];
            }
        }
    }
}

/// The byte of a token text `<0xXX>`.
pub(crate) fn from_hex(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let digits = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

/// Turns bytes that arrive in pieces into text, never cutting a character.
#[derive(Debug, Clone, Default)]
pub(crate) struct Utf8Stream {
    /// The start of a character whose end has not come: at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// Adds bytes; returns the characters that are complete. Bytes that can never become one are
    /// given as U+FFFD.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    if let Some(length) = error.error_len() {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &rest[length..];
                        continue;
                    }
                }
            }
            break;
        }
        self.pending = rest.to_vec();
        text
    }

    /// The rest: U+FFFD if a character stayed incomplete, else nothing.
    pub(crate) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}
