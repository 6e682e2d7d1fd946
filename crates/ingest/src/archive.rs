//! ZIP and tar, read as if their makers meant harm.
//!
//! Entries are written one by one into a staging folder under numbers, so no name inside an archive ever reaches the
//! disk. Sizes are counted while bytes come out of the decompressor; what headers say of them is not believed.

mod budget;
mod tarball;
mod zipfile;

use std::{
    fs::{self, File},
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use crate::{
    IngestError, Result,
    collect::{Collector, Digested, Fault, digest},
    path::FilePath,
    room::Room,
};
use budget::{Budget, Metered};

/// How many first bytes [`sniff`] wants to see.
pub(crate) const HEAD_BYTES: usize = 512;

/// What kind of archive some bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Zip,
    Gzip,
    Tar,
    /// One that is not unpacked.
    Foreign(&'static str),
}

impl Kind {
    /// As a person calls it, with its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zip => "a ZIP archive",
            Self::Gzip => "a gzip file",
            Self::Tar => "a tar archive",
            Self::Foreign(name) => name,
        }
    }
}

/// Knows an archive by its first [`HEAD_BYTES`] bytes.
pub(crate) fn sniff(head: &[u8]) -> Option<Kind> {
    const MAGIC: [(&[u8], Kind); 9] = [
        (b"PK\x03\x04", Kind::Zip),
        (b"PK\x05\x06", Kind::Zip),
        (b"\x1f\x8b", Kind::Gzip),
        (b"7z\xbc\xaf\x27\x1c", Kind::Foreign("a 7z archive")),
        (b"Rar!\x1a\x07", Kind::Foreign("a RAR archive")),
        (b"\xfd7zXZ\x00", Kind::Foreign("an xz file")),
        (b"BZh", Kind::Foreign("a bzip2 file")),
        (b"\x28\xb5\x2f\xfd", Kind::Foreign("a zstd file")),
        (b"LZIP", Kind::Foreign("an lzip file")),
    ];
    let by_magic = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, kind)| *kind);
    by_magic.or_else(|| tarball::is_tar(head).then_some(Kind::Tar))
}

/// Unpacks the archive at `path` into `staging` and hands every file to `collector`.
///
/// # Errors
/// [`IngestError::Archive`] if it is broken or none, [`IngestError::TooLarge`] beyond the limits.
pub(crate) fn unpack(path: &Path, name: &str, staging: &Path, room: Room, collector: &mut Collector<'_>) -> Result<()> {
    let file = File::open(path).map_err(IngestError::read(path))?;
    let archive_bytes = file.metadata().map_err(IngestError::read(path))?.len();
    let mut head = vec![];
    (&file).take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(IngestError::read(path))?;
    let budget = Budget::new(archive_bytes, collector.limits, collector.reporter);
    let mut unpacker = Unpacker { path, name, staging, room, budget: &budget, collector, written: 0 };
    match sniff(&head) {
        Some(Kind::Zip) => unpacker.unpack_zip(),
        Some(Kind::Tar) => unpacker.unpack_tar(Metered::new(unpacker.open()?, &budget)),
        Some(Kind::Gzip) => {
            let inflated = MultiGzDecoder::new(unpacker.open()?);
            unpacker.unpack_tar(Metered::new(BufReader::new(inflated), &budget))
        }
        Some(Kind::Foreign(kind)) => {
            Err(unpacker.broken(format!("it is {kind}; send a ZIP or a tar file, gzipped or not")))
        }
        None => Err(unpacker.broken("it is neither ZIP nor tar; send one of them with a folder per class")),
    }
}

/// One archive on its way into the staging folder.
struct Unpacker<'a, 'c> {
    path: &'a Path,
    name: &'a str,
    staging: &'a Path,
    room: Room,
    budget: &'a Budget<'a>,
    collector: &'a mut Collector<'c>,
    written: usize,
}

impl Unpacker<'_, '_> {
    fn open(&self) -> Result<BufReader<File>> {
        File::open(self.path).map(BufReader::new).map_err(IngestError::read(self.path))
    }

    fn broken(&self, problem: impl Into<String>) -> IngestError {
        IngestError::Archive { name: crate::path::shown(self.name), problem: problem.into() }
    }

    /// Writes an entry to the disk; `None` if it is larger than a file may be.
    fn write(&mut self, content: &mut dyn Read) -> Result<Option<(PathBuf, Digested)>, Fault> {
        let path = self.staging.join(format!("entry-{}", self.written));
        self.written += 1;
        let mut file = File::create_new(&path).map_err(|e| Fault::Ours(IngestError::write(&path)(e)))?;
        let room = &mut self.room;
        let read = digest(content, self.collector.limits.file_bytes, |chunk| {
            room.take(chunk.len() as u64)?;
            file.write_all(chunk).map_err(IngestError::write(&path))
        });
        match read {
            Ok(Some(read)) => Ok(Some((path, read))),
            other => {
                fs::remove_file(&path).map_err(|e| Fault::Ours(IngestError::write(&path)(e)))?;
                other.map(|_| None)
            }
        }
    }

    /// Hands a written entry over, and does not keep the bytes of what is not wanted.
    fn hand_over(&mut self, path: FilePath, written: Option<(PathBuf, Digested)>) -> Result<()> {
        match written {
            None => self.collector.reject_too_large(path),
            Some((file, read)) if sniff(&read.head).is_some() => {
                fs::remove_file(&file).map_err(IngestError::write(&file))?;
                self.collector.take(path, None, file, read);
            }
            Some((file, read)) => self.collector.take(path, None, file, read),
        }
        Ok(())
    }
}
