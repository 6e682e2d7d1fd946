//! Whether volume 1 has room for more.

use std::path::{Path, PathBuf};

use crate::{IngestError, Limits, Result};

/// How many bytes are written between two looks at the volume.
const STEP: u64 = 64 << 20;

/// Watches the free room of a volume while it is written to.
#[derive(Debug)]
pub(crate) struct Room {
    volume: PathBuf,
    reserve: u64,
    until_check: u64,
}

impl Room {
    /// # Errors
    /// [`IngestError::NoRoom`] unless `wanted` bytes fit into the volume beside the reserve.
    pub fn new(volume: &Path, limits: &Limits, wanted: u64) -> Result<Self> {
        let room = Self { volume: volume.to_owned(), reserve: limits.reserve_bytes, until_check: STEP };
        room.check(wanted)?;
        Ok(room)
    }

    /// Says that so many bytes are about to be written.
    pub fn take(&mut self, bytes: u64) -> Result<()> {
        match self.until_check.checked_sub(bytes) {
            Some(rest) => self.until_check = rest,
            None => {
                self.until_check = STEP;
                self.check(bytes)?;
            }
        }
        Ok(())
    }

    fn check(&self, wanted: u64) -> Result<()> {
        let stat = rustix::fs::statvfs(&self.volume).map_err(|e| IngestError::read(&self.volume)(e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < self.reserve.saturating_add(wanted) {
            return Err(IngestError::NoRoom { free, reserve: self.reserve });
        }
        Ok(())
    }
}
