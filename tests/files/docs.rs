//! Tables of the documents that are read off the code. `EMBERGLASS_BLESS=1` writes them anew.

use std::path::Path;

use emberglass::gpu::{MatmulKernel, MatvecKernel};
use emberglass::{DType, model};

/// Holds what stands in a document between `<!-- NAME: … -->` and `<!-- end -->` against what it should be.
fn holds(document: &str, name: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- {name}: tests/files/docs.rs writes it -->\n");
    let (before, rest) = text.split_once(&begin).unwrap();
    let (table, after) = rest.split_once("<!-- end -->").unwrap();
    if std::env::var_os("EMBERGLASS_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{wanted}<!-- end -->{after}")).unwrap();
    } else {
        assert_eq!(table, wanted, "{document}: EMBERGLASS_BLESS=1 writes it");
    }
}

#[test]
fn readme_says_what_runs() {
    let architectures: Vec<String> = model::architectures().map(|name| format!("`{name}`")).collect();
    let formats: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
    let wanted = format!(
        "| | |\n|---|---|\n| architectures (`general.architecture`) | {} |\n| weight formats | {} |\n",
        architectures.join(", "),
        formats.join(", ")
    );
    holds("README.md", "what runs", &wanted);
}

#[test]
fn the_variants_of_kernels_are_listed() {
    let names = |names: Vec<String>| names.join(", ");
    let matvec = names(MatvecKernel::ALL.iter().map(|kernel| format!("`{kernel}`")).collect());
    let matmul = names(MatmulKernel::ALL.iter().map(|kernel| format!("`{kernel}`")).collect());
    let wanted =
        format!("| | |\n|---|---|\n| decode (`matvec`) | {matvec} |\n| prefill (`matmul`) | {matmul} |\n");
    holds("docs/KERNEL.md", "variants", &wanted);
}
