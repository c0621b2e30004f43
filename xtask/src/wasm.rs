//! Builds the crate for the browser, once for each SIMD level: cargo, wasm-bindgen, wasm-opt.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use wasmparser::{Parser, Payload, TypeRef};

use crate::shell::{cargo, headline, program, run};
use crate::{paths, setup, web};

/// The browser's target.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What rustc may emit for this target by default, and SIMD (.cargo/config.toml). Every browser that
/// is kept current has them.
const WASM_FEATURES: [&str; 9] = [
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-simd",
    "--enable-threads",
];

/// Bytes of memory that the module starts with: data, stack, and some to spare. `pkg/src/memory.ts` makes it.
const INITIAL_MEMORY: u64 = 4 << 20;
/// Bytes that 32-bit addresses reach.
const MOST_MEMORY: u64 = 4 << 30;

/// The most bytes of a module after `gzip -9`. Every visitor downloads one before anything runs.
/// docs/SIZE.md has what is in it.
const MOST_BYTES: usize = 950_000;

/// One build of the module. The worker takes the highest level that the browser has.
struct Level {
    /// The folder in pkg/wasm.
    name: &'static str,
    /// How cargo is told.
    cargo: &'static [&'static str],
    /// What wasm-opt has to know beyond [`WASM_FEATURES`]. It refuses a module that uses more, so
    /// the lower level is free of the higher one's instructions.
    wasm_opt: &'static [&'static str],
}

const LEVELS: [Level; 2] = [
    Level { name: "simd128", cargo: &[], wasm_opt: &[] },
    Level { name: "relaxed", cargo: &["--features", "relaxed-simd"], wasm_opt: &["--enable-relaxed-simd"] },
];

/// Writes pkg/wasm/simd128 and pkg/wasm/relaxed and prints the sizes of the modules.
pub fn build() -> Result<()> {
    setup::wasm_target()?;
    let tools = setup::wasm_bindgen()?;
    let wasm_opt = web::wasm_opt()?;
    let folder = paths::root().join("pkg/wasm");
    // Of a time when there was one build: it would be published along.
    remove_files(&folder)?;
    let (wasm_opt, folder) = (&wasm_opt, &folder);
    // Both take one core for a minute or so: the next level is compiled while wasm-opt has this one.
    std::thread::scope(|scope| {
        let mut optimizing = Vec::new();
        for level in &LEVELS {
            compile(level, &tools.bindgen)?;
            optimizing.push(scope.spawn(move || optimize(level, wasm_opt, &folder.join(level.name))));
        }
        for (level, optimizing) in LEVELS.iter().zip(optimizing) {
            let (before, after) =
                optimizing.join().unwrap_or_else(|_| bail!("wasm-opt's thread panicked"))?;
            println!("  {:<8} before wasm-opt: {before}", level.name);
            println!("  {:<8} as shipped:      {after}", level.name);
        }
        Ok(())
    })
}

/// Fails when a module in pkg/wasm is larger than it may be.
pub fn check_size() -> Result<()> {
    for level in &LEVELS {
        let file = paths::root().join("pkg/wasm").join(level.name).join("emberglass_bg.wasm");
        let module = fs::read(&file).with_context(|| format!("could not read {}", file.display()))?;
        let Size { gzip, .. } = Size::of(&module)?;
        println!("  {:<8} {gzip} bytes after gzip -9, of at most {MOST_BYTES}", level.name);
        if gzip > MOST_BYTES {
            bail!(
                "the {} module has {gzip} bytes after gzip -9, more than {MOST_BYTES}: see docs/SIZE.md",
                level.name
            );
        }
    }
    Ok(())
}

/// Arguments of rustc for a memory that other instances of the module can share. They reach this crate alone: the
/// standard library and the other crates are compiled as ever, without atomics.
fn shared_memory() -> Vec<String> {
    let linker = [
        "--shared-memory",
        "--import-memory",
        &format!("--initial-memory={INITIAL_MEMORY}"),
        &format!("--max-memory={MOST_MEMORY}"),
        "--no-check-features",
        // A helper sets it to a stack of its own.
        "--export=__stack_pointer",
        // wasm-bindgen looks for these.
        "--export=__wasm_init_tls",
        "--export=__tls_size",
        "--export=__tls_align",
        "--export=__tls_base",
    ];
    let features = "target-feature=+atomics,+bulk-memory,+mutable-globals".to_owned();
    let arguments = linker.iter().map(|argument| format!("link-arg={argument}"));
    std::iter::once(features).chain(arguments).flat_map(|argument| ["-C".to_owned(), argument]).collect()
}

/// Sets `__tls_align` to 1. The linker sets it to 0 where there are no thread-locals, and the start that wasm-bindgen
/// makes allocates room for them with that alignment, which traps.
fn align_thread_locals(module: &mut [u8]) -> Result<()> {
    let mut imported = 0;
    let mut values = Vec::new();
    let mut index = None;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    imported += usize::from(matches!(import?.ty, TypeRef::Global(_)));
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    values.push(global?.init_expr.get_binary_reader().original_position());
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.name == "__tls_align" {
                        index = Some(export.index as usize);
                    }
                }
            }
            _ => {}
        }
    }
    let position = index.and_then(|index| values.get(index.checked_sub(imported)?));
    // i32.const, the number as LEB128, end
    let value = position.and_then(|&at| module.get_mut(at..at + 3));
    match value {
        Some([0x41, align, 0x0b]) => *align = (*align).max(1),
        _ => bail!("the linked module has no global __tls_align of one byte"),
    }
    Ok(())
}

/// Next to where it goes: a level's folder appears whole or not at all.
fn fresh(level: &Level) -> PathBuf {
    paths::target().join("wasm-bindgen").join(level.name)
}

/// The module with the names of its functions, which wasm-opt takes away: tools/size reads them.
fn named(level: &Level) -> PathBuf {
    paths::target().join("wasm-bindgen").join(format!("{}.wasm", level.name))
}

fn compile(level: &Level, bindgen: &Path) -> Result<()> {
    headline(&format!("Building the wasm: {}", level.name));
    run(cargo()
        .args(["rustc", "--profile", "wasm", "--lib", "--crate-type", "cdylib", "--target", TARGET])
        .args(level.cargo)
        .arg("--")
        .args(shared_memory())
        // The two builds of the crate differ only in a feature. Told to, cargo gives them files of
        // their own; else each would throw away the other and nothing would ever be up to date.
        .env("__CARGO_DEFAULT_LIB_METADATA", "emberglass-wasm"))?;
    let built = paths::target().join(TARGET).join("wasm/emberglass.wasm");
    let mut module = fs::read(&built).with_context(|| format!("could not read {}", built.display()))?;
    align_thread_locals(&mut module)?;
    let fresh = fresh(level);
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(&fresh)?;
    let built = fresh.with_extension("linked.wasm");
    fs::write(&built, &module).with_context(|| format!("could not write {}", built.display()))?;
    run(program(bindgen)
        // The package says where the module is. The default would be an address that bundlers follow in vain.
        .args(["--target", "web", "--omit-default-module-path", "--out-name", "emberglass", "--out-dir"])
        .args([&fresh, &built]))?;

    number_closures(&fresh)?;
    fs::rename(fresh.join("emberglass_bg.wasm"), named(level))?;
    Ok(())
}

/// Gives the functions by which JavaScript calls closures numbers in place of the hashes in their names. Of several with the
/// same code the linker keeps any one, so that the hashes of the two builds may differ, and both take the same JavaScript.
fn number_closures(folder: &Path) -> Result<()> {
    let glue = fs::read_to_string(folder.join("emberglass.js"))?;
    let mut names: Vec<&str> = Vec::new();
    for (at, _) in glue.match_indices(CLOSURE) {
        let name = glue.get(at..at + CLOSURE.len() + HASH_DIGITS).unwrap_or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        for (number, name) in names.iter().enumerate() {
            let new = format!("{CLOSURE}{number:0HASH_DIGITS$}");
            while let Some(at) = memmem(&bytes, name.as_bytes()) {
                bytes[at..at + name.len()].copy_from_slice(new.as_bytes());
            }
        }
        fs::write(&path, bytes)?;
    }
    // Comments have numbers of the build, too.
    let glue = fs::read_to_string(folder.join("emberglass.js"))?;
    let mut parts: Vec<&str> = glue.split(SHIM).collect();
    for part in parts.iter_mut().skip(1) {
        *part = part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    Ok(fs::write(folder.join("emberglass.js"), parts.join(SHIM))?)
}

/// How wasm-bindgen names what calls a closure, and digits of the hash behind it.
const CLOSURE: &str = "wasm_bindgen__convert__closures_____invoke__h";
const HASH_DIGITS: usize = 16;
/// In a comment.
const SHIM: &str = "shim_idx: ";

/// Where the bytes begin that are searched for.
fn memmem(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Returns the sizes before and after wasm-opt.
fn optimize(level: &Level, wasm_opt: &Path, folder: &Path) -> Result<(Size, Size)> {
    let (fresh, named) = (fresh(level), named(level));
    let module = fresh.join("emberglass_bg.wasm");
    let before = Size::of(&fs::read(&named)?)?;
    run(program(wasm_opt)
        .arg("-Os")
        .args(WASM_FEATURES)
        .args(level.wasm_opt)
        .arg(&named)
        .arg("-o")
        .arg(&module))?;
    let after = Size::of(&fs::read(&module)?)?;

    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(&fresh)? {
        let entry = entry?;
        let to = folder.join(entry.file_name());
        fs::copy(entry.path(), &to).with_context(|| format!("could not write {}", to.display()))?;
    }
    Ok((before, after))
}

/// Removes the files right in a folder, not its folders.
fn remove_files(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Bytes of a module.
struct Size {
    plain: usize,
    gzip: usize,
}

impl Size {
    fn of(module: &[u8]) -> Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(module)?;
        Ok(Self { plain: module.len(), gzip: encoder.finish()?.len() })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {} bytes after gzip -9", self.plain, self.gzip)
    }
}
