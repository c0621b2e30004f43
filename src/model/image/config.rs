//! diffusers' `config.json` of an image autoencoder: what its tensors do not say.

use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// The keys that are looked at; the rest is in the tensors.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Groups of every norm of an AutoencoderKL.
    pub norm_num_groups: Option<u32>,
    /// A diffusion model's latents are `(z - shift) * scaling`, where z is what the encoder gives.
    pub scaling_factor: Option<f32>,
    /// See `scaling_factor`.
    pub shift_factor: Option<f32>,
    /// Sides of the pictures it was trained on. Some configs have a list of two, which is passed over.
    #[serde(deserialize_with = "one_number")]
    pub sample_size: Option<u32>,
}

fn one_number<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<u32>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.as_u64().and_then(|n| u32::try_from(n).ok()))
}

/// A config is small; more is no config.
const MAX_BYTES: u64 = 1 << 20;

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

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no JSON object, or numbers that cannot be meant.
    pub fn parse(text: &str) -> Result<Self> {
        let malformed = |what: String| Error::Malformed { what: format!("config: {what}") };
        let config: ImageConfig = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        let finite = |v: Option<f32>| v.is_none_or(f32::is_finite);
        if config.norm_num_groups == Some(0)
            || !finite(config.scaling_factor)
            || !finite(config.shift_factor)
            || config.scaling_factor == Some(0.0)
        {
            return Err(malformed("a factor or a number of groups that cannot be meant".to_owned()));
        }
        Ok(config)
    }
}
