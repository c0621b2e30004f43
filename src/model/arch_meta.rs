//! The metadata of one architecture. Nothing in it is ignored silently: every key under the architecture's name is read,
//! or is on a list of harmless ones, or is an error that names it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::error::{Error, Result};
use crate::graph::{Heads, RopePairs};
use crate::weights::{Metadata, Value};

use super::layout::Scores;
use super::rope::{BASES, FACTORS, RopeTable};

/// Upper bounds for what a file may ask for; far above any model that fits a browser.
const MAX_LAYERS: u32 = 512;
const MAX_WIDTH: u32 = 1 << 16;

/// A model's metadata by keys without the architecture's name in front. It remembers which keys were read, and checks
/// ranges: numbers of a file may be anything.
pub(super) struct ArchMeta<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
    /// Tokens of the context that is asked for.
    context: u32,
    read: RefCell<BTreeSet<String>>,
}

/// A key that may be in a file unread.
pub(super) struct Harmless {
    /// Without the architecture's name.
    pub key: &'static str,
    /// Values with which it changes nothing that is computed.
    pub values: Values,
}

/// Values of a [`Harmless`] key. An array has them if all its elements do.
pub(super) enum Values {
    /// The key says nothing that is computed with.
    Any,
    /// These numbers leave what it names out.
    Numbers(&'static [f64]),
    /// So does this boolean.
    Flag(bool),
    /// So do these words.
    Words(&'static [&'static str]),
}

impl Values {
    fn hold(&self, value: &Value) -> bool {
        match self {
            Values::Any => true,
            Values::Numbers(allowed) => numbers(value).is_some_and(|n| n.iter().all(|n| allowed.contains(n))),
            Values::Flag(flag) => *value == Value::Bool(*flag),
            Values::Words(words) => matches!(value, Value::String(word) if words.contains(&word.as_str())),
        }
    }
}

/// A number, or an array of numbers.
fn numbers(value: &Value) -> Option<Vec<f64>> {
    Some(match value {
        Value::Unsigned(n) => vec![*n as f64],
        Value::Signed(n) => vec![*n as f64],
        Value::Float(n) => vec![*n],
        Value::Integers(n) => n.iter().map(|n| f64::from(*n)).collect(),
        Value::Wide(n) => n.iter().map(|n| *n as f64).collect(),
        Value::Floats(n) => n.iter().map(|n| f64::from(*n)).collect(),
        Value::Bool(_) | Value::String(_) | Value::Strings(_) => return None,
    })
}

/// A value for a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Unsigned(n) => n.to_string(),
        Value::Signed(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::String(text) => text.chars().take(80).collect(),
        Value::Strings(_) | Value::Integers(_) | Value::Wide(_) | Value::Floats(_) => "an array".to_owned(),
    }
}

/// Keys that change nothing where an architecture does not read them, and why. Those with numbers or words name a feature
/// that most architectures do not have; with these values it is off.
const HARMLESS: [Harmless; 31] = {
    const fn any(key: &'static str) -> Harmless {
        Harmless { key, values: Values::Any }
    }
    const fn off(key: &'static str, values: &'static [f64]) -> Harmless {
        Harmless { key, values: Values::Numbers(values) }
    }
    [
        // The rows of token_embd.weight say it.
        any("vocab_size"),
        // Of the kind of norm that the architecture does not have.
        any("attention.layer_norm_epsilon"),
        any("attention.layer_norm_rms_epsilon"),
        // How a sentence becomes one vector: for embeddings.
        any("pooling_type"),
        // Whether the model was trained further for the scaling: says nothing of how to scale.
        any("rope.scaling.finetuned"),
        // Of YaRN, where rope.scaling.type names another scaling.
        any("rope.scaling.yarn_log_multiplier"),
        any("rope.scaling.yarn_ext_factor"),
        any("rope.scaling.yarn_attn_factor"),
        any("rope.scaling.yarn_beta_fast"),
        any("rope.scaling.yarn_beta_slow"),
        // Which layers have the window of attention.sliding_window, which is read where it can be shorter than the context.
        any("attention.sliding_window_pattern"),
        // All have the rows of Q and K as their architecture expects them; Falcon's files say jploski.
        Harmless {
            key: "tensor_data_layout",
            values: Values::Words(&["reference", "Meta AI original pth", "jploski"]),
        },
        Harmless { key: "attention.causal", values: Values::Flag(true) },
        Harmless { key: "use_parallel_residual", values: Values::Flag(false) },
        Harmless { key: "hidden_activation", values: Values::Words(&["silu"]) },
        // A mixture of experts is refused by expert_count.
        off("expert_used_count", &[0.0]),
        off("expert_shared_count", &[0.0]),
        off("expert_feed_forward_length", &[0.0]),
        off("expert_shared_feed_forward_length", &[0.0]),
        off("expert_weights_scale", &[0.0, 1.0]),
        off("interleave_moe_layer_step", &[0.0]),
        off("nextn_predict_layers", &[0.0]),
        // llama.cpp takes 0 for a scale that is not there.
        off("logit_scale", &[0.0, 1.0]),
        off("embedding_scale", &[0.0, 1.0]),
        off("residual_scale", &[0.0, 1.0]),
        off("attention.clamp_kqv", &[0.0]),
        off("attention.max_alibi_bias", &[0.0]),
        off("attention.temperature_scale", &[0.0]),
        off("attn_logit_softcapping", &[0.0]),
        off("final_logit_softcapping", &[0.0]),
        off("rope.dimension_sections", &[0.0]),
    ]
};

impl<'a> ArchMeta<'a> {
    pub(super) fn new(metadata: &'a Metadata, architecture: &'a str, context: u32) -> Self {
        ArchMeta { metadata, architecture, context, read: RefCell::default() }
    }

    /// The whole key, which counts as read from now on.
    fn full(&self, key: &str) -> String {
        self.read.borrow_mut().insert(key.to_owned());
        format!("{}.{key}", self.architecture)
    }

    /// An error about a key whose value asks for what is not there.
    pub(super) fn unsupported(&self, key: &str, why: &str) -> Error {
        let full = self.full(key);
        let value = self.metadata.get(&full).map_or("missing".to_owned(), shown);
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        Error::UnsupportedModel { what: format!("{full} = {value}{why}") }
    }

    /// An error about a key whose value makes no sense.
    pub(super) fn malformed(&self, key: &str, found: impl Display, expected: &str) -> Error {
        Error::Malformed { what: format!("{} is {found}, expected {expected}", self.full(key)) }
    }

    /// A whole number within a range.
    pub(super) fn count(&self, key: &str, range: RangeInclusive<u32>) -> Result<u32> {
        let key = self.full(key);
        within(&key, self.metadata.u32(&key)?, range)
    }

    /// [`ArchMeta::count`], or `default` if the key is missing.
    pub(super) fn count_or(&self, key: &str, default: u32, range: RangeInclusive<u32>) -> Result<u32> {
        if self.has(key) { self.count(key, range) } else { Ok(default) }
    }

    /// [`ArchMeta::count`] of a key that may have one number for all layers or an array of one for each, which must be
    /// the same.
    pub(super) fn count_of_layers(&self, key: &str, layers: u32, range: RangeInclusive<u32>) -> Result<u32> {
        let full = self.full(key);
        let Some(Value::Integers(each)) = self.metadata.get(&full) else {
            return self.count(key, range);
        };
        let first = each.first().copied().unwrap_or(0);
        if each.len() as u64 != u64::from(layers) {
            let what = format!("{full} has {} numbers for {layers} layers", each.len());
            return Err(Error::Malformed { what });
        }
        if each.iter().any(|number| *number != first) {
            return Err(self.unsupported(key, "layers differ"));
        }
        within(&full, u32::try_from(first).map_err(|_| outside(&full, first, &range))?, range)
    }

    /// A number within a range.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<f32>) -> Result<f32> {
        let key = self.full(key);
        within(&key, self.metadata.f32(&key)?, range)
    }

    /// [`ArchMeta::number`], or `None` if the key is missing.
    pub(super) fn number_if_any(&self, key: &str, range: RangeInclusive<f32>) -> Result<Option<f32>> {
        if self.has(key) { self.number(key, range).map(Some) } else { Ok(None) }
    }

    /// [`ArchMeta::number`], or `default` if the key is missing.
    pub(super) fn number_or(&self, key: &str, default: f32, range: RangeInclusive<f32>) -> Result<f32> {
        Ok(self.number_if_any(key, range)?.unwrap_or(default))
    }

    /// A factor, a divisor or a cap; `None` if the key is missing or 0, which llama.cpp takes for a missing one.
    pub(super) fn factor(&self, key: &str) -> Result<Option<f32>> {
        match self.number_if_any(key, f32::MIN..=f32::MAX)? {
            None | Some(0.0) => Ok(None),
            Some(_) => self.number(key, FACTORS).map(Some),
        }
    }

    /// A soft cap, or `default` if the key is missing; 0 is none.
    pub(super) fn cap_or(&self, key: &str, default: f32) -> Result<f32> {
        if self.has(key) { Ok(self.factor(key)?.unwrap_or(0.0)) } else { Ok(default) }
    }

    /// A boolean, or `default` if the key is missing.
    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.metadata.get(&self.full(key)) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.malformed(key, shown(other), "true or false")),
        }
    }

    /// A word, or `default` if the key is missing.
    pub(super) fn word_or(&self, key: &str, default: &'a str) -> Result<&'a str> {
        let full = self.full(key);
        if self.metadata.contains(&full) { self.metadata.str(&full) } else { Ok(default) }
    }

    /// Whether the file has the key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.metadata.contains(&self.full(key))
    }

    // --- what most architectures have ---

    /// Layers.
    pub(super) fn layers(&self) -> Result<u32> {
        self.count("context_length", 1..=u32::MAX)?;
        if self.count_or("expert_count", 0, 0..=u32::MAX)? != 0 {
            return Err(self.unsupported("expert_count", "a mixture of experts"));
        }
        self.count("block_count", 1..=MAX_LAYERS)
    }

    /// Model width `C`.
    pub(super) fn width(&self) -> Result<u32> {
        self.count("embedding_length", 32..=MAX_WIDTH)
    }

    /// Feed-forward width `F`.
    pub(super) fn ffn(&self, layers: u32) -> Result<u32> {
        self.count_of_layers("feed_forward_length", layers, 1..=MAX_WIDTH * 4)
    }

    /// What RMSNorm adds to the mean square.
    pub(super) fn rms_eps(&self) -> Result<f32> {
        self.number("attention.layer_norm_rms_epsilon", 0.0..=1.0)
    }

    /// What LayerNorm adds to the variance.
    pub(super) fn layer_eps(&self) -> Result<f32> {
        self.number("attention.layer_norm_epsilon", 0.0..=1.0)
    }

    /// Query heads, KV heads and their size.
    pub(super) fn heads(&self, layers: u32, width: u32) -> Result<Heads> {
        let heads = self.count_of_layers("attention.head_count", layers, 1..=1024)?;
        let kv_heads = match self.has("attention.head_count_kv") {
            true => self.count_of_layers("attention.head_count_kv", layers, 1..=1024)?,
            false => heads,
        };
        let dim = self.count_or("attention.key_length", width / heads, 1..=u32::MAX)?;
        if heads % kv_heads != 0 || dim == 0 || dim > 256 {
            return Err(Error::UnsupportedModel {
                what: format!("{heads} query heads, {kv_heads} KV heads of size {dim}"),
            });
        }
        if self.count_or("attention.value_length", dim, 1..=u32::MAX)? != dim {
            return Err(self.unsupported("attention.value_length", "V heads of another size than K heads"));
        }
        Ok(Heads { heads, kv_heads, dim })
    }

    /// How attention scores, where all layers see all tokens.
    pub(super) fn scores(&self, heads: Heads) -> Result<Scores> {
        let window = self.count_or("attention.sliding_window", 0, 0..=u32::MAX)?;
        if window != 0 && window < self.context {
            return Err(self.unsupported(
                "attention.sliding_window",
                "load with a contextLength that is no longer than the window",
            ));
        }
        self.scores_with_window(heads, 0)
    }

    /// How attention scores within a window; 0 is none.
    pub(super) fn scores_with_window(&self, heads: Heads, window: u32) -> Result<Scores> {
        let usual = Scores::of(heads);
        let scale = self.factor("attention.scale")?.unwrap_or(usual.scale);
        Ok(Scores { scale, window, ..usual })
    }

    /// The window of each layer, 0 for those that see all: of every `period` layers the last. What the file says goes
    /// before: `attention.sliding_window`, and `attention.sliding_window_pattern` as a period or a flag for each layer.
    pub(super) fn windows(&self, layers: u32, window: u32, period: u32) -> Result<Vec<u32>> {
        let window = self.count_or("attention.sliding_window", window, 0..=u32::MAX)?;
        let key = "attention.sliding_window_pattern";
        let of = |within: bool| if within { window } else { 0 };
        if let Some(Value::Integers(flags)) = self.metadata.get(&self.full(key)) {
            if flags.len() as u64 != u64::from(layers) {
                return Err(self.malformed(key, format_args!("{} flags", flags.len()), "one for each layer"));
            }
            return Ok(flags.iter().map(|flag| of(*flag != 0)).collect());
        }
        let period = self.count_or(key, period, 0..=MAX_LAYERS)?;
        // A period of 0 has the window everywhere, as in llama.cpp.
        Ok((0..layers).map(|i| of(period == 0 || i % period < period - 1)).collect())
    }

    /// A base of angles.
    pub(super) fn rope_base(&self, key: &str, default: f32) -> Result<f32> {
        self.number_or(key, default, BASES)
    }

    /// A factor of all that is turned.
    pub(super) fn rope_magnitude(&self) -> Result<f32> {
        self.number_or("rope.scaling.attn_factor", 1.0, FACTORS)
    }

    /// The table of angles.
    pub(super) fn rope(&self, heads: Heads, pairs: RopePairs) -> Result<RopeTable> {
        RopeTable::read(self, heads, pairs)
    }

    /// Tokens of the context that is asked for.
    pub(super) fn context(&self) -> u32 {
        self.context
    }

    /// Every key of the architecture that was not read must be harmless.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`], which names the first that is not.
    pub(super) fn finish(&self) -> Result<()> {
        self.finish_but(&HARMLESS)
    }

    fn finish_but(&self, harmless: &[Harmless]) -> Result<()> {
        for (full, value) in self.metadata.iter() {
            let key = full.strip_prefix(self.architecture).and_then(|rest| rest.strip_prefix('.'));
            let Some(key) = key.filter(|key| !self.read.borrow().contains(*key)) else { continue };
            if !harmless.iter().any(|known| known.key == key && known.values.hold(value)) {
                return Err(self.unsupported(key, ""));
            }
        }
        Ok(())
    }
}

fn within<T: PartialOrd + Display>(key: &str, value: T, range: RangeInclusive<T>) -> Result<T> {
    if range.contains(&value) { Ok(value) } else { Err(outside(key, value, &range)) }
}

fn outside<T: Display>(key: &str, value: impl Display, range: &RangeInclusive<T>) -> Error {
    Error::Malformed { what: format!("{key} is {value}, expected {} to {}", range.start(), range.end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(keys: &[(&str, Value)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (key, value) in keys {
            metadata.insert(format!("toy.{key}"), value.clone());
        }
        metadata.insert("toys.other", Value::Unsigned(1));
        metadata
    }

    const HARMLESS: [Harmless; 4] = [
        Harmless { key: "note", values: Values::Any },
        Harmless { key: "scale", values: Values::Numbers(&[0.0, 1.0]) },
        Harmless { key: "causal", values: Values::Flag(true) },
        Harmless { key: "layout", values: Values::Words(&["reference"]) },
    ];

    #[track_caller]
    fn finished(keys: &[(&str, Value)], read: &[&str]) -> Result<()> {
        let metadata = metadata(keys);
        let meta = ArchMeta::new(&metadata, "toy", 9);
        read.iter().for_each(|key| {
            let _ = meta.count_or(key, 0, 0..=9);
        });
        meta.finish_but(&HARMLESS)
    }

    #[test]
    fn a_key_that_nobody_read_is_named() {
        let count = ("count", Value::Unsigned(3));
        assert_eq!(finished(std::slice::from_ref(&count), &["count"]), Ok(()));
        let error = finished(&[count], &["counts"]).unwrap_err();
        assert!(error.to_string().contains("toy.count = 3"), "{error}");
        assert_eq!(error.code(), "unsupported-model");
    }

    #[test]
    fn a_harmless_key_is_harmless_with_its_values_only() {
        let text = |text: &str| Value::String(text.to_owned());
        for (key, value) in [
            ("note", Value::Floats(vec![f32::NAN])),
            ("scale", Value::Float(1.0)),
            ("scale", Value::Unsigned(0)),
            ("scale", Value::Integers(vec![1, 1, 0])),
            ("causal", Value::Bool(true)),
            ("layout", text("reference")),
        ] {
            assert_eq!(finished(&[(key, value.clone())], &[]), Ok(()), "{key} = {value:?}");
        }
        for (key, value) in [
            ("scale", Value::Float(0.5)),
            ("scale", Value::Float(f64::NAN)),
            ("scale", Value::Floats(vec![1.0, 2.0])),
            ("scale", Value::Bool(true)),
            ("causal", Value::Bool(false)),
            ("layout", text("another")),
            ("layout", Value::Unsigned(0)),
        ] {
            let error = finished(&[(key, value)], &[]).unwrap_err();
            assert!(error.to_string().contains(&format!("toy.{key}")), "{error}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_malformed() {
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
            let metadata = metadata(&[("eps", Value::Float(bad))]);
            let error = ArchMeta::new(&metadata, "toy", 9).number("eps", 1e-9..=1.0).unwrap_err();
            assert_eq!(error.code(), "malformed");
            assert!(error.to_string().contains("toy.eps is"), "{error}");
        }
        let metadata = metadata(&[("eps", Value::Float(0.5)), ("count", Value::Unsigned(0))]);
        let meta = ArchMeta::new(&metadata, "toy", 9);
        assert_eq!(meta.number("eps", 0.0..=1.0), Ok(0.5));
        assert_eq!(meta.count("count", 1..=9).unwrap_err().code(), "malformed");
        assert_eq!(meta.count_or("absent", 7, 1..=9), Ok(7));
    }

    #[test]
    fn an_array_has_the_same_number_for_each_layer() {
        let of = |value, layers| {
            let metadata = metadata(&[("heads", value)]);
            ArchMeta::new(&metadata, "toy", 9).count_of_layers("heads", layers, 1..=64)
        };
        assert_eq!(of(Value::Unsigned(8), 3), Ok(8));
        assert_eq!(of(Value::Integers(vec![8, 8, 8]), 3), Ok(8));
        assert_eq!(of(Value::Integers(vec![8, 8]), 3).unwrap_err().code(), "malformed");
        assert_eq!(of(Value::Integers(vec![8, 4, 8]), 3).unwrap_err().code(), "unsupported-model");
        assert_eq!(of(Value::Integers(vec![-8; 3]), 3).unwrap_err().code(), "malformed");
        assert_eq!(of(Value::Integers(vec![65; 3]), 3).unwrap_err().code(), "malformed");
    }
}
