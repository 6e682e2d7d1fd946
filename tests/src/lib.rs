//! The corridor from end to end, with the real programs, the real components and real sockets.
//!
//! This library is what the tests in `tests/` share: [`house`] starts everything as a person would, [`pictures`] makes
//! labelled pictures. It asserts nothing itself.

pub mod house;
pub mod pictures;

use std::path::PathBuf;

/// Root of the checkout.
pub fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("tests/ lies in the workspace").to_owned()
}

/// A folder of the optional collection of data beside the checkout (`FOVEA_SHARED`), if it is there.
///
/// Prints that the calling test is skipped if it is not.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FOVEA_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let path = root.join(folder);
    if !path.is_dir() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}
