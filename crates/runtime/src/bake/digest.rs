//! SHA-256 as a name: of bytes, of a folder's content, of what an artefact's code depends on.

use std::{
    fmt, fs,
    hash::{Hash, Hasher},
    io::{self, Read as _},
    path::Path,
};

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

/// What is read at once of a file.
const CHUNK_BYTES: usize = 256 << 10;

/// A SHA-256; shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of a file's content.
    ///
    /// # Errors
    /// If it cannot be read
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = fs::File::open(path)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(Self(hash.finalize().into())),
                length => hash.update(&chunk[..length]),
            }
        }
    }

    /// Of the names and contents of all files in a folder and the folders below it.
    ///
    /// # Errors
    /// If one of them cannot be read
    pub fn of_folder(folder: &Path) -> io::Result<Self> {
        let mut hash = Sha256::new();
        add_folder(&mut hash, folder)?;
        Ok(Self(hash.finalize().into()))
    }

    /// Of a purpose and some parts, for code of this engine's wasmtime, target and settings.
    pub(super) fn of_code(engine: &Engine, purpose: &str, parts: &[&Self]) -> Self {
        let mut hash = HashInto(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hash);
        purpose.hash(&mut hash);
        parts.hash(&mut hash);
        Self(hash.0.finalize().into())
    }

    /// Of everything in wasmtime that compiled code depends on: version, target, compiler settings, CPU features.
    pub(crate) fn of_compiler(engine: &Engine) -> Self {
        Self::of_code(engine, "compiler", &[])
    }
}

fn add_folder(hash: &mut Sha256, folder: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    hash.update((entries.len() as u64).to_le_bytes());
    for entry in entries {
        let (name, path) = (entry.file_name(), entry.path());
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_encoded_bytes());
        if fs::metadata(&path)?.is_dir() {
            hash.update(b"d");
            add_folder(hash, &path)?;
        } else {
            hash.update(b"f");
            hash.update(Digest::of_file(&path)?.0);
        }
    }
    Ok(())
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Lets a [`Hash`] be hashed with SHA-256.
struct HashInto(Sha256);

impl Hasher for HashInto {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("only the SHA-256 is asked for")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_folders_digest_is_that_of_its_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        let mut look = || {
            let digest = Digest::of_folder(dir.path()).unwrap();
            let is_new = !seen.contains(&digest);
            seen.push(digest);
            is_new
        };
        assert!(look());
        fs::write(dir.path().join("a"), "1").unwrap();
        assert!(look());
        fs::write(dir.path().join("a"), "2").unwrap();
        assert!(look());
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(look());
        fs::create_dir(dir.path().join("c")).unwrap();
        assert!(look());
        fs::rename(dir.path().join("b"), dir.path().join("c/b")).unwrap();
        assert!(look());
        assert!(!look());
    }

    #[test]
    fn other_settings_give_other_names() {
        let plain = Engine::default();
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let interruptible = Engine::new(&config).unwrap();
        assert_ne!(Digest::of_compiler(&plain), Digest::of_compiler(&interruptible));
        assert_eq!(Digest::of_compiler(&plain), Digest::of_compiler(&Engine::default()));
    }
}
