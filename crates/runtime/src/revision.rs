//! An immutable snapshot of a function and of the directory its guests see, with the idle instances that serve it.
//! They go when the last request that met the revision has been answered and it is no longer the current one.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{instance::Instance, mount::Mounted};

/// A function together with what is mounted into it.
pub(crate) struct Revision {
    /// `<function>-<number>`.
    pub(crate) name: String,
    /// Counts from one.
    pub(crate) number: u64,
    pub(crate) mounted: Option<Mounted>,
    /// The last one is the one that was used last.
    idle: Mutex<Vec<Instance>>,
}

impl Revision {
    pub(crate) fn new(function: &str, number: u64, mounted: Option<Mounted>, warm: Option<Instance>) -> Self {
        let idle = Mutex::new(warm.into_iter().collect());
        Self { name: format!("{function}-{number}"), number, mounted, idle }
    }

    /// The idle instance that was used last, so that surplus ones grow old and expire.
    pub(crate) fn take(&self) -> Option<Instance> {
        self.idle().pop()
    }

    /// Keeps the instance for the next request.
    pub(crate) fn put_back(&self, instance: Instance) {
        self.idle().push(instance);
    }

    /// Gives away the instances that have been idle for longer than this.
    pub(crate) fn expire(&self, longer_than: Duration, now: Instant) -> Vec<Instance> {
        self.idle().extract_if(.., |instance| now - instance.idle_since > longer_than).collect()
    }

    pub(crate) fn idle_instances(&self) -> usize {
        self.idle().len()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
