//! Compiled components on disk, so that a component is compiled once.
//!
//! An artefact is machine code: whoever can write one can run anything in this process. So the folder belongs to
//! this user alone, each artefact carries an HMAC under a key that lies in the same folder, and one that does not
//! verify — truncated, tampered with, made elsewhere — is compiled anew. An artefact is found by the hash of the
//! component and of everything in wasmtime that its code depends on, so a stale one is never found.
//!
//! Layout: `key`, and per artefact `<hash>/component.cwasm` beside `<hash>/mac`, published by renaming the folder.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    hash::{Hash, Hasher},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

use crate::RuntimeError;

/// Artefacts that are kept; of more than these the longest unused ones go.
const MAX_ARTEFACTS: usize = 16;

/// A folder that an artefact is being written to is nobody's any more after this time.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

const STAGING: &str = ".staging-";
const ARTEFACT: &str = "component.cwasm";
const MAC: &str = "mac";
const KEY: &str = "key";
const KEY_BYTES: usize = 32;

/// A folder of compiled components.
#[derive(Clone)]
pub(crate) struct ArtefactCache {
    folder: Arc<Path>,
    key: [u8; KEY_BYTES],
}

impl ArtefactCache {
    /// Opens the folder, creating it and its key if they are missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, RuntimeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RuntimeError::Cache { path, source }
        };
        own_folder(folder).map_err(failed(folder))?;
        let path = folder.join(KEY);
        let key = read_or_create_key(folder, &path).map_err(failed(&path))?;
        Ok(Self { folder: folder.into(), key })
    }

    /// The component of this file, compiled; from the cache where it can be.
    pub(crate) fn load(&self, engine: &Engine, path: &Path) -> Result<Component, RuntimeError> {
        let wasm = fs::read(path).map_err(|source| RuntimeError::ReadComponent { path: path.to_owned(), source })?;
        let name = artefact_name(engine, &wasm);
        let folder = self.folder.join(&name);
        match self.load_artefact(engine, &name, &folder) {
            Ok(Some(component)) => return Ok(component),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    component = %path.display(),
                    error = format!("{error:#}"),
                    "cached artefact is not to be trusted; compiling anew"
                );
            }
        }

        let start = Instant::now();
        let compile_error =
            |source: wasmtime::Error| RuntimeError::Compile { path: path.to_owned(), source: source.into() };
        let artefact = engine.precompile_component(&wasm).map_err(compile_error)?;
        tracing::info!(component = %path.display(), seconds = start.elapsed().as_secs_f32(), "compiled");
        if let Err(error) = self.publish(&name, &folder, &artefact) {
            tracing::warn!(
                folder = %folder.display(), %error,
                "cannot keep the compiled component; it will be compiled again at the next start"
            );
        }
        // SAFETY: these bytes come straight from this engine's own compiler.
        unsafe { Component::deserialize(engine, &artefact) }.map_err(compile_error)
    }

    /// The artefact, if there is one and it is ours.
    fn load_artefact(&self, engine: &Engine, name: &str, folder: &Path) -> anyhow::Result<Option<Component>> {
        let expected = match fs::read(folder.join(MAC)) {
            Ok(mac) => mac,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let path = folder.join(ARTEFACT);
        let artefact = fs::read(&path)?;
        self.mac(name, &artefact).verify_slice(&expected)?;
        // SAFETY: the HMAC shows that a holder of this folder's key wrote these bytes for this name, and the name
        // stands for a wasmtime and settings equal to ours. They are copied, so no later write can change them.
        let component = unsafe { Component::deserialize(engine, &artefact)? };
        // Marks the artefact as used; it does not matter if that fails.
        let _ = File::open(folder.join(MAC)).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(component))
    }

    /// Writes the artefact aside and renames it to its place, replacing one that is there.
    fn publish(&self, name: &str, folder: &Path, artefact: &[u8]) -> io::Result<()> {
        let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(&self.folder)?;
        let fresh = staging.path().join("fresh");
        fs::create_dir(&fresh)?;
        write_synced(&fresh.join(ARTEFACT), artefact)?;
        write_synced(&fresh.join(MAC), &self.mac(name, artefact).finalize().into_bytes())?;
        File::open(&fresh)?.sync_all()?;
        match fs::rename(folder, staging.path().join("replaced")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::rename(&fresh, folder) {
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

    fn mac(&self, name: &str, artefact: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(name.as_bytes());
        mac.update(artefact);
        mac
    }
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

/// Hash of the component and of all that its compiled code depends on: wasmtime's version, target and settings.
fn artefact_name(engine: &Engine, wasm: &[u8]) -> String {
    let mut hash = HashInto(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hash);
    hash.0.update(Sha256::digest(wasm));
    hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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

    use std::path::PathBuf;

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
        fn new() -> Self {
            let bench = Self { dir: tempfile::tempdir().unwrap(), engine: Engine::default() };
            fs::write(bench.wasm(), component(b'a')).unwrap();
            bench
        }

        fn wasm(&self) -> PathBuf {
            self.dir.path().join("component.wasm")
        }

        fn folder(&self) -> PathBuf {
            self.dir.path().join("cache")
        }

        fn cache(&self) -> ArtefactCache {
            ArtefactCache::open(&self.folder()).unwrap()
        }

        fn load(&self) {
            self.cache().load(&self.engine, &self.wasm()).unwrap();
        }

        /// The one artefact's folder.
        fn artefact(&self) -> PathBuf {
            let name = artefact_name(&self.engine, &component(b'a'));
            self.folder().join(name)
        }

        /// Whether the cache would take the artefact as it lies there now.
        fn is_trusted(&self) -> bool {
            let name = artefact_name(&self.engine, &component(b'a'));
            self.cache().load_artefact(&self.engine, &name, &self.artefact()).is_ok_and(|found| found.is_some())
        }
    }

    #[test]
    fn a_component_is_compiled_once() {
        let bench = Bench::new();
        bench.load();
        assert!(bench.is_trusted());
        let before = fs::metadata(bench.artefact().join(ARTEFACT)).unwrap().ino();
        bench.load();
        assert_eq!(fs::metadata(bench.artefact().join(ARTEFACT)).unwrap().ino(), before);
    }

    #[test]
    fn a_damaged_artefact_is_compiled_anew() {
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 7] = [
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
            ("unsigned", |folder| fs::remove_file(folder.join(MAC)).unwrap()),
            ("signed with nothing", |folder| fs::write(folder.join(MAC), "").unwrap()),
            ("under another key", |folder| {
                fs::remove_file(folder.parent().unwrap().join(KEY)).unwrap();
            }),
        ];
        for (name, damage) in damages {
            let bench = Bench::new();
            bench.load();
            damage(&bench.artefact());
            assert!(!bench.is_trusted(), "{name}: still trusted");
            bench.load();
            assert!(bench.is_trusted(), "{name}: not replaced");
        }
    }

    #[test]
    fn an_artefact_of_another_component_is_not_trusted() {
        let bench = Bench::new();
        bench.load();
        let other = bench.dir.path().join("other.wasm");
        fs::write(&other, component(b'b')).unwrap();
        bench.cache().load(&bench.engine, &other).unwrap();
        let foreign = bench.folder().join(artefact_name(&bench.engine, &component(b'b')));
        for file in [ARTEFACT, MAC] {
            fs::copy(foreign.join(file), bench.artefact().join(file)).unwrap();
        }
        assert!(!bench.is_trusted());
    }

    #[test]
    fn folder_and_key_are_closed_to_others() {
        let bench = Bench::new();
        bench.load();
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
    fn other_settings_never_find_the_artefact() {
        let plain = Engine::default();
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let interruptible = Engine::new(&config).unwrap();
        let name = |engine: &Engine| artefact_name(engine, &component(b'a'));
        assert_eq!(name(&plain), name(&Engine::default()));
        assert_ne!(name(&plain), name(&interruptible));
    }

    #[test]
    fn only_so_many_artefacts_are_kept() {
        let bench = Bench::new();
        let cache = bench.cache();
        for name in (b'a'..).take(MAX_ARTEFACTS + 3) {
            fs::write(bench.wasm(), component(name)).unwrap();
            cache.load(&bench.engine, &bench.wasm()).unwrap();
        }
        let kept = fs::read_dir(bench.folder()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
        assert_eq!(kept.count(), MAX_ARTEFACTS);
    }

    #[test]
    fn what_killed_writers_left_is_removed_in_time() {
        let bench = Bench::new();
        let cache = bench.cache();
        let left = bench.folder().join(format!("{STAGING}left"));
        fs::create_dir(&left).unwrap();
        cache.tidy(SystemTime::now()).unwrap();
        assert!(left.exists(), "its writer may still be alive");
        cache.tidy(SystemTime::now() + 2 * ABANDONED_AFTER).unwrap();
        assert!(!left.exists());
        assert!(bench.folder().join(KEY).exists());
    }

    #[test]
    fn a_file_that_is_no_component_is_refused() {
        let bench = Bench::new();
        fs::write(bench.wasm(), "no component").unwrap();
        let refused = bench.cache().load(&bench.engine, &bench.wasm());
        assert!(matches!(refused, Err(RuntimeError::Compile { .. })));
    }
}
