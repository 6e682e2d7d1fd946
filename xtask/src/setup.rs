//! Everything that building and running need and a fresh machine lacks.

use std::{
    env::consts::{ARCH, OS},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    backbones::Backbones,
    tools::{self, Tools},
    wheel::{self, ONNXRUNTIME_LIBRARY},
    workspace::WASM_TARGET,
};

/// What was set up.
pub struct Setup {
    onnxruntime: PathBuf,
    backbones: Backbones,
}

impl Setup {
    /// Sets up what is missing; does nothing, quickly, where nothing is.
    pub fn run(tools: &Tools, cache: &Path) -> Result<Self> {
        add_wasm_target(tools)?;
        let onnxruntime = wheel::onnxruntime(ARCH, OS)?.ensure(cache, tools)?.join(ONNXRUNTIME_LIBRARY);
        let backbones = Backbones::ensure(cache, tools)?;
        Ok(Self { onnxruntime, backbones })
    }

    /// What was set up before, if all of it was.
    #[cfg(test)]
    pub fn installed(cache: &Path) -> Option<Self> {
        let onnxruntime = wheel::onnxruntime(ARCH, OS).ok()?.installed(cache)?.join(ONNXRUNTIME_LIBRARY);
        let backbones = Backbones::installed(cache)?;
        Some(Self { onnxruntime, backbones })
    }

    /// ONNX Runtime's shared library.
    pub fn onnxruntime(&self) -> &Path {
        &self.onnxruntime
    }

    /// The pretrained networks.
    pub fn backbones(&self) -> &Backbones {
        &self.backbones
    }

    /// The variables by which the programs find it.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("ORT_DYLIB_PATH", &self.onnxruntime), ("FOVEA_BACKBONES", &self.backbones.folder)]
    }
}

/// Adds the functions' compilation target to the toolchain.
fn add_wasm_target(tools: &Tools) -> Result<()> {
    let no_rust = "rustc is not in PATH; install Rust with rustup and run this again";
    let said =
        tools::output(tools.command("rustc", no_rust)?.args(["--print", "target-libdir", "--target", WASM_TARGET]))?;
    ensure!(
        said.status.success(),
        "this Rust is too old for the target {WASM_TARGET}; update it (rustup update) and run this again ({})",
        tools::complaint(&said)
    );
    let libraries = String::from_utf8(said.stdout).context("rustc names a folder that is no text")?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }

    eprintln!("setup: adding the Rust target {WASM_TARGET}");
    let mut rustup = tools.command(
        "rustup",
        &format!(
            "the Rust target {WASM_TARGET} is missing and rustup is not there to add it; install Rust with rustup, or \
             your distribution's standard library for that target, and run this again"
        ),
    )?;
    let said = tools::output(rustup.args(["target", "add", WASM_TARGET]))?;
    if tools::disk_was_full(&said) {
        bail!("rustup could not add the target {WASM_TARGET}: the disk is full; free about 200 MB where rustup lives");
    }
    ensure!(
        said.status.success(),
        "rustup could not add the target {WASM_TARGET}; check that it reaches its server and run this again ({})",
        tools::complaint(&said)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fake::FakeTools;

    const TARGET_IS_MISSING: (&str, &str) = ("rustc", "echo /nowhere");

    #[track_caller]
    fn check_refused(scripts: &[(&str, &str)], sentence: &str) {
        let fake = FakeTools::new(scripts);
        let error = add_wasm_target(&fake.tools()).expect_err("this cannot work").to_string();
        assert!(error.contains(sentence), "{error}");
    }

    #[test]
    fn a_target_that_is_there_needs_no_rustup() {
        let fake = FakeTools::new(&[("rustc", "echo /tmp")]);
        add_wasm_target(&fake.tools()).expect("nothing is missing");
    }

    #[test]
    fn a_missing_target_is_asked_of_rustup() {
        let asked = tempfile::NamedTempFile::new().expect("a temporary file");
        let script = format!("echo \"$*\" > {}", asked.path().display());
        let fake = FakeTools::new(&[TARGET_IS_MISSING, ("rustup", &script)]);
        add_wasm_target(&fake.tools()).expect("rustup says it worked");
        assert_eq!(std::fs::read_to_string(asked.path()).expect("a file"), "target add wasm32-wasip2\n");
    }

    #[test]
    fn each_missing_prerequisite_is_named_with_its_remedy() {
        check_refused(&[], "rustc is not in PATH; install Rust with rustup");
        check_refused(&[("rustc", "echo 'error: unknown target' >&2; exit 1")], "update it (rustup update)");
        check_refused(&[TARGET_IS_MISSING], "rustup is not there to add it; install Rust with rustup");
        check_refused(
            &[TARGET_IS_MISSING, ("rustup", "echo 'error: could not download file' >&2; exit 1")],
            "check that it reaches its server and run this again (error: could not download file)",
        );
        check_refused(
            &[TARGET_IS_MISSING, ("rustup", "echo 'No space left on device (os error 28)' >&2; exit 1")],
            "the disk is full",
        );
    }
}
