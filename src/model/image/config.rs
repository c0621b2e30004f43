//! diffusers' `config.json` of an image autoencoder. What its tensors do not say is read; what they say as well must
//! agree with them; and a key that is not known is refused.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

use super::Family;

/// A config is small; more is no config.
const MAX_BYTES: u64 = 1 << 20;
/// The key that tells the model's class.
const CLASS: &str = "_class_name";
/// The class of FLUX.2's VAE: an AutoencoderKL with statistics of its latents.
const FLUX2: &str = "AutoencoderKLFlux2";
/// Classes of AutoencoderKL's family, then of TAESD's.
const CLASSES: [&str; 3] = ["AutoencoderKL", FLUX2, "AutoencoderTiny"];

/// Keys that change nothing here.
const HARMLESS: [&str; 9] = [
    // Where the config comes from, and which of its keys were not given.
    "_diffusers_version",
    "_name_or_path",
    "_commit_hash",
    "_use_default_values",
    // Whether diffusers may compute in f16. All sums here are f32.
    "force_upcast",
    // How fast FLUX.2's statistics followed the batches in training.
    "batch_norm_momentum",
    // AutoencoderTiny's latents as pictures of 8 bits, which only its `forward` makes.
    "latent_magnitude",
    "latent_shift",
    // PyTorch's type of the weights when they were saved. The tensors have their own.
    "torch_dtype",
];

/// Keys of an AutoencoderKL.
const KL: [&str; 21] = [
    "in_channels",
    "out_channels",
    "down_block_types",
    "up_block_types",
    "block_out_channels",
    "decoder_block_out_channels",
    "layers_per_block",
    "act_fn",
    "latent_channels",
    "norm_num_groups",
    "sample_size",
    "scaling_factor",
    "shift_factor",
    "latents_mean",
    "latents_std",
    "use_quant_conv",
    "use_post_quant_conv",
    "mid_block_add_attention",
    "batch_norm_eps",
    "patch_size",
    CLASS,
];

/// Keys of an AutoencoderTiny.
const TINY: [&str; 15] = [
    "in_channels",
    "out_channels",
    "encoder_block_out_channels",
    "decoder_block_out_channels",
    "block_out_channels",
    "act_fn",
    "upsample_fn",
    "latent_channels",
    "upsampling_scaling_factor",
    "num_encoder_blocks",
    "num_decoder_blocks",
    "scaling_factor",
    "shift_factor",
    "sample_size",
    CLASS,
];

/// The config of a model, empty where there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageConfig {
    /// File name, for messages.
    name: String,
    keys: Map<String, Value>,
    /// Groups of every norm of an AutoencoderKL.
    pub norm_num_groups: Option<u32>,
    /// A diffusion model's latents are `(z - shift) * scaling`, where z is what the encoder gives.
    pub scaling_factor: Option<f32>,
    /// See `scaling_factor`.
    pub shift_factor: Option<f32>,
    /// A shift of each channel. With it, latents are `(z - mean) / std * scaling`.
    pub latents_mean: Option<Vec<f32>>,
    /// See `latents_mean`.
    pub latents_std: Option<Vec<f32>>,
    /// Added to the variances of FLUX.2's latents.
    pub batch_norm_eps: Option<f32>,
    /// Sides of the pictures it was trained on.
    pub sample_size: Option<u32>,
}

impl ImageConfig {
    /// Whether a file is one, by its name.
    #[must_use]
    pub fn is_named(name: &str) -> bool {
        let path = name.split(['?', '#']).next().unwrap_or(name);
        path.to_ascii_lowercase().ends_with(".json")
    }

    /// The longest text that is read.
    #[must_use]
    pub fn max_bytes() -> u64 {
        MAX_BYTES
    }

    /// Reads the text of the file `name`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no JSON object, and for a value of another type than its key has;
    /// [`Error::UnsupportedModel`] for the config of another class.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Error::Malformed { what: format!("{name} is not JSON: {e}") })?;
        let Value::Object(keys) = value else {
            return Err(Error::Malformed {
                what: format!("{name} is not the config of a model, which is a JSON object"),
            });
        };
        let mut config = ImageConfig { name: name.to_owned(), keys, ..ImageConfig::default() };
        config.only(CLASS, &CLASSES)?;
        config.norm_num_groups = config.number("norm_num_groups")?;
        config.scaling_factor =
            config.get("scaling_factor", "a number other than 0", |v: &f32| finite(v) && *v != 0.0)?;
        config.shift_factor = config.get("shift_factor", "a number", finite)?;
        config.latents_mean = config.get("latents_mean", "numbers", |v: &Vec<f32>| v.iter().all(finite))?;
        let positive = |v: &f32| finite(v) && *v > 0.0;
        config.latents_std =
            config.get("latents_std", "numbers above 0", |v: &Vec<f32>| v.iter().all(positive))?;
        config.batch_norm_eps = config.get("batch_norm_eps", "a number above 0", positive)?;
        config.sample_size = match config.value("sample_size") {
            // Height and width.
            Some(Value::Array(_)) => {
                let square = |v: &[u32; 2]| v[0] == v[1] && v[0] > 0;
                config.get("sample_size", "a number, or twice the same", square)?.map(|[side, _]| side)
            }
            _ => config.number("sample_size")?,
        };
        Ok(config)
    }

    /// A safetensors header's note `config`, where it is a model's config. Notes are free text: what is no JSON object,
    /// or has no key of a config, is none.
    ///
    /// # Errors
    /// As for [`ImageConfig::parse`].
    pub fn of_note(file: &str, note: &str) -> Result<Option<Self>> {
        let is_config = matches!(serde_json::from_str(note), Ok(Value::Object(keys))
            if keys.keys().any(|key| KL.contains(&key.as_str()) || TINY.contains(&key.as_str())));
        if is_config { Self::parse(&format!("the note config of {file}"), note).map(Some) } else { Ok(None) }
    }

    /// Whether both say the same, whatever file they are of.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// Whether there is any config.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.name.is_empty()
    }

    /// Whether the model has FLUX.2's statistics of its latents.
    pub(super) fn is_flux2(&self) -> bool {
        self.value(CLASS).and_then(Value::as_str) == Some(FLUX2)
    }

    /// The value of a key, if it is given and not null, which stands for the default.
    fn value(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    fn get<T: DeserializeOwned>(
        &self,
        key: &str,
        expected: &str,
        fits: impl Fn(&T) -> bool,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match T::deserialize(value) {
            Ok(read) if fits(&read) => Ok(Some(read)),
            _ => Err(self.wrong(key, value, &format!("but must be {expected}"))),
        }
    }

    fn number(&self, key: &str) -> Result<Option<u32>> {
        self.get(key, "a whole number above 0", |&v: &u32| v > 0)
    }

    fn wrong(&self, key: &str, value: &Value, why: &str) -> Error {
        Error::Malformed { what: format!("{}: {key} is {value}, {why}", self.name) }
    }

    /// Whether the key, if it is given, says what the tensors do.
    pub(super) fn agrees(&self, key: &str, tensors: &impl Serialize) -> Result<()> {
        let Some(value) = self.value(key) else { return Ok(()) };
        match serde_json::to_value(tensors) {
            Ok(expected) if expected == *value => Ok(()),
            Ok(expected) => Err(self.wrong(key, value, &format!("but the tensors have {expected}"))),
            Err(error) => Err(Error::Internal { what: error.to_string() }),
        }
    }

    /// Whether the key, if it is given, has a value that there is code for.
    pub(super) fn only(&self, key: &str, known: &[&str]) -> Result<()> {
        let Some(value) = self.value(key) else { return Ok(()) };
        if value.as_str().is_some_and(|value| known.contains(&value)) {
            return Ok(());
        }
        Err(Error::UnsupportedModel {
            what: format!("{}: {key} is {value}, must be {}", self.name, known.join(" or ")),
        })
    }

    /// Whether the key, if it is given, is a list of `count` times the one value that there is code for.
    pub(super) fn all(&self, key: &str, known: &str, count: usize) -> Result<()> {
        let Some(value) = self.value(key) else { return Ok(()) };
        let list = value.as_array().map_or(&[][..], Vec::as_slice);
        if let Some(other) = list.iter().find(|one| one.as_str() != Some(known)) {
            return Err(Error::UnsupportedModel {
                what: format!("{}: {key} has {other}, must be {known}", self.name),
            });
        }
        if list.len() != count {
            return Err(self.wrong(key, value, &format!("but the tensors have {count} blocks")));
        }
        Ok(())
    }

    /// Whether the config is of this family, and all its keys are known.
    pub(super) fn check(&self, family: Family) -> Result<()> {
        let (classes, keys) = match family {
            Family::Kl => (&CLASSES[..2], &KL[..]),
            Family::Taesd => (&CLASSES[2..], &TINY[..]),
        };
        self.only(CLASS, classes)?;
        let unknown = self
            .keys
            .iter()
            .find(|(key, _)| !keys.contains(&key.as_str()) && !HARMLESS.contains(&key.as_str()));
        match unknown {
            Some((key, value)) => Err(Error::UnsupportedModel {
                what: format!(
                    "{} has the key {key} = {value}, which {} does not have",
                    self.name,
                    family.name()
                ),
            }),
            None => Ok(()),
        }
    }
}

fn finite(value: &f32) -> bool {
    value.is_finite()
}
