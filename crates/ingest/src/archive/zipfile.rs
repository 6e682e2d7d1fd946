//! ZIP archives.

use std::{borrow::Cow, io};

use api::dataset::RejectReason;
use zip::{
    ZipReadOptions,
    read::{Config, ZipFileEntry},
    result::ZipError,
    unstable::read::ZipIterable,
};

use super::{Metered, Unpacker};
use crate::{
    IngestError, Result,
    collect::{Fault, check_entries},
};

/// Bits of a Unix mode that tell the kind of file, and two of the kinds.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

impl Unpacker<'_, '_> {
    /// Unpacks a ZIP archive; its central directory is walked, never held.
    pub(super) fn unpack_zip(&mut self) -> Result<()> {
        let mut zip = ZipIterable::try_new(self.open()?, Config::default()).map_err(|e| self.bad_zip(e))?;
        check_entries(zip.len(), self.collector.limits)?;
        let mut body = self.open()?;
        for entry in zip.files().map_err(|e| self.bad_zip(e))? {
            let entry = entry.map_err(|e| self.bad_zip(e))?;
            let name = entry_name(&entry).into_owned();
            if entry.is_dir() || name.ends_with('\\') {
                self.collector.count_entry()?;
                continue;
            }
            if entry.encrypted() {
                return Err(self.broken("it is protected by a password; make it without one"));
            }
            let Some(path) = self.collector.admit(&name)? else { continue };
            if entry.unix_mode().is_some_and(|mode| mode & KIND != 0 && mode & KIND != REGULAR) {
                self.collector.reject(path.shown, RejectReason::UnsafePath, "no regular file but a link or a device");
                continue;
            }
            let written = entry
                .with_reader(&mut body, ZipReadOptions::new())
                .map_err(entry_fault)
                .and_then(|content| self.write(&mut Metered::new(content, self.budget)));
            match written {
                Ok(written) => self.hand_over(path, written)?,
                Err(Fault::Ours(e)) => return Err(e),
                Err(Fault::Source(e)) if is_damage(&e) => {
                    let message = format!("damaged inside the archive ({e})");
                    self.collector.reject(path.shown, RejectReason::Undecodable, message);
                }
                Err(Fault::Source(e)) => return Err(IngestError::read(self.path)(e)),
            }
        }
        Ok(())
    }

    fn bad_zip(&self, error: ZipError) -> IngestError {
        match error {
            ZipError::Io(e) if !is_damage(&e) => IngestError::read(self.path)(e),
            e => self.broken(format!("it is damaged or cut off ({e})")),
        }
    }
}

/// UTF-8 where the bytes are that, for many tools write it without saying so; else what the archive says they are.
fn entry_name<'a>(entry: &'a ZipFileEntry<'_>) -> Cow<'a, str> {
    match std::str::from_utf8(entry.name_raw()) {
        Ok(name) => name.into(),
        Err(_) => entry.name().unwrap_or_else(|_| String::from_utf8_lossy(entry.name_raw())),
    }
}

fn entry_fault(error: ZipError) -> Fault {
    match error {
        ZipError::Io(e) => e.into(),
        ZipError::CompressionMethodNotSupported(method) => Fault::Source(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("compressed by method {method}; deflate is supported"),
        )),
        e => Fault::Source(io::Error::new(io::ErrorKind::InvalidData, e)),
    }
}

/// Whether the bytes are to blame, not the disk they were read from.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    error.raw_os_error().is_none() && matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof | Other)
}
