//! Features of frozen networks on a volume: computed once for a dataset, mapped by every later fit and run.
//!
//! A cache and nothing more: any file of it may go at any time, and one that is damaged or of something else is computed
//! anew. Values never have to fit into memory.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use memmap2::Mmap;
use sha2::{Digest, Sha256};
use store::{StoreError, Volumes};

use crate::{
    Result, TrainerError,
    backbone::Frozen,
    data::{Values, Variant},
    family::Task,
    features::{self, Computed, FeatureSource, GRAPH_VERSION, Key},
    monitor::Monitor,
};

/// Bytes of all files together unless something else is asked for.
pub const DEFAULT_LIMIT_BYTES: u64 = 4 << 30;

const ENDING: &str = "features";
const MAGIC: &[u8; 8] = b"fovea-f1";

/// Magic, then the SHA-256 of what the values are, of how many bytes, and the SHA-256 of these bytes.
const HEAD_BYTES: usize = 8 + 32 + 8 + 32;

/// The features of one dataset's pictures.
pub struct Cache {
    /// Nothing where no volume takes files.
    dir: Option<PathBuf>,
    dataset: String,
    limit_bytes: u64,
    open: HashMap<Key, Values>,
    memory: Computed,
}

impl Cache {
    /// The cache on volume 1, or on volume 2 where volume 1 takes no files.
    ///
    /// `dataset` is its id; whatever else the pictures depend on must be in it.
    pub fn new(volumes: &Volumes, dataset: &str, limit_bytes: u64) -> Self {
        let candidates = [volumes.volume1(), volumes.volume2()].map(|volume| volume.join("cache").join(ENDING));
        let dir =
            candidates.into_iter().find(|dir| fs::create_dir_all(dir).is_ok() && tempfile::tempfile_in(dir).is_ok());
        Self { dir, dataset: dataset.into(), limit_bytes, open: HashMap::new(), memory: Computed::default() }
    }

    /// What the values of a file are: everything they follow from.
    fn identity(&self, key: &Key, pictures: usize) -> [u8; 32] {
        let text = format!("{GRAPH_VERSION} {} {pictures} {key:?}", self.dataset);
        Sha256::digest(text.as_bytes()).into()
    }

    fn path(dir: &Path, identity: &[u8; 32]) -> PathBuf {
        let name: String = identity[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        dir.join(format!("{name}.{ENDING}"))
    }
}

impl FeatureSource for Cache {
    fn features(&mut self, task: &Task, frozen: &Frozen, variant: Variant, monitor: &mut Monitor) -> Result<Values> {
        let key = Key::of(frozen, variant);
        if let Some(values) = self.open.get(&key) {
            return Ok(values.clone());
        }
        let Some(dir) = self.dir.clone() else { return self.memory.features(task, frozen, variant, monitor) };
        let identity = self.identity(&key, task.pictures.len());
        let path = Self::path(&dir, &identity);
        let values = match Mapped::open(&path, &identity) {
            Some(found) => found,
            None => {
                let mut compute = |take: Take| features::compute(task, frozen, variant, monitor, take);
                match Mapped::make(&dir, &path, &identity, self.limit_bytes, &mut compute) {
                    Ok(made) => made,
                    // A full volume is no reason to fail: there is still memory.
                    Err(TrainerError::Store(StoreError::Write { .. })) => {
                        return self.memory.features(task, frozen, variant, monitor);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let values: Values = Arc::new(values);
        self.open.insert(key, values.clone());
        Ok(values)
    }
}

/// Takes values one after the other.
type Take<'a> = &'a mut dyn FnMut(&[f32]) -> Result<()>;

/// A mapped file of the cache.
#[derive(Debug)]
struct Mapped(Mmap);

impl Mapped {
    /// A file that is there, whole, and of what was asked for.
    fn open(path: &Path, identity: &[u8; 32]) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mapped = Self::map(&file).ok()?;
        let (head, body) = mapped.0.split_at_checked(HEAD_BYTES)?;
        let fits = head == head_of(identity, body.len() as u64, &Sha256::digest(body).into());
        // What was used last goes last.
        let _ = file.set_modified(SystemTime::now());
        fits.then_some(mapped)
    }

    /// Computes the values into a file aside, and gives it its name unless it is longer than the whole cache may be.
    fn make(
        dir: &Path,
        path: &Path,
        identity: &[u8; 32],
        limit_bytes: u64,
        compute: &mut dyn FnMut(Take) -> Result<()>,
    ) -> Result<Self> {
        let wrong = || TrainerError::write(path);
        let mut aside = tempfile::Builder::new().prefix(".tmp-").tempfile_in(dir).map_err(wrong())?;
        let mut out = BufWriter::with_capacity(1 << 20, aside.as_file_mut());
        out.write_all(&[0; HEAD_BYTES]).map_err(wrong())?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0u64);
        compute(&mut |values| {
            for value in values {
                let value = value.to_le_bytes();
                hasher.update(value);
                out.write_all(&value).map_err(wrong())?;
            }
            bytes += size_of_val(values) as u64;
            Ok(())
        })?;
        let head = head_of(identity, bytes, &hasher.finalize().into());
        let finish = |mut out: BufWriter<&mut File>| -> io::Result<()> {
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&head)?;
            out.flush()
        };
        finish(out).map_err(wrong())?;
        let mapped = Self::map(aside.as_file()).map_err(wrong())?;
        if bytes <= limit_bytes {
            make_room(dir, limit_bytes - bytes);
            // Without a name the file serves this run all the same.
            let _ = aside.as_file().sync_all().is_ok() && aside.persist(path).is_ok();
        }
        Ok(mapped)
    }

    fn map(file: &File) -> io::Result<Self> {
        // SAFETY: files of the cache are written aside and never again once they have a name; removing one leaves its
        // maps whole.
        #[expect(unsafe_code, reason = "mapping a file needs it, and features may be larger than memory")]
        unsafe { Mmap::map(file) }.map(Self)
    }
}

impl AsRef<[f32]> for Mapped {
    fn as_ref(&self) -> &[f32] {
        let bytes = &self.0[HEAD_BYTES..];
        // SAFETY: every bit pattern is an f32, and `align_to` sees to the alignment; the file is little-endian as the
        // machines are that this builds for.
        #[expect(unsafe_code, reason = "the map is bytes, and a copy would have to fit into memory")]
        let (before, values, after) = unsafe { bytes.align_to::<f32>() };
        debug_assert!(before.is_empty() && after.is_empty(), "a map begins at a page, its head has whole floats");
        values
    }
}

fn head_of(identity: &[u8; 32], bytes: u64, digest: &[u8; 32]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..40].copy_from_slice(identity);
    head[40..48].copy_from_slice(&bytes.to_le_bytes());
    head[48..].copy_from_slice(digest);
    head
}

/// Removes files, those first that were used the longest ago, until no more than `rest_bytes` are left; and what dead
/// writers left.
fn make_room(dir: &Path, rest_bytes: u64) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == ENDING))
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if total <= rest_bytes {
            break;
        }
        // Somebody else may have removed it; a cache that cannot be cleaned is still a cache.
        let _ = fs::remove_file(path);
        total -= bytes;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::{cell::Cell, time::Duration};

    use super::*;

    const IDENTITY: [u8; 32] = [7; 32];

    fn file(dir: &Path, identity: &[u8; 32]) -> PathBuf {
        Cache::path(dir, identity)
    }

    fn make(dir: &Path, identity: &[u8; 32], values: &[f32], limit_bytes: u64) -> Result<Mapped> {
        Mapped::make(dir, &file(dir, identity), identity, limit_bytes, &mut |take| {
            values.chunks(3).try_for_each(&mut *take)
        })
    }

    #[test]
    fn values_come_back_as_they_were_computed() {
        let dir = tempfile::tempdir().unwrap();
        let values = [1.5, -0.0, f32::MIN_POSITIVE, 1e30, -7.25];
        assert!(Mapped::open(&file(dir.path(), &IDENTITY), &IDENTITY).is_none());
        assert_eq!(make(dir.path(), &IDENTITY, &values, 1 << 20).unwrap().as_ref(), values);
        let found = Mapped::open(&file(dir.path(), &IDENTITY), &IDENTITY).unwrap();
        assert_eq!(found.as_ref(), values);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn damaged_short_and_foreign_files_are_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), &IDENTITY);
        make(dir.path(), &IDENTITY, &[1.0, 2.0, 3.0], 1 << 20).unwrap();
        let whole = fs::read(&path).unwrap();
        for change in [0, 9, 44, HEAD_BYTES + 2] {
            let mut bytes = whole.clone();
            bytes[change] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(Mapped::open(&path, &IDENTITY).is_none(), "byte {change} is another one");
        }
        for length in [0, 20, HEAD_BYTES, whole.len() - 4] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(Mapped::open(&path, &IDENTITY).is_none(), "{length} bytes are left");
        }
        fs::write(&path, &whole).unwrap();
        assert!(Mapped::open(&path, &IDENTITY).is_some());
        assert!(Mapped::open(&path, &[8; 32]).is_none(), "these are the values of something else");
    }

    #[test]
    fn what_was_used_the_longest_ago_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let file_bytes = HEAD_BYTES as u64 + 4000;
        let aged = |identity: u8, hours: u64| {
            make(dir.path(), &[identity; 32], &[1.0; 1000], 10 * file_bytes).unwrap();
            let time = SystemTime::now() - Duration::from_secs(3600 * hours);
            File::open(file(dir.path(), &[identity; 32])).unwrap().set_modified(time).unwrap();
        };
        aged(1, 3);
        aged(2, 9);
        aged(3, 6);
        // Using one makes it young.
        assert!(Mapped::open(&file(dir.path(), &[2; 32]), &[2; 32]).is_some());
        make(dir.path(), &[4; 32], &[1.0; 1000], 3 * file_bytes).unwrap();
        let left: Vec<u8> = (1..=4).filter(|identity| file(dir.path(), &[*identity; 32]).exists()).collect();
        assert_eq!(left, [1, 2, 4]);
    }

    #[test]
    fn values_longer_than_the_cache_serve_without_staying() {
        let dir = tempfile::tempdir().unwrap();
        let mapped = make(dir.path(), &IDENTITY, &[2.0; 100], 399).unwrap();
        assert_eq!(mapped.as_ref(), [2.0; 100]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_computation_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let told = Cell::new(0);
        let outcome = Mapped::make(dir.path(), &file(dir.path(), &IDENTITY), &IDENTITY, 1 << 20, &mut |take| {
            told.set(told.get() + 1);
            take(&[1.0])?;
            Err(TrainerError::Cancelled)
        });
        assert!(matches!(outcome, Err(TrainerError::Cancelled)));
        assert_eq!((told.get(), fs::read_dir(dir.path()).unwrap().count()), (1, 0));
    }
}
