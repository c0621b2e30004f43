//! Kinds of file that people give where a model is expected, told by the first bytes.

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Zip,
    Gzip,
    SevenZip,
    PyTorch,
    Gguf,
    /// llama.cpp's formats before GGUF.
    OldGgml,
    Safetensors,
    Picture,
    Riff,
    Hdf5,
    Numpy,
    TfLite,
    Pdf,
    LfsPointer,
    WebPage,
    Json,
    Text,
    Unknown,
}

impl FileKind {
    /// How many bytes [`FileKind::of`] looks at.
    pub(super) const HEAD: usize = 16;

    /// The kind of a file that begins with `head`.
    pub(super) fn of(head: &[u8]) -> Self {
        let text = head.trim_ascii_start();
        match head {
            [b'P', b'K', 3, 4, ..] => FileKind::Zip,
            [0x1f, 0x8b, ..] => FileKind::Gzip,
            [b'7', b'z', 0xbc, 0xaf, ..] => FileKind::SevenZip,
            [0x80, 2..=5, ..] => FileKind::PyTorch,
            [b'G', b'G', b'U', b'F', ..] => FileKind::Gguf,
            // The magic number is a little-endian u32, so its letters are stored backwards.
            [b'l', b'm', b'g', b'g', ..]
            | [b'f', b'm', b'g', b'g', ..]
            | [b't', b'j', b'g', b'g', ..]
            | [b'a', b'l', b'g', b'g', ..] => FileKind::OldGgml,
            [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] | [b'G', b'I', b'F', b'8', ..] => {
                FileKind::Picture
            }
            [b'R', b'I', b'F', b'F', ..] => FileKind::Riff,
            [0x89, b'H', b'D', b'F', ..] => FileKind::Hdf5,
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => FileKind::Numpy,
            [_, _, _, _, b'T', b'F', b'L', b'3', ..] => FileKind::TfLite,
            [b'%', b'P', b'D', b'F', ..] => FileKind::Pdf,
            [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => FileKind::LfsPointer,
            // The length of the header, and the header, which is JSON.
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => FileKind::Safetensors,
            _ if text.starts_with(b"<") => FileKind::WebPage,
            _ if text.starts_with(b"{") || text.starts_with(b"[") => FileKind::Json,
            _ if !head.is_empty() && is_text(head) => FileKind::Text,
            _ => FileKind::Unknown,
        }
    }

    /// A stable word for programs.
    pub(super) fn code(self) -> &'static str {
        match self {
            FileKind::Zip => "zip",
            FileKind::Gzip => "gzip",
            FileKind::SevenZip => "7z",
            FileKind::PyTorch => "pytorch",
            FileKind::Gguf => "gguf",
            FileKind::OldGgml => "old-ggml",
            FileKind::Safetensors => "safetensors",
            FileKind::Picture => "picture",
            FileKind::Riff => "riff",
            FileKind::Hdf5 => "hdf5",
            FileKind::Numpy => "numpy",
            FileKind::TfLite => "tflite",
            FileKind::Pdf => "pdf",
            FileKind::LfsPointer => "lfs-pointer",
            FileKind::WebPage => "web-page",
            FileKind::Json => "json",
            FileKind::Text => "text",
            FileKind::Unknown => "unknown",
        }
    }

    /// For messages: what the file is, as a noun phrase, and what to do where that does not depend on the expected kind.
    pub(super) fn words(self) -> &'static str {
        match self {
            FileKind::Zip => "a zip archive: unpack it first",
            FileKind::Gzip => "a gzip archive: unpack it first",
            FileKind::SevenZip => "a 7z archive: unpack it first",
            FileKind::PyTorch => "a PyTorch checkpoint",
            FileKind::Gguf => "a GGUF file",
            FileKind::OldGgml => "a model in llama.cpp's format before GGUF: take a GGUF file of it",
            FileKind::Safetensors => "a safetensors file",
            FileKind::Picture => "a picture (PNG, JPEG, GIF)",
            FileKind::Riff => "a RIFF file (WebP, WAV)",
            FileKind::Hdf5 => "an HDF5 file (Keras)",
            FileKind::Numpy => "a NumPy array",
            FileKind::TfLite => "a TensorFlow Lite model",
            FileKind::Pdf => "a PDF document",
            FileKind::LfsPointer => {
                "a pointer of Git LFS: download the file itself, not what a clone without LFS leaves"
            }
            FileKind::WebPage => {
                "a web page (HTML or XML): the address is that of a page, or the server answered with one; give the \
                address that downloads the file, or name a model on Hugging Face as hf:owner/repo"
            }
            FileKind::Json => "JSON text",
            FileKind::Text => "text: perhaps a server's error message; open the file to see",
            FileKind::Unknown => "a file of a kind that is not known here",
        }
    }
}

/// UTF-8 without control characters; its last character may be cut off.
fn is_text(head: &[u8]) -> bool {
    let whole = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !whole.is_empty() && whole.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}
