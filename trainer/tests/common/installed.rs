//! Where the engine and the backbones lie, for tests.

use std::path::PathBuf;

/// The ONNX Runtime library: `ORT_DYLIB_PATH`, or else what `cargo xtask setup` keeps in the cache folder.
pub fn library() -> PathBuf {
    installed("ORT_DYLIB_PATH", "onnxruntime-", "libonnxruntime.so")
        .expect("ORT_DYLIB_PATH is not set and the cache has no ONNX Runtime: run `cargo xtask setup`")
}

/// The folder of built-in backbones' weights, likewise; nothing where not even the first one is installed.
pub fn backbones() -> Option<PathBuf> {
    let set = std::env::var_os("FOVEA_BACKBONES").filter(|value| !value.is_empty()).map(PathBuf::from);
    set.or_else(|| Some(installed("", "backbones-", "efficientnet-lite0.pth")?.parent()?.to_owned()))
}

fn installed(variable: &str, folder: &str, file: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set(variable) {
        return Some(path);
    }
    let cache = set("FOVEA_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("fovea")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/fovea")))?;
    let folders = std::fs::read_dir(cache).ok()?.filter_map(Result::ok);
    let folders = folders.filter(|found| found.file_name().to_str().is_some_and(|name| name.starts_with(folder)));
    folders.map(|folder| folder.path().join(file)).filter(|path| path.is_file()).max()
}
