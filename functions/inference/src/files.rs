//! Reads files through WASI itself instead of through the C library, which would remember the host's handles: a
//! snapshot taken after that would hold handles that no other instance has.

use std::{io, path::Path};

use wasip2::filesystem::{
    preopens::get_directories,
    types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
};

/// What one call reads at most.
const CHUNK_BYTES: u64 = 1 << 20;

/// The whole file at this absolute path.
///
/// # Errors
/// `NotFound` if there is no such file or no directory above it is mounted
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let found = get_directories().into_iter().find_map(|(directory, mount)| {
        let inside = path.strip_prefix(&mount).ok()?.to_str()?.to_owned();
        Some((directory, inside))
    });
    let (directory, inside) = found.ok_or(io::ErrorKind::NotFound)?;
    let file = directory
        .open_at(PathFlags::SYMLINK_FOLLOW, &inside, OpenFlags::empty(), DescriptorFlags::READ)
        .map_err(error)?;
    read_to_end(&file).map_err(error)
}

fn read_to_end(file: &Descriptor) -> Result<Vec<u8>, ErrorCode> {
    let mut bytes = Vec::with_capacity(usize::try_from(file.stat()?.size).unwrap_or_default());
    loop {
        let (chunk, at_end) = file.read(CHUNK_BYTES, bytes.len() as u64)?;
        bytes.extend_from_slice(&chunk);
        if at_end {
            return Ok(bytes);
        }
    }
}

fn error(code: ErrorCode) -> io::Error {
    match code {
        ErrorCode::NoEntry => io::ErrorKind::NotFound.into(),
        ErrorCode::Access | ErrorCode::NotPermitted => io::ErrorKind::PermissionDenied.into(),
        other => io::Error::other(other.name()),
    }
}
