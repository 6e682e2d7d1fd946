//! The places of a revision's instances and the requests that wait for one: one state behind one lock.
//!
//! A standard mutex: it is held for some dozens of instructions, costs one atomic exchange when free, and spins a little
//! before it parks. Whoever gives a place back hands it to a waiter under the lock and wakes it after, so waiters never
//! come back to compete for it. Nothing is awaited, woken, called or destroyed while it is held.
//!
//! Whenever the lock is free, a request in the revision's queue means that no ready instance has a free place, and one in
//! an instance's own queue that this instance has none.

mod place;
mod state;

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(crate) use self::place::{Place, Waiting};
use self::{
    place::send,
    state::{Queue, State},
};
use crate::{breaker::Ticket, drain::Drained, instance::InstanceId};

/// Requests of a revision with a limit that run or wait before the next is refused.
const MAX_IN_FLIGHT: usize = 10_000 + i32::MAX as usize;

/// Where the requests of a revision go, as the autoscaler has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Through the activator.
    #[default]
    Proxy,
    /// Straight to the instances, as long as one is ready.
    Serve,
}

/// Which of Knative's two hops holds a request: whose queue it waits in, and whose timeouts end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The revision's queue, without bound; an instance gets no more than it can run.
    Activator,
    /// The queue of one instance, ten times as long as what it runs at once.
    QueueProxy,
}

/// A revision's present state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Where its requests go.
    pub mode: Mode,
    /// Instances that take requests.
    pub ready: usize,
    /// Removed instances that still finish theirs.
    pub draining: usize,
    /// Requests that instances run.
    pub running: usize,
    /// Requests in the instances' own queues.
    pub queued: usize,
    /// Requests in the revision's queue.
    pub held: usize,
}

pub(crate) struct Pool<I> {
    state: Mutex<State<I>>,
}

/// What [`Pool::admit`] decided.
pub(crate) struct Admitted<I> {
    pub(crate) hop: Hop,
    /// No instance was ready.
    pub(crate) cold: bool,
    pub(crate) turn: Turn<I>,
}

pub(crate) enum Turn<I> {
    Now(Place<I>),
    Later(Waiting<I>),
    Full,
}

impl<I> Pool<I> {
    pub(crate) fn new(container_concurrency: u32) -> Arc<Self> {
        Self::with_limit(container_concurrency, MAX_IN_FLIGHT)
    }

    fn with_limit(container_concurrency: u32, max_in_flight: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::new(container_concurrency, max_in_flight)) })
    }

    /// Finds the request a place, or a queue to wait in. `None` if the pool is closed.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admitted<I>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let cold = state.ready.is_empty();
        let hop = if state.mode == Mode::Serve && !cold { Hop::QueueProxy } else { Hop::Activator };
        let turn = match hop {
            Hop::Activator => state.admit_to_any(self),
            Hop::QueueProxy => state.admit_to_least_loaded(self),
        };
        Some(Admitted { hop, cold, turn })
    }

    pub(crate) fn add(self: &Arc<Self>, instances: impl IntoIterator<Item = Arc<I>>) -> Vec<InstanceId> {
        let instances: Vec<_> = instances.into_iter().collect();
        let (ids, grants) = {
            let mut state = self.lock();
            if state.closed {
                return Vec::new();
            }
            // All of them first, so that those who wait spread over them.
            let ids = instances.into_iter().map(|instance| state.add(instance)).collect();
            (ids, state.grant_any(self))
        };
        send(grants);
        ids
    }

    pub(crate) fn remove(&self, id: InstanceId) -> Option<Drained> {
        let (drained, gone) = {
            let mut state = self.lock();
            let key = state.key_of_ready(id)?;
            state.drain(key)
        };
        drop(gone);
        Some(Drained::new(vec![drained]))
    }

    pub(crate) fn resize(self: &Arc<Self>, id: InstanceId, places: u32) -> bool {
        let grants = {
            let mut state = self.lock();
            let Some(key) = state.key_of_ready(id).filter(|_| state.container_concurrency > 0) else { return false };
            state.resize(key, places);
            state.grant_on(self, key)
        };
        send(grants);
        true
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.lock().mode = mode;
    }

    pub(crate) fn close(&self) -> Drained {
        let (held, drains) = {
            let mut state = self.lock();
            state.closed = true;
            let drains: Vec<_> = state.ready.clone().into_iter().map(|key| state.drain(key)).collect();
            (mem::take(&mut state.held), drains)
        };
        // Those who waited see their sender gone.
        drop(held);
        let (left, gone): (Vec<_>, Vec<_>) = drains.into_iter().unzip();
        drop(gone);
        Drained::new(left)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn load(&self) -> Load {
        self.lock().load()
    }

    pub(crate) fn is_ready(&self, id: InstanceId) -> bool {
        self.lock().key_of_ready(id).is_some()
    }

    fn release(self: &Arc<Self>, key: usize) {
        let (grant, gone) = {
            let mut state = self.lock();
            (state.finish(self, key), state.reap(key))
        };
        drop(gone);
        if let Some(grant) = grant {
            grant.send();
        }
    }

    fn withdraw(&self, ticket: Ticket, queue: Queue) {
        let withdrawn = self.lock().withdraw(ticket, queue);
        drop(withdrawn);
    }

    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_with_a_limit_refuses_what_exceeds_its_queue() {
        let pool = Pool::with_limit(1, 3);
        pool.add([Arc::new(())]);
        let turns: Vec<_> = (0..4).filter_map(|_| pool.admit()).map(|admitted| admitted.turn).collect();
        assert!(
            matches!(&turns[..], [Turn::Now(_), Turn::Later(_), Turn::Later(_), Turn::Full]),
            "one runs, two wait, the fourth is refused"
        );
        drop(turns);
        assert!(matches!(pool.admit(), Some(Admitted { turn: Turn::Now(_), .. })), "they have gone");
    }

    #[test]
    fn a_revision_without_a_limit_refuses_nothing() {
        let pool = Pool::<()>::with_limit(0, 3);
        let waiting: Vec<_> = (0..10).filter_map(|_| pool.admit()).collect();
        assert!(waiting.iter().all(|admitted| matches!(admitted.turn, Turn::Later(_))));
        assert_eq!(pool.load().held, 10);
    }

    #[test]
    fn the_queue_is_as_long_as_knatives() {
        assert_eq!(MAX_IN_FLIGHT, 2_147_493_647);
    }
}
