//! Where the repository's files are.

/// The path of a file of the repository. It is looked for in the folder `EMBERGLASS_ROOT` if that is set, as in the
/// GPU bundle, which runs on other machines, and else where the test was built.
pub fn file(name: &str) -> String {
    let built = env!("CARGO_MANIFEST_DIR");
    format!("{}/{name}", std::env::var("EMBERGLASS_ROOT").unwrap_or_else(|_| built.to_owned()))
}
