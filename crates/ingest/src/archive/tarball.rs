//! Tar archives: ustar, GNU and pax.
//!
//! Long names are read here and not by the `tar` crate, which would hold a name of any length in memory.

use std::io::{self, Read};

use api::dataset::RejectReason;
use tar::{Archive, EntryType, Header, PaxExtensions};

use super::{HEAD_BYTES, Unpacker};
use crate::{IngestError, Result, collect::Fault};

/// Longest header extension that is read, in bytes.
const EXTENSION_BYTES: u64 = 64 << 10;

/// Whether some bytes begin a tar archive: the checksum of the first header tells, for old ones have no magic.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..HEAD_BYTES) else { return false };
    let stated = Header::from_byte_slice(block).cksum().unwrap_or(0);
    let spaces = 8 * u32::from(b' ');
    let counted = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + spaces;
    stated == counted && block[0] != 0
}

/// What extension headers say of the entry that follows them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Unpacker<'_, '_> {
    /// Unpacks a tar archive that is read to its very end.
    pub(super) fn unpack_tar(&mut self, source: impl Read) -> Result<()> {
        let mut archive = Archive::new(source);
        let mut extensions = Extensions::default();
        for entry in archive.entries().map_err(|e| self.bad_tar(e))?.raw(true) {
            let mut entry = entry.map_err(|e| self.bad_tar(e))?;
            let kind = entry.header().entry_type();
            match kind {
                EntryType::GNULongName => {
                    let mut name = self.extension(&mut entry)?;
                    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                    extensions.name = Some(name);
                    continue;
                }
                EntryType::XHeader => {
                    extensions.read_pax(&self.extension(&mut entry)?);
                    continue;
                }
                EntryType::XGlobalHeader | EntryType::GNULongLink => {
                    self.collector.count_entry()?;
                    continue;
                }
                _ => {}
            }
            let Extensions { name, size } = std::mem::take(&mut extensions);
            let name = name.unwrap_or_else(|| entry.path_bytes().into_owned());
            let name = String::from_utf8_lossy(&name);
            if size.is_some_and(|size| size != entry.size()) {
                return Err(self.broken("one of its files is larger than 8 GiB"));
            }
            if kind == EntryType::Directory || (kind.is_file() && name.ends_with('/')) {
                self.collector.count_entry()?;
                continue;
            }
            let Some(path) = self.collector.admit(&name)? else { continue };
            if !kind.is_file() && !kind.is_contiguous() {
                self.collector.reject(path.shown, RejectReason::UnsafePath, "no regular file but a link or a device");
                continue;
            }
            let written = self.write(&mut entry).map_err(|fault| self.bad_tar_fault(fault))?;
            if written.as_ref().is_some_and(|(_, read)| read.bytes != entry.size()) {
                return Err(self.cut_off());
            }
            self.hand_over(path, written)?;
        }
        // Two blocks of zeros end an archive, of which the first has been read; behind them stands the checksum of a
        // gzip file. Without all that, something is missing.
        let rest = io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|e| self.bad_tar(e))?;
        if rest == 0 { Err(self.cut_off()) } else { Ok(()) }
    }

    fn extension(&mut self, entry: &mut impl Read) -> Result<Vec<u8>> {
        self.collector.count_entry()?;
        let mut bytes = vec![];
        entry.take(EXTENSION_BYTES + 1).read_to_end(&mut bytes).map_err(|e| self.bad_tar(e))?;
        if bytes.len() as u64 > EXTENSION_BYTES {
            return Err(self.broken("one of its file names is longer than 64 KiB"));
        }
        Ok(bytes)
    }

    fn bad_tar(&self, error: io::Error) -> IngestError {
        self.bad_tar_fault(error.into())
    }

    fn bad_tar_fault(&self, fault: Fault) -> IngestError {
        match fault {
            Fault::Ours(e) => e,
            Fault::Source(e) if e.raw_os_error().is_some() => IngestError::read(self.path)(e),
            Fault::Source(e) if e.kind() == io::ErrorKind::UnexpectedEof => self.cut_off(),
            Fault::Source(e) => self.broken(format!("it is no tar file, or a damaged one ({e})")),
        }
    }

    fn cut_off(&self) -> IngestError {
        self.broken("it is cut off; send it again")
    }
}

impl Extensions {
    fn read_pax(&mut self, records: &[u8]) {
        for record in PaxExtensions::new(records).filter_map(Result::ok) {
            match record.key_bytes() {
                b"path" => self.name = Some(record.value_bytes().to_owned()),
                b"size" => self.size = record.value().ok().and_then(|size| size.parse().ok()),
                _ => {}
            }
        }
    }
}
