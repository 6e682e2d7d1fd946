//! Artefacts on disk: what was baked once is mapped ever after.
//!
//! An artefact is machine code: whoever can write one can run anything in this process. So the folder belongs to
//! this user alone, each artefact carries an HMAC under a key that lies in the same folder, and one that does not
//! verify — truncated, tampered with, made elsewhere — is as good as none. An artefact's name is a hash of what it is
//! made from and of everything in wasmtime that its code depends on, so a stale one is never found.
//!
//! Layout: `key`, and per artefact `<name>/artefact` with `<name>/manifest.json` and `<name>/mac` beside it,
//! published by renaming the folder.

use std::{
    collections::HashMap,
    fmt,
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::fd::AsRawFd as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

use super::Digest;
use crate::RuntimeError;

/// Artefacts that are kept; of more than these the longest unused ones go.
const MAX_ARTEFACTS: usize = 64;

/// A folder that an artefact is being written to is nobody's any more after this time.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

const STAGING: &str = ".staging-";
const ARTEFACT: &str = "artefact";
const MANIFEST: &str = "manifest.json";
const MAC: &str = "mac";
const KEY: &str = "key";
const KEY_BYTES: usize = 32;

/// What is read at once while an artefact is verified.
const CHUNK_BYTES: usize = 256 << 10;

/// A folder of artefacts.
#[derive(Clone)]
pub struct Artefacts {
    folder: Arc<Path>,
    key: [u8; KEY_BYTES],
    /// Files that this process has verified, by what they are: published ones never change.
    verified: Arc<Mutex<HashMap<Digest, FileId>>>,
}

/// Device, inode, length and the time of the last change.
type FileId = (u64, u64, u64, i64, i64);

impl Artefacts {
    /// Opens the folder, creating it and its key if they are missing.
    ///
    /// # Errors
    /// `Cache` if the folder cannot be made this user's alone, or the key cannot be read
    pub fn open(folder: &Path) -> Result<Self, RuntimeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RuntimeError::Cache { path, source }
        };
        own_folder(folder).map_err(failed(folder))?;
        let path = folder.join(KEY);
        let key = read_or_create_key(folder, &path).map_err(failed(&path))?;
        Ok(Self { folder: folder.into(), key, verified: Arc::default() })
    }

    /// Artefacts under a key that lies elsewhere, for machines that share a volume: whoever holds the key may add to them.
    /// They are not to be mapped where they lie, for others can write there; see [`Artefacts::import`].
    ///
    /// # Errors
    /// `Cache` if the key cannot be read, or is shorter than 32 bytes
    pub fn shared(folder: &Path, key: &Path) -> Result<Self, RuntimeError> {
        let failed = |source| RuntimeError::Cache { path: key.to_owned(), source };
        let secret = fs::read(key).map_err(failed)?;
        if secret.len() < KEY_BYTES {
            let short = format!("a key of {} bytes is too short; it must have {KEY_BYTES}", secret.len());
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, short)));
        }
        Ok(Self { folder: folder.into(), key: Sha256::digest(&secret).into(), verified: Arc::default() })
    }

    /// Copies the artefact of this name from a shared folder; whether it has one that can be trusted.
    pub(crate) fn import(&self, shared: &Self, name: &Digest) -> io::Result<bool> {
        match shared.trusted(name) {
            Some((artefact, manifest)) => self.publish(name, &artefact, &manifest).map(|()| true),
            None => Ok(false),
        }
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The component of this name, mapped; `None` if there is none that can be trusted.
    pub fn find(&self, engine: &Engine, name: &Digest) -> Option<Component> {
        let file = self.verified(name)?;
        // The file that was verified, whatever its name stands for by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: the HMAC shows that a holder of this folder's key wrote the file for this name, and the name stands
        // for a wasmtime and settings equal to ours. Nobody else may write to the folder, and its files are replaced,
        // never changed.
        match unsafe { Component::deserialize_file(engine, &path) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(%name, error = format!("{error:#}"), "an artefact cannot be mapped; baking it anew");
                None
            }
        }
    }

    /// The bytes of this name; `None` if there are none that can be trusted.
    pub(super) fn read(&self, name: &Digest) -> Option<Vec<u8>> {
        self.trusted(name).map(|(artefact, _)| artefact)
    }

    /// The artefact's file, if there is one and it is ours.
    fn verified(&self, name: &Digest) -> Option<File> {
        Self::there(name, self.verify(name, None)).map(|(file, _)| file)
    }

    /// The artefact's bytes and its manifest, as they were verified, if there is one and it is ours.
    fn trusted(&self, name: &Digest) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut artefact = Vec::new();
        let (_, manifest) = Self::there(name, self.verify(name, Some(&mut artefact)))?;
        Some((artefact, manifest))
    }

    fn there<T>(name: &Digest, found: io::Result<T>) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%name, %error, "an artefact is not to be trusted; baking it anew");
                None
            }
        }
    }

    /// The artefact's file and its manifest; what was verified is copied, if that is wished for.
    fn verify(&self, name: &Digest, mut copy: Option<&mut Vec<u8>>) -> io::Result<(File, Vec<u8>)> {
        let folder = self.folder_of(name);
        let expected = fs::read(folder.join(MAC))?;
        let incomplete = |error: io::Error| io::Error::other(format!("it is incomplete: {error}"));
        let manifest = fs::read(folder.join(MANIFEST)).map_err(incomplete)?;
        let mut file = File::open(folder.join(ARTEFACT)).map_err(incomplete)?;
        let id = id(&file.metadata()?);
        let is_known = self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(name) == Some(&id);
        if is_known && copy.is_none() {
            return Ok((file, manifest));
        }
        let mut mac = self.mac(name, &manifest);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                length => {
                    mac.update(&chunk[..length]);
                    if let Some(copy) = &mut copy {
                        copy.extend_from_slice(&chunk[..length]);
                    }
                }
            }
        }
        mac.verify_slice(&expected).map_err(|_| io::Error::other("its HMAC is not that of this folder's key"))?;
        // Marks the artefact as used; it does not matter if that fails.
        let _ = File::open(folder.join(MAC)).and_then(|file| file.set_modified(SystemTime::now()));
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(*name, id);
        Ok((file, manifest))
    }

    /// Writes the artefact aside and renames it to its place, replacing one that is there.
    pub(super) fn publish(&self, name: &Digest, artefact: &[u8], manifest: &[u8]) -> io::Result<()> {
        let folder = self.folder_of(name);
        let mut mac = self.mac(name, manifest);
        mac.update(artefact);
        let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(&self.folder)?;
        let fresh = staging.path().join("fresh");
        fs::create_dir(&fresh)?;
        write_synced(&fresh.join(ARTEFACT), artefact)?;
        write_synced(&fresh.join(MANIFEST), manifest)?;
        write_synced(&fresh.join(MAC), &mac.finalize().into_bytes())?;
        File::open(&fresh)?.sync_all()?;
        match fs::rename(&folder, staging.path().join("replaced")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::rename(&fresh, &folder) {
            // Another process has just published the same artefact.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
            renamed => renamed?,
        }
        File::open(&self.folder)?.sync_all()?;
        self.tidy(SystemTime::now())
    }

    /// Removes surplus artefacts, and what writers that were killed left behind.
    fn tidy(&self, now: SystemTime) -> io::Result<()> {
        let mut artefacts = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let folder = entry?.path();
            if let Ok(used) = fs::metadata(folder.join(MAC)).and_then(|mac| mac.modified()) {
                artefacts.push((used, folder));
            } else if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(STAGING)) {
                let written = fs::metadata(&folder)?.modified()?;
                if now.duration_since(written).is_ok_and(|age| age > ABANDONED_AFTER) {
                    fs::remove_dir_all(folder)?;
                }
            }
        }
        artefacts.sort();
        let surplus = artefacts.len().saturating_sub(MAX_ARTEFACTS);
        artefacts.iter().take(surplus).try_for_each(|(_, folder)| fs::remove_dir_all(folder))
    }

    fn folder_of(&self, name: &Digest) -> PathBuf {
        self.folder.join(name.to_string())
    }

    /// The HMAC of name and manifest, to be updated with the artefact.
    fn mac(&self, name: &Digest, manifest: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(name.as_ref());
        mac.update(&(manifest.len() as u64).to_le_bytes());
        mac.update(manifest);
        mac
    }
}

impl fmt::Debug for Artefacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artefacts").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec())
}

/// Creates the folder for this user alone, or takes everyone else's rights on it away.
fn own_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::metadata(folder)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the folder belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Reads the key; a missing one, and one that is damaged or open to others, is replaced. Artefacts under a replaced
/// key no longer verify.
fn read_or_create_key(folder: &Path, path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    match read_key(path) {
        Ok(Some(key)) => return Ok(key),
        Ok(None) => {
            tracing::warn!(key = %path.display(), "the cache's key is damaged or open to others; replacing it");
            fs::remove_file(path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key)?;
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(key),
        // Another process was faster: its key is the folder's.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            read_key(path)?.ok_or_else(|| io::Error::other("the key was damaged while it was being created"))
        }
        Err(error) => Err(error.error),
    }
}

/// `None` if the file is no key of this user alone.
fn read_key(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let private = metadata.mode() & 0o077 == 0 && metadata.uid() == rustix::process::geteuid().as_raw();
    if !private || metadata.len() != KEY_BYTES as u64 {
        return Ok(None);
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key)?;
    Ok(Some(key))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// The smallest component there is, told from others by the name of its one custom section.
    fn component(name: u8) -> Vec<u8> {
        [&b"\0asm\x0d\0\x01\0"[..], &[0, 2, 1, name]].concat()
    }

    struct Bench {
        dir: tempfile::TempDir,
        engine: Engine,
    }

    impl Bench {
        /// A folder with the artefact `a`.
        fn new() -> Self {
            let bench = Self { dir: tempfile::tempdir().unwrap(), engine: Engine::default() };
            bench.publish(b'a');
            bench
        }

        fn folder(&self) -> PathBuf {
            self.dir.path().join("artefacts")
        }

        fn artefacts(&self) -> Artefacts {
            Artefacts::open(&self.folder()).unwrap()
        }

        fn name(name: u8) -> Digest {
            Digest::of(&[name])
        }

        fn publish(&self, name: u8) {
            let artefact = self.engine.precompile_component(&component(name)).unwrap();
            self.artefacts().publish(&Self::name(name), &artefact, b"{}").unwrap();
        }

        fn place(&self, name: u8) -> PathBuf {
            self.artefacts().folder_of(&Self::name(name))
        }

        /// Whether the artefact `a` is taken as it lies there now.
        fn is_trusted(&self) -> bool {
            self.artefacts().find(&self.engine, &Self::name(b'a')).is_some()
        }
    }

    #[test]
    fn what_was_published_is_found_under_its_name_only() {
        let bench = Bench::new();
        assert!(bench.is_trusted());
        assert!(bench.artefacts().find(&bench.engine, &Bench::name(b'b')).is_none());
    }

    #[test]
    fn a_damaged_artefact_is_not_trusted_and_can_be_replaced() {
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 9] = [
            ("truncated", |folder| {
                let file = OpenOptions::new().write(true).open(folder.join(ARTEFACT)).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            }),
            ("one bit flipped", |folder| {
                let mut bytes = fs::read(folder.join(ARTEFACT)).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(folder.join(ARTEFACT), bytes).unwrap();
            }),
            ("emptied", |folder| fs::write(folder.join(ARTEFACT), "").unwrap()),
            ("gone", |folder| fs::remove_file(folder.join(ARTEFACT)).unwrap()),
            ("of another origin", |folder| fs::write(folder.join(MANIFEST), "{ }").unwrap()),
            ("of no origin", |folder| fs::remove_file(folder.join(MANIFEST)).unwrap()),
            ("unsigned", |folder| fs::remove_file(folder.join(MAC)).unwrap()),
            ("signed with nothing", |folder| fs::write(folder.join(MAC), "").unwrap()),
            ("under another key", |folder| {
                fs::remove_file(folder.parent().unwrap().join(KEY)).unwrap();
            }),
        ];
        for (name, damage) in damages {
            let bench = Bench::new();
            damage(&bench.place(b'a'));
            assert!(!bench.is_trusted(), "{name}: still trusted");
            bench.publish(b'a');
            assert!(bench.is_trusted(), "{name}: not replaced");
        }
    }

    #[test]
    fn an_artefact_under_anothers_name_is_not_trusted() {
        let bench = Bench::new();
        bench.publish(b'b');
        for file in [ARTEFACT, MANIFEST, MAC] {
            fs::copy(bench.place(b'b').join(file), bench.place(b'a').join(file)).unwrap();
        }
        assert!(!bench.is_trusted());
    }

    #[test]
    fn what_holders_of_a_shared_key_baked_is_imported() {
        let (bench, machine) = (Bench::new(), Bench::new());
        let key = |text: &str| {
            let file = machine.dir.path().join("shared-key");
            fs::write(&file, text).unwrap();
            Artefacts::shared(&machine.dir.path().join("volume"), &file)
        };
        let theirs = key(&"k".repeat(32)).unwrap();
        fs::create_dir(theirs.folder()).unwrap();
        let artefact = bench.engine.precompile_component(&component(b'b')).unwrap();
        theirs.publish(&Bench::name(b'b'), &artefact, b"{}").unwrap();

        let ours = bench.artefacts();
        let name = Bench::name(b'b');
        assert!(!ours.import(&key(&"x".repeat(32)).unwrap(), &name).unwrap(), "another key's");
        assert!(!ours.import(&theirs, &Bench::name(b'c')).unwrap(), "nobody's");
        assert!(ours.find(&bench.engine, &name).is_none());
        assert!(ours.import(&theirs, &name).unwrap());
        assert!(ours.find(&bench.engine, &name).is_some());

        assert!(key("short").err().unwrap().to_string().contains("shared-key"));
    }

    #[test]
    fn folder_and_key_are_closed_to_others() {
        let bench = Bench::new();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&bench.folder()), 0o700);
        assert_eq!(mode(&bench.folder().join(KEY)), 0o600);

        fs::set_permissions(bench.folder(), Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(bench.folder().join(KEY), Permissions::from_mode(0o644)).unwrap();
        assert!(!bench.is_trusted(), "the key could have been read");
        assert_eq!(mode(&bench.folder()), 0o700);
        assert_eq!(mode(&bench.folder().join(KEY)), 0o600);
    }

    #[test]
    fn only_so_many_artefacts_are_kept() {
        let bench = Bench::new();
        for n in 0..MAX_ARTEFACTS + 3 {
            bench.artefacts().publish(&Digest::of(&n.to_le_bytes()), b"artefact", b"{}").unwrap();
        }
        let kept = fs::read_dir(bench.folder()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
        assert_eq!(kept.count(), MAX_ARTEFACTS);
    }

    #[test]
    fn what_is_mapped_or_read_counts_as_used() {
        let bench = Bench::new();
        let mac = File::open(bench.place(b'a').join(MAC)).unwrap();
        for uses in
            [|bench: &Bench| bench.is_trusted(), |bench: &Bench| bench.artefacts().read(&Bench::name(b'a')).is_some()]
        {
            mac.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            assert!(uses(&bench));
            assert!(mac.metadata().unwrap().modified().unwrap() > SystemTime::UNIX_EPOCH);
        }
    }

    #[test]
    fn what_killed_writers_left_is_removed_in_time() {
        let bench = Bench::new();
        let artefacts = bench.artefacts();
        let left = bench.folder().join(format!("{STAGING}left"));
        fs::create_dir(&left).unwrap();
        artefacts.tidy(SystemTime::now()).unwrap();
        assert!(left.exists(), "its writer may still be alive");
        artefacts.tidy(SystemTime::now() + 2 * ABANDONED_AFTER).unwrap();
        assert!(!left.exists());
        assert!(bench.folder().join(KEY).exists());
    }
}
