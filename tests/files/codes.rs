//! The codes of errors are the same in Rust and in the package: pages have words for each of the package's.

use std::path::Path;

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_package_knows_every_code_of_the_engine() {
    let (rust, package) = (text("src/error.rs"), text("pkg/src/errors.ts"));
    let codes = rust.split("pub fn code(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let codes: Vec<&str> = codes.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(codes.len() > 30, "{codes:?}");
    for code in codes {
        assert!(package.contains(&format!("  | \"{code}\"")), "pkg/src/errors.ts lacks {code}");
    }
}
