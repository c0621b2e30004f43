//! Tables of the documents that are read off the code. `EMBERGLASS_BLESS=1` writes them anew.

use std::path::Path;

use emberglass::{DType, model};

/// What runs, as README says it.
fn what_runs() -> String {
    let architectures: Vec<String> = model::architectures().map(|name| format!("`{name}`")).collect();
    let formats: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
    format!(
        "| | |\n|---|---|\n| architectures (`general.architecture`) | {} |\n| weight formats | {} |\n",
        architectures.join(", "),
        formats.join(", ")
    )
}

#[test]
fn readme_says_what_runs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = "<!-- what runs: tests/files/docs.rs writes it -->\n";
    let (before, rest) = text.split_once(begin).unwrap();
    let (table, after) = rest.split_once("<!-- end -->").unwrap();
    let wanted = what_runs();
    if std::env::var_os("EMBERGLASS_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{wanted}<!-- end -->{after}")).unwrap();
    } else {
        assert_eq!(table, wanted);
    }
}
