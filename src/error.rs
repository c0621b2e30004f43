//! The one error type. Every variant carries its operands and has a stable [`Error::code`], which
//! is the same string in Rust, in the worker and in the page.

use std::borrow::Cow;
use std::fmt::{Display, LowerExp};

/// Everything that can go wrong, from the first byte of a file to the last token.
///
/// The message says what happened and, where the user can act, what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    // === Device ===
    /// The browser has no WebGPU at all.
    #[error(
        "this browser has no WebGPU (navigator.gpu is missing): use a current Chrome, Edge, Firefox or Safari, and open the page over https or on localhost"
    )]
    NoWebGpu,
    /// WebGPU or Vulkan exists, but no adapter was offered.
    #[error(
        "no graphics adapter was offered ({reason}): turn hardware acceleration on in the browser's settings, or update the graphics driver"
    )]
    NoAdapter {
        /// What the API said.
        reason: String,
    },
    /// The adapter refused to make a device.
    #[error("the graphics adapter {adapter} refused a device: {reason}")]
    DeviceRequest {
        /// Adapter name.
        adapter: String,
        /// What the API said.
        reason: String,
    },
    /// The device went away (driver reset, tab in the background, out of memory).
    #[error("the graphics device was lost ({reason}): load the model again to go on")]
    DeviceLost {
        /// What the API said.
        reason: String,
    },
    /// A GPU buffer, or memory of the CPU path, could not be allocated.
    #[error(
        "out of memory while allocating {bytes} bytes for {what}: choose a shorter context or a smaller model, or close other tabs"
    )]
    OutOfMemory {
        /// What the buffer was for.
        what: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A model is larger than the memory that there can be, as its header shows: nothing was allocated.
    #[error(
        "the model takes {} of memory, of which there is at most {}. {}What helps: {}",
        in_words(*needed),
        in_words(*most),
        share_of_cache(*cache_bytes, *context_length, kv),
        helps.join(", or ")
    )]
    DoesNotFit {
        /// Bytes that it takes, with what is in memory beside it.
        needed: u64,
        /// Bytes that there can be.
        most: u64,
        /// Of what is needed, bytes of the KV cache.
        cache_bytes: u64,
        /// Tokens that the cache holds.
        context_length: u32,
        /// What it holds of them.
        kv: &'static str,
        /// What the caller can do, the mildest first.
        helps: Vec<String>,
    },
    /// A helper worker of the CPU path is gone.
    #[error("a worker stopped answering ({what}): load the model again to go on")]
    WorkerFailed {
        /// Which one, and how it shows.
        what: String,
    },
    /// Something needs more than the device's limit.
    #[error("{what} needs {needed} of {limit}, the device allows {allowed}")]
    DeviceLimit {
        /// Which tensor or kernel.
        what: String,
        /// WebGPU's name of the limit.
        limit: &'static str,
        /// How much is needed.
        needed: u64,
        /// How much there is.
        allowed: u64,
    },
    /// A shader failed to expand or to compile, or a command was refused by validation.
    #[error("GPU program {label} is invalid: {reason}")]
    Gpu {
        /// Pipeline or operation.
        label: String,
        /// What the compiler or the validation said.
        reason: String,
    },

    // === Bytes ===
    /// A download failed, and retrying did not help or could not.
    #[error("the download of {url} failed at byte {offset}: {reason}")]
    Network {
        /// Address of the file, without query and password.
        url: String,
        /// First byte of the file that did not arrive.
        offset: u64,
        /// What kind of failure it was.
        cause: NetworkCause,
        /// What is known of the cause, and what to do.
        reason: String,
    },
    /// The server answered with a status that is not success.
    #[error(
        "the server answered {status} for {url}{}: {}",
        redirected_to.as_ref().map_or(String::new(), |to| format!(" (redirected to {to})")),
        meaning_of_status(*status)
    )]
    HttpStatus {
        /// Address of the file, without query and password.
        url: String,
        /// HTTP status code.
        status: u16,
        /// The address that answered, if the server redirected.
        redirected_to: Option<String>,
    },
    /// A local file or Blob could not be read.
    #[error("reading {name} failed at byte {offset}: {reason}")]
    Io {
        /// File name.
        name: String,
        /// Where.
        offset: u64,
        /// What the system said.
        reason: String,
    },
    /// The file ends before the data it announces.
    #[error("{name} {}", truncation(*needed, *actual))]
    Truncated {
        /// File name or address.
        name: String,
        /// Bytes announced.
        needed: u64,
        /// Bytes there are.
        actual: u64,
    },

    // === File format ===
    /// The first four bytes are not `GGUF`.
    #[error("{name} is not a GGUF file but {what}")]
    NotGguf {
        /// File name or address.
        name: String,
        /// A stable word for what the file is, such as `zip`, `web-page`, `text`; `unknown`.
        kind: &'static str,
        /// What it is, in words.
        what: String,
    },
    /// GGUF version outside 2 and 3.
    #[error("GGUF version {version} is not supported (2 and 3 are)")]
    UnsupportedVersion {
        /// Version in the file.
        version: u32,
    },
    /// A length, count, offset or value in the file makes no sense.
    #[error("malformed file: {what}")]
    Malformed {
        /// What is wrong and where.
        what: String,
    },
    /// A tensor type that has no kernel.
    #[error("tensor {tensor} has type {found}, which is not supported (supported: {supported})")]
    UnsupportedType {
        /// Tensor name.
        tensor: String,
        /// GGML type name or number.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// An architecture that has no model file.
    #[error("architecture {found} is not supported (supported: {supported})")]
    UnsupportedArchitecture {
        /// `general.architecture` of the file.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// A variant of a supported architecture that this build cannot compute.
    #[error("this model is not supported: {what}")]
    UnsupportedModel {
        /// Which feature, tensor or key.
        what: String,
    },
    /// A tensor the architecture needs is not in the file.
    #[error("tensor {tensor} is missing from the file")]
    MissingTensor {
        /// Tensor name.
        tensor: String,
    },
    /// A metadata key the architecture needs is not in the file, or has the wrong type.
    #[error("metadata {key} is missing or is not {expected}")]
    MissingMetadata {
        /// Metadata key.
        key: String,
        /// Expected type.
        expected: &'static str,
    },
    /// A tensor's shape is not what the metadata says.
    #[error("{what}: shape {found:?} does not match {expected:?}")]
    ShapeMismatch {
        /// Tensor or operation.
        what: String,
        /// Shape found, in the order of the file: GGUF has the fastest dimension first, safetensors last.
        found: Vec<u64>,
        /// Shape expected.
        expected: Vec<u64>,
    },
    /// Weights are NaN or infinite, or so large that what is computed with them is.
    #[error(
        "the weights hold values that are not numbers (NaN or infinite), seen in {place}: the file is damaged or was converted wrongly; download it again or take another file"
    )]
    NotFinite {
        /// Tensor, or the result in which it shows.
        place: String,
    },
    /// The shards given are not the shards of one model.
    #[error("split model: {what}")]
    SplitMismatch {
        /// What does not fit.
        what: String,
    },

    // === Text ===
    /// A tokenizer model or pre-tokenizer that is not known.
    #[error("tokenizer {found} is not supported (supported: {supported})")]
    UnsupportedTokenizer {
        /// `tokenizer.ggml.model` or `tokenizer.ggml.pre`.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// Tokenizing failed.
    #[error("tokenizing failed: {reason}")]
    Tokenizer {
        /// What the library said.
        reason: String,
    },
    /// The chat template did not compile or render.
    #[error("the model's chat template failed: {reason}")]
    Template {
        /// What the library said.
        reason: String,
    },
    /// Chat messages were given to a model without a chat template.
    #[error("this model has no chat template, so it takes no messages: give it a text to continue")]
    NoChatTemplate,

    // === Generation ===
    /// The prompt does not fit the context.
    #[error(
        "the prompt has {prompt_tokens} tokens, {} too many: the context holds {context_length}, one of which must be left for the answer. {}",
        (prompt_tokens + 1).saturating_sub(*context_length),
        remedy_of_overflow(*context_length, *trained)
    )]
    ContextOverflow {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Capacity of the KV cache in tokens.
        context_length: usize,
        /// The largest capacity that the model can be loaded with.
        trained: usize,
    },
    /// The prompt does not fit the context, as its length shows before it is encoded.
    #[error(
        "the prompt has {bytes} bytes, which are at least {least_tokens} tokens, and the context holds {context_length}. {}",
        remedy_of_overflow(*context_length, *trained)
    )]
    PromptTooLong {
        /// Length of the prompt's text.
        bytes: usize,
        /// Tokens of the prompt, if all were the longest of the vocabulary.
        least_tokens: usize,
        /// Capacity of the KV cache in tokens.
        context_length: usize,
        /// The largest capacity that the model can be loaded with.
        trained: usize,
    },
    /// A text is too long to be made tokens.
    #[error("the text has {bytes} bytes, more than the {most} that are made tokens at once: divide it")]
    TextTooLong {
        /// Length of the text.
        bytes: usize,
        /// The most that is allowed.
        most: usize,
    },
    /// The prompt has no text at all.
    #[error("the prompt is empty: give a text to continue, or a message with text in it")]
    EmptyPrompt,
    /// Every logit is NaN or minus infinity.
    #[error(
        "no token can be drawn: every logit is minus infinity or not a number. The sampling options forbid every token, or the model's weights are damaged: download it again"
    )]
    NoCandidates,
    /// K or V of a token is not a number that the KV cache can hold.
    #[error(
        "K or V of a token is too large for a KV cache of {kv}, or is not a number: load with the KV cache \"f32\" (option kvCache)"
    )]
    KvOverflow {
        /// What the cache holds.
        kv: &'static str,
    },
    /// An option is out of its range.
    #[error("option {option} = {value} is out of range ({range})")]
    InvalidOption {
        /// Name of the option.
        option: &'static str,
        /// Value given.
        value: String,
        /// Values allowed.
        range: Cow<'static, str>,
    },
    /// The caller cancelled.
    #[error("cancelled by the caller")]
    Aborted,
    /// The model is already generating.
    #[error("the model is busy with another request: await it or stop it first")]
    Busy,
    /// Something that cannot happen did; please report it.
    #[error("internal error: {what}")]
    Internal {
        /// What was violated.
        what: String,
    },
}

impl Error {
    /// A short stable identifier, the same in Rust and JavaScript. Never reworded.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::NoWebGpu => "no-webgpu",
            Error::NoAdapter { .. } => "no-adapter",
            Error::DeviceRequest { .. } => "device-request",
            Error::DeviceLost { .. } => "device-lost",
            Error::OutOfMemory { .. } | Error::DoesNotFit { .. } => "out-of-memory",
            Error::WorkerFailed { .. } => "worker-failed",
            Error::DeviceLimit { .. } => "device-limit",
            Error::Gpu { .. } => "gpu",
            Error::Network { .. } => "network",
            Error::HttpStatus { .. } => "http-status",
            Error::Io { .. } => "io",
            Error::Truncated { .. } => "truncated",
            Error::NotGguf { .. } => "not-gguf",
            Error::UnsupportedVersion { .. } => "unsupported-version",
            Error::Malformed { .. } => "malformed",
            Error::UnsupportedType { .. } => "unsupported-type",
            Error::UnsupportedArchitecture { .. } => "unsupported-architecture",
            Error::UnsupportedModel { .. } => "unsupported-model",
            Error::MissingTensor { .. } => "missing-tensor",
            Error::MissingMetadata { .. } => "missing-metadata",
            Error::ShapeMismatch { .. } => "shape-mismatch",
            Error::NotFinite { .. } => "not-finite",
            Error::SplitMismatch { .. } => "split-mismatch",
            Error::UnsupportedTokenizer { .. } => "unsupported-tokenizer",
            Error::Tokenizer { .. } => "tokenizer",
            Error::Template { .. } => "template",
            Error::NoChatTemplate => "no-chat-template",
            Error::ContextOverflow { .. } | Error::PromptTooLong { .. } => "context-overflow",
            Error::TextTooLong { .. } => "text-too-long",
            Error::EmptyPrompt => "empty-prompt",
            Error::NoCandidates => "no-candidates",
            Error::KvOverflow { .. } => "kv-overflow",
            Error::InvalidOption { .. } => "invalid-option",
            Error::Aborted => "aborted",
            Error::Busy => "busy",
            Error::Internal { .. } => "internal",
        }
    }

    /// What tells errors of one code apart, for programs: of `network` and `not-gguf` a stable word; of
    /// `truncated` `empty` for a file without a byte; of `unsupported-architecture`, `unsupported-type` and `unsupported-tokenizer` what the file has; of `invalid-option`
    /// the option's name.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Error::Network { cause, .. } => Some(cause.code()),
            Error::Truncated { actual: 0, .. } => Some("empty"),
            Error::NotGguf { kind, .. } => Some(kind),
            Error::UnsupportedArchitecture { found, .. }
            | Error::UnsupportedType { found, .. }
            | Error::UnsupportedTokenizer { found, .. } => Some(found),
            Error::InvalidOption { option, .. } => Some(option),
            _ => None,
        }
    }
}

/// Bytes in decimal units, as file sizes are, with three digits.
fn in_words(bytes: u64) -> String {
    let (unit, name) = if bytes >= 1_000_000_000 { (1e9, "GB") } else { (1e6, "MB") };
    let value = bytes as f64 / unit;
    let decimals = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {name}")
}

fn share_of_cache(bytes: u64, context_length: u32, kv: &str) -> String {
    if bytes == 0 {
        return String::new();
    }
    format!("Of it the cache for a context of {context_length} tokens takes {} ({kv}). ", in_words(bytes))
}

/// Why a download failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkCause {
    /// There was no connection, or it broke.
    Lost,
    /// The device has no network.
    Offline,
    /// The server sent nothing for too long.
    Stalled,
    /// The server does not let this page read the file (CORS).
    Cors,
    /// The browser does not load from that address: a policy, mixed content, or an unknown scheme.
    Blocked,
    /// The file on the server is no longer the one whose first bytes were read.
    Changed,
    /// The server's answer contradicts itself or the request.
    WrongAnswer,
}

impl NetworkCause {
    /// A stable word for programs, the same in JavaScript.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            NetworkCause::Lost => "lost",
            NetworkCause::Offline => "offline",
            NetworkCause::Stalled => "stalled",
            NetworkCause::Cors => "cors",
            NetworkCause::Blocked => "blocked",
            NetworkCause::Changed => "changed",
            NetworkCause::WrongAnswer => "wrong-answer",
        }
    }
}

fn truncation(needed: u64, actual: u64) -> String {
    match actual {
        0 => "is empty: download it again".to_owned(),
        _ => format!("is truncated: it needs {needed} bytes and has {actual}; download it again"),
    }
}

/// What to do about a prompt that does not fit.
fn remedy_of_overflow(context_length: usize, trained: usize) -> String {
    let larger = if context_length < trained {
        format!(", or load with a larger contextLength (at most {trained} for this model)")
    } else {
        String::new()
    };
    format!("Shorten the text, take back earlier messages (undo), begin a new chat (reset){larger}")
}

/// A number of a caller, as JavaScript spells it.
pub(crate) fn spelled<T: Copy + Into<f64> + Display + LowerExp>(number: T) -> String {
    let wide: f64 = number.into();
    if wide.is_infinite() {
        return if wide > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if wide.abs() < 1e21 { number.to_string() } else { format!("{number:e}") }
}

/// What a status means to somebody who wants to load a file.
fn meaning_of_status(status: u16) -> &'static str {
    match status {
        401 | 403 | 407 => "this page may not read the file, or not without a login",
        404 | 410 => "there is no file at this address",
        408 | 425 | 429 => "it wants to be asked later",
        500..=599 => "the server has a fault; try again later",
        _ => "this is not a file that can be loaded",
    }
}

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_in_javascript() {
        let spellings = [0.5, -1.0, 1e20, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(spelled);
        assert_eq!(
            spellings,
            ["0.5", "-1", "100000000000000000000", "1e300", "NaN", "Infinity", "-Infinity"]
        );
        assert_eq!(spelled(0.1f32), "0.1");
    }

    #[test]
    fn an_overflow_says_how_many_tokens_are_too_many_and_what_to_do() {
        let told = |prompt_tokens, context_length, trained| {
            Error::ContextOverflow { prompt_tokens, context_length, trained }.to_string()
        };
        assert!(told(64, 64, 64).starts_with("the prompt has 64 tokens, 1 too many: the context holds 64"));
        assert!(told(64, 64, 64).ends_with("begin a new chat (reset)"));
        assert!(told(70, 64, 256).contains("70 tokens, 7 too many"));
        assert!(told(70, 64, 256).ends_with("a larger contextLength (at most 256 for this model)"));
    }
}
