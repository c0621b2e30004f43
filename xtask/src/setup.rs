//! Tools: the wasm32 target, wasm-bindgen at the version in Cargo.lock, Debian's packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::paths;
use crate::shell::{capture, cargo, find, headline, program, run, succeeds};

/// Makes sure that rustc can compile for the browser.
pub fn wasm_target() -> Result<()> {
    let sysroot = capture(program("rustc").args(["--print", "sysroot"]))?;
    let target = Path::new(&sysroot).join("lib/rustlib/wasm32-unknown-unknown/lib");
    if target.is_dir() {
        return Ok(());
    }
    headline("Adding Rust's wasm32 target");
    if find("rustup").is_none() {
        bail!(
            "this Rust has no wasm32-unknown-unknown target and there is no rustup to add it with: \
             install rustup, or your distribution's package of that target \
             (Debian: libstd-rust-dev-wasm32)"
        );
    }
    run(program("rustup").args(["target", "add", "wasm32-unknown-unknown"]))
}

/// wasm-bindgen's two programs.
pub struct WasmBindgen {
    /// Makes the JavaScript half of the wasm module.
    pub bindgen: PathBuf,
    /// Runs test binaries in a browser.
    pub test_runner: PathBuf,
}

/// Packages that wasm-bindgen spends its time in.
const WALKERS: [&str; 9] = [
    "walrus",
    "wasm-bindgen-cli-support",
    "wasmparser",
    "wasm-encoder",
    "gimli",
    "leb128",
    "id-arena",
    "indexmap",
    "hashbrown",
];

/// Installs wasm-bindgen's programs into .cache/tools, at the version the crate is built with.
pub fn wasm_bindgen() -> Result<WasmBindgen> {
    let lock =
        std::fs::read_to_string(paths::root().join("Cargo.lock")).context("could not read Cargo.lock")?;
    let version = locked_version(&lock, "wasm-bindgen")
        .context("Cargo.lock names no version of wasm-bindgen: run `cargo metadata` to write it anew")?;
    let folder = paths::cache().join("tools");
    let executable = |name: &str| {
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        folder.join("bin").join(file)
    };
    let tools = WasmBindgen {
        bindgen: executable("wasm-bindgen"),
        test_runner: executable("wasm-bindgen-test-runner"),
    };
    let present = tools.test_runner.is_file()
        && tools.bindgen.is_file()
        && capture(program(&tools.bindgen).arg("--version"))
            .is_ok_and(|printed| printed.split_whitespace().nth(1) == Some(version));
    if present {
        return Ok(tools);
    }
    headline(&format!("Installing wasm-bindgen-cli {version} (some minutes, once)"));
    let install = || {
        let mut command = cargo();
        command
            .args(["install", "wasm-bindgen-cli", "--version", version, "--force", "--root"])
            .arg(&folder)
            .args(["--bin", "wasm-bindgen", "--bin", "wasm-bindgen-test-runner"])
            // They run for a second at a time: compiling them fast matters more. Only what takes modules apart is optimized.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_TARGET_DIR", folder.join("build"));
        for package in WALKERS {
            command.arg("--config").arg(format!("profile.release.package.{package}.opt-level=1"));
        }
        command
    };
    if let Err(error) = run(install().arg("--locked")) {
        // A mirror of the registry may lag behind the lock file that is inside the package.
        println!("{error:#}; trying with the newest dependencies there are");
        run(&mut install())?;
    }
    // Only the programs are of use later.
    std::fs::remove_dir_all(folder.join("build")).ok();
    Ok(tools)
}

/// The version of a package in the text of a Cargo.lock.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, entry) = lock.split_once(&format!("\nname = \"{package}\"\nversion = \""))?;
    entry.split('"').next()
}

/// Installs what the tests in browsers and on a Vulkan adapter need of the system, and prints the versions.
pub fn system_packages() -> Result<()> {
    let missing: Vec<&str> = [
        ("chromium", chromium().is_none()),
        ("chromium-driver", find("chromedriver").is_none()),
        ("firefox-esr", firefox().is_err()),
        ("webkit2gtk-driver", webkit_driver().is_err()),
        // WebKit's browser has no headless mode: it draws on a virtual display. `xvfb-run` needs `xauth`.
        ("xvfb", find("xvfb-run").is_none()),
        ("xauth", find("xauth").is_none()),
        ("mesa-vulkan-drivers", !vulkan_driver()),
        ("libvulkan1", !vulkan_loader()),
    ]
    .into_iter()
    .filter_map(|(package, missing)| missing.then_some(package))
    .collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    // WebKitWebDriver does not tell its version; the tests in WebKit print it.
    webkit_driver()?;
    for found in [browser()?, driver()?, firefox()?] {
        println!("  {}", capture(program(found).arg("--version"))?);
    }
    Ok(())
}

/// Installs Debian packages, or says which to install.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let Some(apt) = find("apt-get") else {
        bail!("missing: {list} (Debian's names); install them with this system's package manager");
    };
    let root = cfg!(unix) && capture(program("id").arg("-u")).is_ok_and(|id| id == "0");
    if !root {
        bail!("missing: {list}; install them with `sudo apt-get update && sudo apt-get install -y {list}`");
    }
    headline(&format!("Installing {list}"));
    let apt_get = || {
        let mut command = program(&apt);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(apt_get().args(["update", "-qq"]))?;
    run(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
}

/// The browser that the tests use: Debian's Chromium, or another of the family.
pub fn browser() -> Result<PathBuf> {
    chromium()
        .ok_or_else(|| anyhow!("no Chromium found: install it, or name its program in the variable CHROMIUM"))
}

/// The ChromeDriver that belongs to the browser.
pub fn driver() -> Result<PathBuf> {
    std::env::var_os("CHROMEDRIVER")
        .map(PathBuf::from)
        .or_else(|| find("chromedriver"))
        .ok_or_else(|| anyhow!("no chromedriver found: install it, or name its program in CHROMEDRIVER"))
}

/// The Firefox that the tests use: Debian's, or the one that the variable FIREFOX names.
pub fn firefox() -> Result<PathBuf> {
    std::env::var_os("FIREFOX")
        .map(PathBuf::from)
        .or_else(|| ["firefox-esr", "firefox"].into_iter().find_map(find))
        .ok_or_else(|| anyhow!("no Firefox found: install it, or name its program in the variable FIREFOX"))
}

/// WebKitGTK's WebDriver, which starts WebKitGTK's own browser.
pub fn webkit_driver() -> Result<PathBuf> {
    find("WebKitWebDriver").context("no WebKitWebDriver found: install it (Debian: webkit2gtk-driver)")
}

fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(PathBuf::from(named));
    }
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(find)
}

/// Whether some Vulkan driver is registered; other systems bring their own API.
fn vulkan_driver() -> bool {
    !cfg!(target_os = "linux")
        || ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"]
            .iter()
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .any(|mut entries| entries.next().is_some())
}

fn vulkan_loader() -> bool {
    !cfg!(target_os = "linux")
        || capture(Command::new("/sbin/ldconfig").arg("-p"))
            .is_ok_and(|libraries| libraries.contains("libvulkan.so.1"))
}

/// A Python that can do `-m MODULE`, installing Debian's package of the module when it may.
pub fn python_with(module: &str, package: &str) -> Result<PathBuf> {
    if find("python3").is_none() {
        install(&["python3", package])?;
    }
    let python = find("python3").context("python3 was installed and is still not on PATH")?;
    // `venv` alone can be imported where it cannot work: its packages come with ensurepip.
    let probe = if module == "venv" { "ensurepip" } else { module };
    let has = || succeeds(program(&python).args(["-c", &format!("import {probe}")]));
    if !has() {
        install(&[package])?;
    }
    if !has() {
        bail!("{} has no module {module}", python.display());
    }
    Ok(python)
}

/// Checks for a Node.js that Vite and the tests run on.
pub fn node() -> Result<()> {
    const NEEDED: (u32, u32) = (20, 19);
    const ADVICE: &str = "install Node.js 20.19 or newer, with npm";
    if find("node").is_none() || find("npm").is_none() {
        bail!("no Node.js found: {ADVICE}");
    }
    let printed = capture(program("node").arg("--version"))?;
    let mut parts = printed.trim_start_matches('v').split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        bail!("`node --version` printed {printed:?}");
    };
    if (major, minor) < NEEDED {
        bail!("Node.js {printed} is too old: {ADVICE}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::locked_version;

    #[test]
    fn finds_the_version_of_exactly_that_package() {
        let lock = "\n[[package]]\nname = \"wasm-bindgen-futures\"\nversion = \"0.4.1\"\n\
                    \n[[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\nsource = \"x\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(locked_version(lock, "wasm"), None);
    }
}
