//! A TIFF file in memory, read with one byte of its directory changed.

use std::io::{Cursor, Read, Result, Seek, SeekFrom};

/// Tag of the photometric interpretation, and two of its values.
const PHOTOMETRIC: u16 = 262;
const GRAY: u8 = 1;
const PALETTE: u8 = 3;

/// The file, and where a reader sees another byte than there is.
#[derive(Debug)]
pub(super) struct Renamed<'a> {
    file: Cursor<&'a [u8]>,
    changed: Option<(usize, u8)>,
}

impl<'a> Renamed<'a> {
    /// The file as it is.
    pub fn unchanged(bytes: &'a [u8]) -> Self {
        Self { file: Cursor::new(bytes), changed: None }
    }

    /// The file, whose directory at `page` says *gray* for *palette*; `None` where it does not say so.
    pub fn palette_as_gray(bytes: &'a [u8], page: u64) -> Option<Self> {
        let at = value_of_photometric(bytes, usize::try_from(page).ok()?)?;
        (bytes.get(at) == Some(&PALETTE)).then(|| Self { file: Cursor::new(bytes), changed: Some((at, GRAY)) })
    }
}

impl Read for Renamed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let start = self.file.position();
        let read = self.file.read(buffer)?;
        if let Some((at, byte)) = self.changed
            && let Some(at) = usize::try_from(start).ok().and_then(|start| at.checked_sub(start))
            && at < read
        {
            buffer[at] = byte;
        }
        Ok(read)
    }
}

impl Seek for Renamed<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.file.seek(to)
    }
}

/// Offset of the lowest byte of the interpretation's value.
fn value_of_photometric(bytes: &[u8], page: usize) -> Option<usize> {
    let little_endian = bytes.starts_with(b"II");
    let big = bytes.starts_with(b"II+") || bytes.starts_with(b"MM\0+");
    let (count_bytes, entry_bytes, value_at) = if big { (8, 20, 12) } else { (2, 12, 8) };
    let u16_at = |at: usize| {
        let two = *bytes.get(at..)?.first_chunk()?;
        Some(if little_endian { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let mut entry = page.checked_add(count_bytes)?;
    while u16_at(entry)? != PHOTOMETRIC {
        entry = entry.checked_add(entry_bytes)?;
    }
    let value_bytes = match u16_at(entry + 2)? {
        1 => 1,
        3 => 2,
        4 => 4,
        _ => return None,
    };
    Some(entry + value_at + if little_endian { 0 } else { value_bytes - 1 })
}
