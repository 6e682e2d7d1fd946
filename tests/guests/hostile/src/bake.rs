//! The version that is mounted, remembered as inference remembers its model: since the initialisation if there was one,
//! since it was first asked for if not.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use spin_sdk::wit_bindgen;
use wasip2::filesystem::{
    preopens::get_directories,
    types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
};

wit_bindgen::generate!({
    inline: "package fovea:hostile; world bake { export wizer-initialize: func(); }",
    world: "bake",
    runtime_path: "::spin_sdk::wit_bindgen::rt",
});

/// Longer than any version's name.
const MAX_NAME_BYTES: u64 = 4096;

static VERSION: OnceLock<String> = OnceLock::new();

static IS_BAKED: AtomicBool = AtomicBool::new(false);

struct Bake;

impl Guest for Bake {
    fn wizer_initialize() {
        match version() {
            Ok("trap") => panic!("this version cannot be baked"),
            Ok(_) => IS_BAKED.store(true, Ordering::Relaxed),
            // It is looked for again when it is asked for.
            Err(_) => {}
        }
    }
}

export!(Bake);

/// Whether this instance had its version from the beginning.
pub fn is_baked() -> bool {
    IS_BAKED.load(Ordering::Relaxed)
}

/// What `/model/version` said when it was first read.
pub fn version() -> Result<&'static str, String> {
    if let Some(version) = VERSION.get() {
        return Ok(version);
    }
    let version = read().map_err(|error| format!("no model: {error}"))?;
    Ok(VERSION.get_or_init(|| version.trim().to_owned()))
}

/// Through WASI itself: the C library would remember the host's handles, and a snapshot must not hold any.
fn read() -> Result<String, String> {
    let model = get_directories().into_iter().find(|(_, path)| path == "/model");
    let (directory, _) = model.ok_or("nothing is mounted at /model")?;
    let failed = |error: ErrorCode| error.name().to_owned();
    let file = directory
        .open_at(PathFlags::SYMLINK_FOLLOW, "version", OpenFlags::empty(), DescriptorFlags::READ)
        .map_err(failed)?;
    let (bytes, _) = file.read(MAX_NAME_BYTES, 0).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}
