//! Compiled functions, kept from one bake to the next. They are machine code, so they lie among the artefacts and are
//! trusted like them.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use wasmtime::CacheStore;

use super::{Artefacts, Digest};

/// Some functions depend on the data, and differ with every version. New ones are kept if they are more than one in so
/// many.
const WORTH_KEEPING: usize = 10;

type Entries = HashMap<Vec<u8>, Vec<u8>>;

/// The compiled functions of one component under one compiler, by the hash of what they were compiled from.
pub(crate) struct Functions {
    name: Digest,
    /// Those of earlier bakes.
    kept: Entries,
    /// Those of this one.
    added: Mutex<Entries>,
    reused: AtomicUsize,
}

impl Functions {
    /// The functions that were kept under this name; none if there are none or they are not to be trusted.
    pub(super) fn open(artefacts: &Artefacts, name: Digest) -> Self {
        let kept = artefacts.read(&name).and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { name, kept, added: Mutex::default(), reused: AtomicUsize::new(0) }
    }

    /// Keeps all functions for the next bake, if enough of them are new. If that fails, the next bake takes longer.
    pub(super) fn keep(&self, artefacts: &Artefacts) {
        let added = self.added();
        if added.len() <= self.kept.len() / WORTH_KEEPING {
            return;
        }
        let bytes = encode(self.kept.iter().chain(added.iter()));
        if let Err(error) = artefacts.publish(&self.name, &bytes, b"{}") {
            tracing::warn!(%error, "cannot keep the compiled functions; the next bake will compile them again");
        }
    }

    /// How many functions were taken from earlier compilations, and how many were compiled.
    pub(super) fn reused_and_compiled(&self) -> (usize, usize) {
        (self.reused.load(Ordering::Relaxed), self.added().len())
    }

    fn added(&self) -> MutexGuard<'_, Entries> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let found = match self.kept.get(key) {
            Some(value) => Some(Cow::Borrowed(value.as_slice())),
            None => self.added().get(key).map(|value| Cow::Owned(value.clone())),
        };
        self.reused.fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
        found
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.added().insert(key.to_vec(), value);
        true
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Keys and values, each behind its length.
fn encode<'a>(entries: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in entries.flat_map(|(key, value)| [key, value]) {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    }
    bytes
}

/// `None` if the bytes are not what [`encode`] wrote.
fn decode(mut bytes: &[u8]) -> Option<Entries> {
    let mut take = || -> Option<Vec<u8>> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        bytes = rest;
        Some(part.to_vec())
    };
    let mut entries = Entries::new();
    while let Some(key) = take() {
        entries.insert(key, take()?);
    }
    bytes.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded_and_nothing_else() {
        let entries: Entries = [(vec![1; 32], vec![2; 1000]), (vec![3; 32], vec![])].into();
        let bytes = encode(entries.iter());
        assert_eq!(decode(&bytes), Some(entries));
        assert_eq!(decode(&[]), Some(Entries::new()));
        for length in 1..bytes.len() {
            assert_ne!(decode(&bytes[..length]).map(|entries| entries.len()), Some(2), "cut at {length}");
        }
    }
}
