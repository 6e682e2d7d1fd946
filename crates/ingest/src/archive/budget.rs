//! How much an archive may unpack to, counted byte by byte as it does.

use std::{
    cell::Cell,
    io::{self, Read},
};

use bytesize::ByteSize;

use crate::{IngestError, Limits, Stage, reporter::Reporter};

/// The bytes one archive may unpack to.
pub(super) struct Budget<'a> {
    archive_bytes: u64,
    limits: &'a Limits,
    reporter: &'a Reporter,
    used: Cell<u64>,
}

impl<'a> Budget<'a> {
    pub fn new(archive_bytes: u64, limits: &'a Limits, reporter: &'a Reporter) -> Self {
        Self { archive_bytes, limits, reporter, used: Cell::new(0) }
    }

    fn spend(&self, bytes: u64) -> Result<(), IngestError> {
        let used = self.used.get() + bytes;
        self.used.set(used);
        self.reporter.tell(Stage::Unpack, used, 0)?;
        let (limits, ratio) = (self.limits, self.limits.inflation_ratio);
        if used > limits.unpacked_bytes {
            let most = ByteSize::b(limits.unpacked_bytes);
            return Err(IngestError::TooLarge(format!("it unpacks to more than {most}; split it into several")));
        }
        if used > limits.inflation_free_bytes && used / ratio.max(1) > self.archive_bytes {
            let size = ByteSize::b(self.archive_bytes);
            return Err(IngestError::TooLarge(format!(
                "its {size} unpack to more than {ratio} times as much, which pictures never do; it looks like a bomb"
            )));
        }
        Ok(())
    }
}

/// A reader whose bytes are paid from a [`Budget`]. Beyond it, reading fails with an [`IngestError`] inside the
/// I/O error.
pub(super) struct Metered<'a, R> {
    inner: R,
    budget: &'a Budget<'a>,
}

impl<'a, R> Metered<'a, R> {
    pub fn new(inner: R, budget: &'a Budget<'a>) -> Self {
        Self { inner, budget }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.budget.spend(n as u64).map_err(io::Error::other)?;
        Ok(n)
    }
}
