//! A model's defaults of the sampling options. An option that is given when the model is loaded comes first, then what the
//! file recommends (`general.sampling.*`, llama.cpp's names), then the engine's own default.
//!
//! A recommendation never keeps a file from loading. One that cannot be applied is in [`SamplingDefaults::not_applied`].

use crate::error::{Error, Result};
use crate::sampling::{Sampling, SamplingOverrides};
use crate::weights::{Metadata, Value};

const PREFIX: &str = "general.sampling.";

/// Samplers that the engine does not have. Each is off as long as its first key is absent or 0; the other keys say how it works.
const UNSUPPORTED: &[&[&str]] =
    &[&["xtc_probability", "xtc_threshold"], &["mirostat", "mirostat_tau", "mirostat_eta"]];

/// The engine's samplers in their order, by llama.cpp's names.
const ORDER: &[&str] = &["penalties", "top_k", "top_p", "min_p", "temperature"];
/// Samplers that do nothing in llama.cpp unless their options say so. Of those options only XTC's can be in a file.
const OFF_BY_DEFAULT: &[&str] = &["dry", "top_n_sigma", "typ_p", "xtc"];

/// The most characters of a key or a value in [`NotApplied`].
const LONGEST: usize = 80;

/// Where a default comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The file's metadata.
    File,
    /// An option given when the model was loaded.
    Option,
    /// The engine, the same for every model.
    Engine,
}

impl Origin {
    /// The name in JavaScript.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Origin::File => "file",
            Origin::Option => "option",
            Origin::Engine => "engine",
        }
    }
}

/// The default of one option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingDefault<T> {
    /// What a request gets that does not name the option.
    pub value: T,
    /// Who says so.
    pub from: Origin,
}

/// A recommendation of the file that is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotApplied {
    /// The key in the file, cut if it is long.
    pub key: String,
    /// Its value as text, cut if it is long.
    pub value: String,
    /// Why.
    pub reason: String,
}

/// The defaults of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingDefaults {
    /// [`Sampling::temperature`].
    pub temperature: SamplingDefault<f32>,
    /// [`Sampling::top_k`].
    pub top_k: SamplingDefault<u32>,
    /// [`Sampling::top_p`].
    pub top_p: SamplingDefault<f32>,
    /// [`Sampling::min_p`].
    pub min_p: SamplingDefault<f32>,
    /// [`Sampling::repetition_penalty`].
    pub repetition_penalty: SamplingDefault<f32>,
    /// [`Sampling::presence_penalty`].
    pub presence_penalty: SamplingDefault<f32>,
    /// [`Sampling::frequency_penalty`].
    pub frequency_penalty: SamplingDefault<f32>,
    /// [`Sampling::penalty_window`].
    pub penalty_window: SamplingDefault<u32>,
    /// Recommendations of the file that are not followed.
    pub not_applied: Vec<NotApplied>,
}

impl SamplingDefaults {
    /// The defaults of a file. `given` are the options of the load, `context_length` the tokens that the context holds.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an option of `given` that is out of range; never for what the file says.
    pub fn new(metadata: &Metadata, context_length: u32, given: &SamplingOverrides) -> Result<Self> {
        let engine = Sampling::default();
        given.over(engine.clone()).validate()?;
        let (file, not_applied) = recommended(metadata, context_length);
        Ok(SamplingDefaults {
            temperature: first(given.temperature, file.temperature, engine.temperature),
            top_k: first(given.top_k, file.top_k, engine.top_k),
            top_p: first(given.top_p, file.top_p, engine.top_p),
            min_p: first(given.min_p, file.min_p, engine.min_p),
            repetition_penalty: first(
                given.repetition_penalty,
                file.repetition_penalty,
                engine.repetition_penalty,
            ),
            presence_penalty: first(given.presence_penalty, file.presence_penalty, engine.presence_penalty),
            frequency_penalty: first(
                given.frequency_penalty,
                file.frequency_penalty,
                engine.frequency_penalty,
            ),
            penalty_window: first(given.penalty_window, file.penalty_window, engine.penalty_window),
            not_applied,
        })
    }

    /// The options of a request that names none.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature.value,
            top_k: self.top_k.value,
            top_p: self.top_p.value,
            min_p: self.min_p.value,
            repetition_penalty: self.repetition_penalty.value,
            presence_penalty: self.presence_penalty.value,
            frequency_penalty: self.frequency_penalty.value,
            penalty_window: self.penalty_window.value,
            ..Sampling::default()
        }
    }
}

fn first<T>(given: Option<T>, file: Option<T>, engine: T) -> SamplingDefault<T> {
    match (given, file) {
        (Some(value), _) => SamplingDefault { value, from: Origin::Option },
        (None, Some(value)) => SamplingDefault { value, from: Origin::File },
        (None, None) => SamplingDefault { value: engine, from: Origin::Engine },
    }
}

/// What the file recommends, and what of it cannot be followed.
fn recommended(metadata: &Metadata, context_length: u32) -> (SamplingOverrides, Vec<NotApplied>) {
    let mut file = SamplingOverrides::default();
    let mut not_applied = Vec::new();
    // First, since it switches off what it leaves out, which a key of its own cannot switch on again.
    let sequence = metadata.get("general.sampling.sequence");
    let absent = match sequence.map(absent_samplers) {
        None => Vec::new(),
        Some(Ok(absent)) => absent,
        Some(Err(reason)) => {
            not_applied.push(refused("general.sampling.sequence", sequence, reason));
            Vec::new()
        }
    };
    for (key, value) in metadata.iter() {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let applied = match name {
            "sequence" => Ok(()),
            "temp" => number(value, |s, v| s.temperature = v).map(|v| file.temperature = Some(v)),
            "top_p" => number(value, |s, v| s.top_p = v).map(|v| file.top_p = Some(v)),
            "min_p" => number(value, |s, v| s.min_p = v).map(|v| file.min_p = Some(v)),
            "penalty_repeat" => {
                number(value, |s, v| s.repetition_penalty = v).map(|v| file.repetition_penalty = Some(v))
            }
            // llama.cpp: 0 or less is the whole vocabulary.
            "top_k" => count(value, 0).map(|v| file.top_k = Some(v)),
            // llama.cpp: -1 is the whole context.
            "penalty_last_n" => count(value, context_length).map(|v| file.penalty_window = Some(v)),
            _ => unsupported(metadata, name),
        };
        if let Err(reason) = applied {
            not_applied.push(refused(key, Some(value), reason));
        }
    }
    for name in absent {
        match name {
            "penalties" => file.repetition_penalty = Some(1.0),
            "top_k" => file.top_k = Some(0),
            "top_p" => file.top_p = Some(1.0),
            "min_p" => file.min_p = Some(0.0),
            _ => file.temperature = Some(1.0),
        }
    }
    (file, not_applied)
}

fn refused(key: &str, value: Option<&Value>, reason: String) -> NotApplied {
    NotApplied { key: printable(key), value: printable(&value.map(text).unwrap_or_default()), reason }
}

/// The beginning of a text that a file has, without what a terminal would obey.
fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// A value for people.
#[allow(clippy::cast_possible_truncation)] // compared with what it was
fn text(value: &Value) -> String {
    match value {
        Value::Unsigned(v) => v.to_string(),
        Value::Signed(v) => v.to_string(),
        // 0.95 as f32 would be 0.949999988079071 as f64.
        Value::Float(v) if f64::from(*v as f32) == *v => (*v as f32).to_string(),
        Value::Float(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::String(v) => v.clone(),
        Value::Strings(_) | Value::Integers(_) | Value::Wide(_) | Value::Floats(_) => "an array".to_owned(),
    }
}

/// A number in the range of the option that `set` sets.
fn number(value: &Value, set: impl Fn(&mut Sampling, f32)) -> Result<f32, String> {
    #[allow(clippy::cast_possible_truncation)] // the nearest f32, infinite beyond its range
    let number = match value {
        Value::Float(v) => *v as f32,
        Value::Unsigned(v) => *v as f32,
        Value::Signed(v) => *v as f32,
        _ => return Err("not a number".to_owned()),
    };
    let mut sampling = Sampling::default();
    set(&mut sampling, number);
    match sampling.validate() {
        Ok(()) => Ok(number),
        Err(Error::InvalidOption { range, .. }) => Err(format!("out of range ({range})")),
        Err(other) => Err(other.to_string()),
    }
}

/// A count of 32 bits; -1 is `all`.
fn count(value: &Value, all: u32) -> Result<u32, String> {
    let number = match value {
        Value::Unsigned(v) => i128::from(*v),
        Value::Signed(v) => i128::from(*v),
        _ => return Err("not a whole number".to_owned()),
    };
    match u32::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) if number == -1 => Ok(all),
        Err(_) => Err(format!("out of range (-1 to {})", u32::MAX)),
    }
}

/// A key of a sampler that the engine does not have. It changes nothing where that sampler is off.
fn unsupported(metadata: &Metadata, name: &str) -> Result<(), String> {
    let Some(sampler) = UNSUPPORTED.iter().find(|keys| keys.contains(&name)) else {
        return Err("this key is not known".to_owned());
    };
    let switch = sampler.first().and_then(|switch| metadata.get(&format!("{PREFIX}{switch}")));
    let off = match switch {
        None | Some(Value::Unsigned(0) | Value::Signed(0)) => true,
        Some(Value::Float(v)) => *v == 0.0,
        Some(_) => false,
    };
    if off { Ok(()) } else { Err("the engine does not have this sampler".to_owned()) }
}

/// The samplers of [`ORDER`] that a sequence leaves out.
fn absent_samplers(sequence: &Value) -> Result<Vec<&'static str>, String> {
    let Value::String(sequence) = sequence else { return Err("not a text".to_owned()) };
    let mut next = 0;
    let mut present = Vec::new();
    for name in sequence.split(';').map(str::trim).filter(|name| !OFF_BY_DEFAULT.contains(name)) {
        let Some(at) = ORDER.iter().position(|known| *known == name) else {
            return Err("the engine does not have all of these samplers".to_owned());
        };
        if at < next {
            return Err(format!("the engine's order is {}", ORDER.join(";")));
        }
        next = at + 1;
        present.push(name);
    }
    Ok(ORDER.iter().copied().filter(|name| !present.contains(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults(keys: &[(&str, Value)], given: &SamplingOverrides) -> SamplingDefaults {
        let mut metadata = Metadata::default();
        for (name, value) in keys {
            metadata.insert(format!("{PREFIX}{name}"), value.clone());
        }
        SamplingDefaults::new(&metadata, 512, given).unwrap()
    }

    fn of(keys: &[(&str, Value)]) -> SamplingDefaults {
        defaults(keys, &SamplingOverrides::default())
    }

    fn single(value: f32) -> Value {
        Value::Float(f64::from(value))
    }

    fn sequence(names: &str) -> Value {
        Value::String(names.to_owned())
    }

    #[test]
    fn without_recommendations_the_engine_has_its_own() {
        let none = of(&[]);
        assert_eq!(none.sampling(), Sampling::default());
        assert_eq!(none.temperature, SamplingDefault { value: 0.8, from: Origin::Engine });
        assert!(none.not_applied.is_empty());
    }

    #[test]
    fn each_key_sets_its_option() {
        let all = of(&[
            ("temp", single(0.6)),
            ("top_k", Value::Signed(20)),
            ("top_p", single(0.9)),
            ("min_p", Value::Signed(0)),
            ("penalty_repeat", single(1.05)),
            ("penalty_last_n", Value::Unsigned(32)),
        ]);
        let expected = Sampling {
            temperature: 0.6,
            top_k: 20,
            top_p: 0.9,
            min_p: 0.0,
            repetition_penalty: 1.05,
            penalty_window: 32,
            ..Sampling::default()
        };
        assert_eq!(all.sampling(), expected);
        assert_eq!(all.not_applied, []);
        assert_eq!((all.temperature.from, all.presence_penalty.from), (Origin::File, Origin::Engine));
        // llama.cpp's numbers for everything.
        let open = of(&[("top_k", Value::Signed(-1)), ("penalty_last_n", Value::Signed(-1))]);
        assert_eq!((open.top_k.value, open.penalty_window.value), (0, 512));
    }

    #[test]
    fn an_option_comes_before_the_file() {
        let given = SamplingOverrides { temperature: Some(0.0), ..Default::default() };
        let both = defaults(&[("temp", single(0.6)), ("top_p", single(0.9))], &given);
        assert_eq!(both.temperature, SamplingDefault { value: 0.0, from: Origin::Option });
        assert_eq!(both.top_p, SamplingDefault { value: 0.9, from: Origin::File });
        let bad = SamplingOverrides { top_p: Some(2.0), ..Default::default() };
        let error = SamplingDefaults::new(&Metadata::default(), 512, &bad).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "topP", .. }), "{error}");
    }

    #[test]
    fn what_cannot_be_applied_is_named_and_changes_nothing() {
        let long = "9".repeat(1000);
        let cases: &[(&str, Value, &str, &str)] = &[
            ("temp", single(-1.0), "-1", "out of range (0 to 100)"),
            ("temp", single(f32::NAN), "NaN", "out of range (0 to 100)"),
            ("temp", Value::Float(1e300), "1000000", "out of range (0 to 100)"),
            ("temp", Value::String(long), "99999", "not a number"),
            ("temp", Value::Bool(true), "true", "not a number"),
            ("top_k", Value::Signed(-2), "-2", "out of range (-1 to 4294967295)"),
            ("top_k", Value::Unsigned(u64::MAX), "18446744073709551615", "out of range (-1 to 4294967295)"),
            ("top_k", single(40.0), "40", "not a whole number"),
            ("top_p", single(1.5), "1.5", "out of range (0 to 1)"),
            ("min_p", single(f32::INFINITY), "inf", "out of range (0 to 1)"),
            ("penalty_repeat", single(0.0), "0", "out of range (above 0, at most 100)"),
            ("penalty_last_n", Value::Signed(i64::MIN), "-9223372036854775808", "out of range"),
            ("mirostat", Value::Signed(2), "2", "the engine does not have this sampler"),
            ("xtc_probability", single(0.5), "0.5", "the engine does not have this sampler"),
            ("mirostat", sequence("2\u{1b}[31m"), "2\u{fffd}[31m", "the engine does not have this sampler"),
            ("dynatemp_range", single(0.2), "0.2", "this key is not known"),
            ("sequence", Value::Integers(vec![1]), "an array", "not a text"),
            (
                "sequence",
                sequence("temperature;top_k"),
                "temperature;top_k",
                "the engine's order is penalties;top_k",
            ),
            ("sequence", sequence("top_k;top_k"), "top_k;top_k", "the engine's order is"),
            (
                "sequence",
                sequence("top_k;infill"),
                "top_k;infill",
                "the engine does not have all of these samplers",
            ),
            ("sequence", sequence(""), "", "the engine does not have all of these samplers"),
        ];
        for (name, value, shown, reason) in cases {
            let some = of(&[(name, value.clone())]);
            assert_eq!(some.sampling(), Sampling::default(), "{name} = {value:?}");
            let [refused] = &some.not_applied[..] else { panic!("{name}: {:?}", some.not_applied) };
            assert_eq!(refused.key, format!("general.sampling.{name}"));
            assert!(refused.value.starts_with(shown) && refused.value.chars().count() <= 81, "{refused:?}");
            assert!(refused.reason.starts_with(reason), "{refused:?}");
        }
    }

    #[test]
    fn samplers_that_are_off_are_no_matter() {
        let off = of(&[
            ("mirostat", Value::Signed(0)),
            ("mirostat_tau", single(5.0)),
            ("xtc_threshold", single(0.1)),
            ("sequence", sequence("penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature")),
        ]);
        assert_eq!((off.sampling(), &off.not_applied[..]), (Sampling::default(), &[][..]));
        let on = of(&[("mirostat", Value::Signed(1)), ("mirostat_tau", single(5.0))]);
        assert_eq!(on.not_applied.len(), 2);
    }

    #[test]
    fn what_a_sequence_leaves_out_is_off() {
        let short = of(&[("sequence", sequence("top_k;temperature")), ("top_p", single(0.9))]);
        let sampling = Sampling { top_p: 1.0, min_p: 0.0, ..Sampling::default() };
        assert_eq!((short.sampling(), short.top_p.from), (sampling, Origin::File));
        assert_eq!(short.not_applied, []);
        let plain = of(&[("sequence", sequence("penalties"))]).sampling();
        assert_eq!((plain.temperature, plain.top_k), (1.0, 0));
    }
}
