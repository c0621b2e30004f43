//! Runs programs and says what it runs.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths;

/// A headline for the next piece of work.
pub fn headline(text: &str) {
    println!("==> {text}");
}

/// A program to be run in the repository's root, without input.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(paths::root()).stdin(Stdio::null());
    command
}

/// The cargo that runs this program.
pub fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs to the end, output on the terminal; fails if the program does.
pub fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    println!("  $ {line}");
    let status = command.status().with_context(|| format!("could not start {}", name_of(command)))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs to the end and returns what it printed.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start {}", name_of(command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", describe(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether the program starts and succeeds; prints nothing.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Looks for a program as the shell would.
pub fn find(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(&file)).find(|candidate| candidate.is_file())
}

fn name_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// The command as one could type it in the repository's root.
fn describe(command: &Command) -> String {
    let root = paths::root();
    let mut line = String::new();
    if let Some(folder) = command.get_current_dir().filter(|folder| *folder != root) {
        let _ = write!(line, "cd {} && ", short(folder, &root));
    }
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            let value = short(Path::new(value), &root);
            let _ = write!(line, "{}={} ", key.to_string_lossy(), quote(&value));
        }
    }
    let program = Path::new(command.get_program());
    // The full path of cargo says nothing.
    let name = program.file_name().filter(|name| *name == "cargo");
    line += &name.map_or_else(|| short(program, &root), |name| name.to_string_lossy().into_owned());
    for argument in command.get_args() {
        line.push(' ');
        line += &quote(&short(Path::new(argument), &root));
    }
    line
}

fn short(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

fn quote(word: &str) -> String {
    if word.is_empty() || word.contains([' ', '\'', '"', '*', '$', '|', '<', '>']) {
        format!("'{}'", word.replace('\'', "'\\''"))
    } else {
        word.to_owned()
    }
}
