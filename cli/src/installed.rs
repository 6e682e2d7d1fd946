//! Where the trainer and what it needs lie on this machine: beside this program, where variables say, or in the cache
//! folder that `cargo xtask setup` fills.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use api::{
    backbone::{BUILT_IN, BuiltIn},
    train::DEFAULT_BACKBONE,
};
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

/// Names of all backbones that a run can ask for.
///
/// # Errors
/// If volume 2 cannot be read
pub fn backbone_names(volumes: &Volumes) -> Result<Vec<String>> {
    let own = volumes.backbones()?.into_iter().map(|own| own.manifest.name);
    Ok(built_in().into_iter().map(|known| known.name.to_owned()).chain(own).collect())
}

/// Variables by which a trainer finds what it needs, as far as they are not set already.
pub fn environment() -> Vec<(&'static str, PathBuf)> {
    let library = (LIBRARY.0, in_cache(LIBRARY.1, set).map(|folder| folder.join(LIBRARY.1)));
    let missing = [library, (BACKBONES, backbones(set))].into_iter().filter(|(name, _)| set(name).is_none());
    missing.filter_map(|(name, path)| Some((name, path?))).collect()
}

type Variable = fn(&str) -> Option<OsString>;

fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn backbones(variable: Variable) -> Option<PathBuf> {
    let default = BUILT_IN.iter().find(|known| known.name == DEFAULT_BACKBONE)?;
    variable(BACKBONES).map(PathBuf::from).or_else(|| in_cache(default.file, variable))
}

/// The newest folder of the cache that holds this file.
fn in_cache(file: &str, variable: Variable) -> Option<PathBuf> {
    let cache = variable("FOVEA_CACHE")
        .map(PathBuf::from)
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| Path::new(&dir).join("fovea")))
        .or_else(|| variable("HOME").map(|dir| Path::new(&dir).join(".cache/fovea")))?;
    let folders = fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    // Names end in versions: the last one is the newest.
    folders.filter(|folder| folder.join(file).is_file()).max()
}
