//! Where the trainer and what it needs lie on this machine: beside this program, where variables say, or in the cache
//! folder that `cargo xtask setup` fills.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use api::backbone::{BUILT_IN, BuiltIn, Installed};
use store::Volumes;

/// ONNX Runtime's shared library.
const LIBRARY: (&str, &str) = ("ORT_DYLIB_PATH", "libonnxruntime.so");

/// Names the folder of the house's own backbones.
const BACKBONES: &str = "FOVEA_BACKBONES";

/// A program of the house beside this one.
///
/// # Errors
/// If it is not there, with the command that builds it
pub fn program(folder: &Path, name: &str, package: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "{name} is not in {}; build it (cargo build --release -p {package}), or run `cargo xtask up`",
        folder.display()
    );
    Ok(path)
}

/// The folder that this program lies in.
pub fn folder() -> Result<PathBuf> {
    let this = env::current_exe().context("cannot tell where this program lies")?;
    Ok(this.parent().context("this program lies in no folder")?.to_owned())
}

/// The house's own backbones that are there.
pub fn built_in() -> Vec<&'static BuiltIn> {
    let folder = backbones(set);
    BUILT_IN.iter().filter(|known| folder.as_ref().is_some_and(|folder| folder.join(known.file).is_file())).collect()
}

/// All backbones that a run can ask for.
///
/// # Errors
/// If volume 2 cannot be read
pub fn all_backbones(volumes: &Volumes) -> Result<Vec<Installed>> {
    let own = volumes.backbones()?.into_iter().map(|own| Installed::from(&own.manifest));
    Ok(built_in().into_iter().map(Installed::from).chain(own).collect())
}

/// Variables by which a trainer finds what it needs, as far as they are not set already.
pub fn environment() -> Vec<(&'static str, PathBuf)> {
    let library = (LIBRARY.0, in_cache(&[LIBRARY.1], set).map(|folder| folder.join(LIBRARY.1)));
    let missing = [library, (BACKBONES, backbones(set))].into_iter().filter(|(name, _)| set(name).is_none());
    missing.filter_map(|(name, path)| Some((name, path?))).collect()
}

fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn backbones(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    variable(BACKBONES).map(PathBuf::from).or_else(|| in_cache(&BUILT_IN.map(|known| known.file), variable))
}

/// The folder of the cache that holds most of these files; of several such, the newest.
fn in_cache(files: &[&str], variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let cache = variable("FOVEA_CACHE")
        .map(PathBuf::from)
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| Path::new(&dir).join("fovea")))
        .or_else(|| variable("HOME").map(|dir| Path::new(&dir).join(".cache/fovea")))?;
    let folders = fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let held = |folder: &Path| files.iter().filter(|file| folder.join(file).is_file()).count();
    // Names end in versions: the last one is the newest.
    let best = folders.map(|folder| (held(&folder), folder)).max()?;
    (best.0 > 0).then_some(best.1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named_with_what_builds_it() {
        let folder = tempfile::tempdir().unwrap();
        let missing = program(folder.path(), "fovea-trainer", "trainer").unwrap_err().to_string();
        assert!(missing.contains("fovea-trainer is not in"), "{missing}");
        assert!(missing.contains("cargo build --release -p trainer"), "{missing}");
        fs::write(folder.path().join("fovea-trainer"), "").unwrap();
        assert_eq!(program(folder.path(), "fovea-trainer", "trainer").unwrap(), folder.path().join("fovea-trainer"));
    }

    #[test]
    fn the_cache_folder_that_holds_most_is_taken_and_of_alike_ones_the_newest() {
        let cache = tempfile::tempdir().unwrap();
        for file in ["one-0.9.0/a", "all-0.1.0/a", "all-0.1.0/b", "all-0.2.0/a", "all-0.2.0/b", "empty/c"] {
            fs::create_dir_all(cache.path().join(file).parent().unwrap()).unwrap();
            fs::write(cache.path().join(file), "").unwrap();
        }
        let variable = |name: &str| (name == "FOVEA_CACHE").then(|| cache.path().into());
        assert_eq!(in_cache(&["a", "b"], variable), Some(cache.path().join("all-0.2.0")));
        assert_eq!(in_cache(&["a"], variable), Some(cache.path().join("one-0.9.0")));
        assert_eq!(in_cache(&["d"], variable), None);
        assert_eq!(in_cache(&["a"], |_| None), None);
    }
}
