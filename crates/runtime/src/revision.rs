//! An immutable snapshot of a function and of the directory its guests see, with the instances that serve it.

use std::{
    mem,
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
    idle: Mutex<Idle>,
}

struct Idle {
    /// The last one is the one that was used last.
    instances: Vec<Instance>,
    retired: bool,
}

impl Revision {
    pub(crate) fn new(function: &str, number: u64, mounted: Option<Mounted>, warm: Option<Instance>) -> Self {
        let idle = Mutex::new(Idle { instances: warm.into_iter().collect(), retired: false });
        Self { name: format!("{function}-{number}"), number, mounted, idle }
    }

    /// The idle instance that was used last, so that surplus ones grow old and expire.
    pub(crate) fn take(&self) -> Option<Instance> {
        self.idle().instances.pop()
    }

    /// Keeps the instance for the next request, unless the revision has been retired.
    pub(crate) fn put_back(&self, instance: Instance) {
        let mut idle = self.idle();
        if !idle.retired {
            idle.instances.push(instance);
        }
    }

    /// Keeps no more instances; gives away those that are idle.
    pub(crate) fn retire(&self) -> Vec<Instance> {
        let mut idle = self.idle();
        idle.retired = true;
        mem::take(&mut idle.instances)
    }

    /// Gives away the instances that have been idle for longer than this.
    pub(crate) fn expire(&self, longer_than: Duration, now: Instant) -> Vec<Instance> {
        self.idle().instances.extract_if(.., |instance| now - instance.idle_since > longer_than).collect()
    }

    pub(crate) fn idle_instances(&self) -> usize {
        self.idle().instances.len()
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
