//! What an image weighs: on a node's disk, and on its way there.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};

/// Of an image's one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// All files together, as a node unpacks them.
    pub bytes: u64,
    /// The layer as a registry keeps and sends it.
    pub gzip_bytes: u64,
}

impl Size {
    /// Weighs the folder that becomes the layer.
    pub fn of(folder: &Path) -> Result<Self> {
        let weigh = || {
            let mut layer = tar::Builder::new(GzEncoder::new(Counter::default(), Compression::default()));
            layer.append_dir_all(".", folder)?;
            io::Result::Ok(Self { bytes: files_in(folder)?, gzip_bytes: layer.into_inner()?.finish()?.0 })
        };
        weigh().with_context(|| format!("cannot read {}", folder.display()))
    }
}

fn files_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { files_in(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// Counts what is written.
#[derive(Default)]
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_in_full_and_compressed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("lib")).expect("a folder");
        fs::write(folder.path().join("lib/zeros"), vec![0; 1 << 20]).expect("a file");
        fs::write(folder.path().join("one"), "1").expect("a file");
        let size = Size::of(folder.path()).expect("it can be read");
        assert_eq!(size.bytes, (1 << 20) + 1);
        assert!((100..20_000).contains(&size.gzip_bytes), "{size:?}");
    }
}
