//! `cargo xtask offline`: a folder of static files for any host, with pages, engine and model.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::demo::{self, Model};
use crate::{paths, wasm, web};

/// What is asked for.
pub struct Wishes {
    pub out: PathBuf,
    pub model: Option<PathBuf>,
    /// The site is taken as it was built last.
    pub site_as_it_is: bool,
}

/// Netlify and Cloudflare Pages read it, other hosts ignore it: docs/HOSTING.md has what they need.
const HEADERS: (&str, &str) = (
    "_headers",
    "\
/*
  Cross-Origin-Opener-Policy: same-origin
  Cross-Origin-Embedder-Policy: require-corp
  Cross-Origin-Resource-Policy: same-origin
  X-Content-Type-Options: nosniff
/assets/*
  Cache-Control: public, max-age=31536000, immutable
",
);

/// Without one, Cloudflare Pages answers every unknown address with the chat page.
const NOT_FOUND: (&str, &str) = (
    "404.html",
    "<!doctype html>\n<html lang=\"en\">\n  <meta charset=\"utf-8\" />\n  <title>Not found</title>\n  <p>There is no such page.</p>\n</html>\n",
);

/// Without one, GitHub Pages runs Jekyll over a branch, which passes over names with an underscore and turns Markdown into pages.
const NO_JEKYLL: (&str, &str) = (".nojekyll", "");

const README: (&str, &str) = (
    "README.txt",
    "\
Emberglass: a chat page and a picture page whose models compute in the visitor's browser.

This folder is complete. Put its contents on any static host, in any folder of it, over https: browsers keep
pages and models only for addresses that begin with https, and for http://localhost. To try it on this machine:

    python3 -m http.server 8080

in this folder, then open http://localhost:8080. The pages do not run from file:// addresses.

After one visit the pages work without a network. The model does, too, once it was loaded.

Several threads compute where the host sends two headers with every file:

    Cross-Origin-Opener-Policy: same-origin
    Cross-Origin-Embedder-Policy: require-corp

_headers says so to Netlify and to Cloudflare Pages. On a host that cannot send headers, such as GitHub Pages,
the site's service worker (sw.js) adds them from the second load of a page on.

The host must deliver the files as they are, byte by byte. Where it changes one, such as by a script that it puts
into pages, the site works and is not kept for times without a network.

models/manifest.json names the model that the chat page offers, with its size and its SHA-256. Its address
may be on another host, where that host allows it (Access-Control-Allow-Origin): Cloudflare Pages takes no
file above 25 MiB and GitHub none above 100 MiB.

NOTICE.md lists the works that this folder contains, and their licences.
",
);

/// Builds the site and writes the folder.
pub fn run(wishes: &Wishes) -> Result<()> {
    // What is wrong with the wishes should not show only after the build.
    check_out(&wishes.out)?;
    let chosen = wishes.model.as_deref().map(Model::of).transpose()?;
    if !wishes.site_as_it_is {
        wasm::build()?;
        web::build()?;
    }
    let model = chosen.map_or_else(Model::default_one, Ok)?;
    write(&paths::root().join("www/dist"), &wishes.out, &model, &demo::sizes()?)?;
    println!("  {} is ready: its README.txt says how to serve it", wishes.out.display());
    Ok(())
}

/// Fails where something is that would be lost.
fn check_out(out: &Path) -> Result<()> {
    match fs::read_dir(out) {
        Ok(mut entries) => match entries.next() {
            Some(_) => bail!("{} is not empty: choose another folder, or empty this one", out.display()),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => bail!("{} cannot be written to as a folder: {error}", out.display()),
    }
}

/// Writes it beside where it goes: the folder appears whole or not at all.
fn write(pages: &Path, out: &Path, model: &Model, sizes: &str) -> Result<()> {
    let name = out.file_name().with_context(|| format!("{} is no name of a folder", out.display()))?;
    let partial = out.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
    let written = write_whole(pages, &partial, model, sizes).and_then(|()| {
        if out.exists() {
            fs::remove_dir(out)?;
        }
        fs::rename(&partial, out).with_context(|| format!("could not write {}", out.display()))
    });
    if written.is_err() {
        // The first error counts; there may be no folder.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

fn write_whole(pages: &Path, to: &Path, model: &Model, sizes: &str) -> Result<()> {
    // A copy of the model: what is done to the folder must not change the file that it came from.
    demo::assemble(pages, to, model, |from, to| {
        fs::copy(from, to).map(drop).context("could not copy the model")
    })?;
    for (name, text) in [HEADERS, NOT_FOUND, NO_JEKYLL, README, (demo::SIZES, sizes)] {
        fs::write(to.join(name), text).with_context(|| format!("could not write {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-offline-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, contents: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, contents).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn only_an_empty_folder_is_written_to() {
        let folder = Folder::new("out");
        check_out(&folder.0.join("new/deep")).unwrap();
        fs::create_dir(folder.0.join("empty")).unwrap();
        check_out(&folder.0.join("empty")).unwrap();
        let refused = |path: &Path| check_out(path).unwrap_err().to_string();
        let file = folder.file("theses/mine.txt", "precious");
        assert!(refused(&folder.0.join("theses")).contains("is not empty"));
        assert!(refused(&file).contains("as a folder"));
    }

    #[test]
    fn the_folder_is_complete_and_the_model_is_a_copy() {
        let folder = Folder::new("whole");
        folder.file("dist/index.html", "<!doctype html>");
        folder.file("dist/assets/a.js", "1");
        let source = folder.file("a b.gguf", "GGUF");
        let model = Model::of(&source).unwrap();
        let out = folder.0.join("out");
        fs::create_dir(&out).unwrap();
        write(&folder.0.join("dist"), &out, &model, "{}").unwrap();
        for name in [
            "index.html",
            "assets/a.js",
            "_headers",
            "404.html",
            ".nojekyll",
            "README.txt",
            "models/a b.gguf",
        ] {
            assert!(out.join(name).is_file(), "{name}");
        }
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("models/manifest.json")).unwrap()).unwrap();
        let entry = &manifest["default"];
        assert_eq!(entry["url"], "models/a%20b.gguf");
        assert_eq!(entry["bytes"], 4);
        assert_eq!(entry["sha256"], crate::model::sha256(&source).unwrap());
        fs::write(out.join("models/a b.gguf"), "changed").unwrap();
        assert_eq!(fs::read_to_string(&source).unwrap(), "GGUF");
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let folder = Folder::new("fails");
        let model = Model::of(&folder.file("a.gguf", "GGUF")).unwrap();
        let out = folder.0.join("out");
        assert!(write(&folder.0.join("no-dist"), &out, &model, "{}").is_err());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }
}
