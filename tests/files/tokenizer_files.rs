//! The tokenizer against llama.cpp's ids for whole files: those of the tiny models in `shared/models/arch`,
//! and, by `--ignored`, real vocabularies (`tools/tokenizer-goldens/README.md` says where they are).

use std::path::{Path, PathBuf};
use std::time::Instant;

use emberglass::error::Error;
use emberglass::text::{Segment, Special, Tokenizer};
use emberglass::weights::{FileSource, Metadata, read_directory};

fn metadata(path: &Path) -> Metadata {
    let file = FileSource::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let directory = pollster::block_on(read_directory(&mut [Box::new(file)]));
    directory.unwrap_or_else(|e| panic!("{}: {e}", path.display())).metadata
}

/// Files of a folder with this extension, by name.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

#[derive(serde::Deserialize)]
struct Case {
    kind: String,
    #[serde(default)]
    prompts: Vec<serde_json::Value>,
}

#[derive(serde::Deserialize)]
struct Prompt {
    text: String,
    add_special: bool,
    token_ids: Vec<u32>,
}

/// Models whose tokenizers are not supported.
const OTHER_TOKENIZERS: [&str; 2] = ["gemma4", "rwkv"];

#[test]
fn prompts_of_the_tiny_models_have_the_ids_of_llama_cpp() {
    let folder = std::env::var("EMBERGLASS_ARCH").unwrap_or_else(|_| "../shared/models/arch".to_owned());
    let mut wrong = Vec::new();
    let mut right = 0;
    for file in files(Path::new(&folder), "json") {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let case: Case = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        if case.kind != "generate" {
            continue;
        }
        let tokenizer = match Tokenizer::from_metadata(&metadata(&file.with_extension("gguf"))) {
            Ok(tokenizer) => tokenizer,
            Err(Error::UnsupportedTokenizer { found, .. }) if OTHER_TOKENIZERS.contains(&found.as_str()) => {
                continue;
            }
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for prompt in case.prompts {
            let Prompt { text, add_special, token_ids } = serde_json::from_value(prompt).unwrap();
            let found = match add_special {
                true => tokenizer.encode_segments(&[Segment::Text(text.clone())]),
                false => tokenizer.encode(&text, Special::AsText),
            };
            match found {
                Ok(found) if found == token_ids => right += 1,
                found => {
                    wrong.push(format!("{name}: {text:?}\n  found    {found:?}\n  expected {token_ids:?}"))
                }
            }
        }
    }
    println!("{right} prompts are right");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(right >= 100, "only {right} prompts");
}

/// What stands after each text of llama.cpp's `ggml-vocab-*.gguf.inp`.
const AFTER: &str = "\n__ggml_vocab_test__\n";

/// `EMBERGLASS_VOCABULARIES` is `vendor/llama.cpp/models` of the source distribution of PyPI
/// `llama-cpp-python`.
#[test]
#[ignore = "needs llama.cpp's vocabulary files"]
fn vocabularies_of_llama_cpp() {
    let folder = std::env::var("EMBERGLASS_VOCABULARIES").unwrap();
    let mut wrong = Vec::new();
    for file in files(Path::new(&folder), "gguf") {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let tokenizer = match Tokenizer::from_metadata(&metadata(&file)) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                println!("{name}: refused: {error}");
                continue;
            }
        };
        let beside = |extension: &str| std::fs::read_to_string(format!("{}.{extension}", file.display()));
        let (Ok(texts), Ok(expected)) = (beside("inp"), beside("out")) else {
            println!("{name}: loads; no ids to compare with");
            continue;
        };
        let texts: Vec<&str> = texts.strip_suffix(AFTER).unwrap_or(&texts).split(AFTER).collect();
        let expected: Vec<&str> = expected.lines().collect();
        assert_eq!(texts.len(), expected.len(), "{name}");
        let mut differ = 0;
        for (text, expected) in texts.iter().zip(expected) {
            let expected: Vec<u32> = expected.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let found = tokenizer.encode(text, Special::AsText);
            if found.as_ref() != Ok(&expected) {
                differ += 1;
                wrong.push(format!("{name}: {text:?}\n  found    {found:?}\n  expected {expected:?}"));
            }
        }
        println!("{name}: {} of {} texts are right", texts.len() - differ, texts.len());
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Times of the model files in `EMBERGLASS_FILES`, a list with `:` between; headers are enough.
#[test]
#[ignore = "measures files that are given"]
fn times_of_large_vocabularies() {
    let alice = std::fs::read_to_string("tests/data/alice.txt").unwrap();
    let alice = alice.repeat((1 << 20) / alice.len() + 1);
    let mixed = "The quick brown fox didn't jump over 1234567 lazy dogs.\n\n    if (x >= 10) { return foo(x, \
                 \"bar\"); }\n\t漢字とかな、Привет мир! 👍🏽 café — naïve…   ";
    let mixed = mixed.repeat((1 << 20) / mixed.len() + 1);
    for path in std::env::var("EMBERGLASS_FILES").unwrap().split(':') {
        let metadata = metadata(Path::new(path));
        let start = Instant::now();
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        println!("{path}: {} tokens, built in {:?}", tokenizer.vocab_size(), start.elapsed());
        for (what, text) in [("prose", &alice), ("mixed", &mixed)] {
            let start = Instant::now();
            let ids = tokenizer.encode(text, Special::AsText).unwrap();
            let rate = text.len() as f64 / 1e6 / start.elapsed().as_secs_f64();
            println!("  {what}: {} tokens, {rate:.2} MB/s", ids.len());
        }
    }
}
