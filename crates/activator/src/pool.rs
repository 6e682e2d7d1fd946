//! The places of a revision's instances and the requests that wait for one: one state behind one lock.
//!
//! A standard mutex: it is held for some dozens of instructions, costs one atomic exchange when free, and spins a little
//! before it parks. Whoever gives a place back hands it to a waiter under the lock and wakes it after, so waiters never
//! come back to compete for it. Nothing is awaited, woken, called or destroyed while it is held.
//!
//! Whenever the lock is free, a request in the revision's queue means that no ready instance has a free place, and one in
//! an instance's own queue that this instance has none.

use std::{
    collections::BTreeMap,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use slab::Slab;
use tokio::sync::oneshot;

use crate::{
    breaker::{Admission, Breaker, Ticket},
    drain::Drained,
    instance::InstanceId,
    policy::Policy,
};

/// Requests that wait in an instance's own queue for each that runs.
const QUEUE_DEPTH_PER_PLACE: usize = 10;

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

type Grants<I> = Vec<Grant<I>>;
type Waiter<I> = oneshot::Sender<Place<I>>;

pub(crate) struct Pool<I> {
    state: Mutex<State<I>>,
}

struct State<I> {
    mode: Mode,
    closed: bool,
    container_concurrency: u32,
    max_in_flight: usize,
    policy: Policy,
    /// Ready and draining ones.
    slots: Slab<Slot<I>>,
    /// Keys of the ready ones, by id.
    ready: Vec<usize>,
    /// Who waits for any instance.
    held: BTreeMap<Ticket, Waiter<I>>,
    tickets: Ticket,
    instances: u64,
    /// Where the search for the least loaded instance starts, so that equals take turns.
    next_direct: usize,
}

struct Slot<I> {
    id: InstanceId,
    instance: Arc<I>,
    breaker: Breaker<Waiter<I>>,
    /// Dropped when the slot is gone.
    draining: Option<oneshot::Sender<()>>,
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
        Arc::new(Self {
            state: Mutex::new(State {
                mode: Mode::default(),
                closed: false,
                container_concurrency,
                max_in_flight,
                policy: Policy::new(container_concurrency),
                slots: Slab::new(),
                ready: Vec::new(),
                held: BTreeMap::new(),
                tickets: 0,
                instances: 0,
                next_direct: 0,
            }),
        })
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
            let position = state.ready.iter().position(|&key| state.slots[key].id == id)?;
            let key = state.ready.remove(position);
            state.drain(key)
        };
        drop(gone);
        Some(Drained::new(vec![drained]))
    }

    pub(crate) fn resize(self: &Arc<Self>, id: InstanceId, places: u32) -> bool {
        let grants = {
            let mut state = self.lock();
            let limit = state.container_concurrency;
            let Some(key) = state.ready.iter().copied().find(|&key| state.slots[key].id == id && limit > 0) else {
                return false;
            };
            state.slots[key].breaker.set_capacity(places.min(limit) as usize);
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
            let ready = mem::take(&mut state.ready);
            let drains: Vec<_> = ready.into_iter().map(|key| state.drain(key)).collect();
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
        let state = self.lock();
        Load {
            mode: state.mode,
            ready: state.ready.len(),
            draining: state.slots.len() - state.ready.len(),
            running: state.slots.iter().map(|(_, slot)| slot.breaker.running()).sum(),
            queued: state.slots.iter().map(|(_, slot)| slot.breaker.waiting()).sum(),
            held: state.held.len(),
        }
    }

    /// `None` if the instance is not there, else whether it takes requests.
    pub(crate) fn takes_requests(&self, id: InstanceId) -> Option<bool> {
        let state = self.lock();
        state.slots.iter().find(|(_, slot)| slot.id == id).map(|(_, slot)| slot.draining.is_none())
    }

    fn release(self: &Arc<Self>, key: usize) {
        let (grant, gone) = {
            let mut state = self.lock();
            let Some(slot) = state.slots.get_mut(key) else { return };
            slot.breaker.finish();
            (state.next_grant(self, key), state.reap(key))
        };
        drop(gone);
        if let Some(grant) = grant {
            grant.send();
        }
    }

    fn withdraw(&self, ticket: Ticket, queue: Queue) {
        let (waiter, gone) = {
            let mut state = self.lock();
            match queue {
                Queue::Any => (state.held.remove(&ticket), None),
                Queue::Of(key) => {
                    (state.slots.get_mut(key).and_then(|slot| slot.breaker.withdraw(ticket)), state.reap(key))
                }
            }
        };
        drop(waiter);
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I> State<I> {
    fn admit_to_any(&mut self, pool: &Arc<Pool<I>>) -> Turn<I> {
        if let Some(key) = self.pick() {
            self.slots[key].breaker.admit();
            return Turn::Now(self.place(pool, key));
        }
        let running: usize = self.slots.iter().map(|(_, slot)| slot.breaker.running()).sum();
        if self.container_concurrency > 0 && running + self.held.len() >= self.max_in_flight {
            return Turn::Full;
        }
        let (ticket, sender, waiting) = self.waiting(pool, Queue::Any);
        self.held.insert(ticket, sender);
        Turn::Later(waiting)
    }

    fn admit_to_least_loaded(&mut self, pool: &Arc<Pool<I>>) -> Turn<I> {
        let n_ready = self.ready.len();
        let start = self.next_direct % n_ready.max(1);
        let least = (start..n_ready).chain(0..start).min_by_key(|&at| self.slots[self.ready[at]].breaker.in_flight());
        let Some(position) = least else { return Turn::Full };
        self.next_direct = position + 1;
        let key = self.ready[position];
        match self.slots[key].breaker.admit() {
            Admission::Run => Turn::Now(self.place(pool, key)),
            Admission::Full => Turn::Full,
            Admission::Wait => {
                let (ticket, sender, waiting) = self.waiting(pool, Queue::Of(key));
                self.slots[key].breaker.wait(ticket, sender);
                Turn::Later(waiting)
            }
        }
    }

    /// Key of the instance that the next request through the activator gets.
    fn pick(&mut self) -> Option<usize> {
        let Self { policy, slots, ready, .. } = self;
        let breaker = |position: usize| &slots[ready[position]].breaker;
        let picked = policy.pick(ready.len(), |at| breaker(at).running(), |at| breaker(at).has_room())?;
        Some(ready[picked])
    }

    fn place(&self, pool: &Arc<Pool<I>>, key: usize) -> Place<I> {
        let slot = &self.slots[key];
        Place { id: slot.id, key, instance: Some(Arc::clone(&slot.instance)), pool: Arc::clone(pool) }
    }

    fn waiting(&mut self, pool: &Arc<Pool<I>>, queue: Queue) -> (Ticket, Waiter<I>, Waiting<I>) {
        self.tickets += 1;
        let ticket = self.tickets;
        let (sender, place) = oneshot::channel();
        (ticket, sender, Waiting { ticket, queue, place, pool: Arc::clone(pool), over: false })
    }

    fn add(&mut self, instance: Arc<I>) -> InstanceId {
        self.instances += 1;
        let id = InstanceId(self.instances);
        let breaker = match self.container_concurrency as usize {
            0 => Breaker::unlimited(),
            places => Breaker::new(places, QUEUE_DEPTH_PER_PLACE * places),
        };
        let key = self.slots.insert(Slot { id, instance, breaker, draining: None });
        self.ready.push(key);
        id
    }

    /// The slot takes no more; it is returned if it has nothing left to do.
    fn drain(&mut self, key: usize) -> (oneshot::Receiver<()>, Option<Slot<I>>) {
        let (sender, drained) = oneshot::channel();
        self.slots[key].draining = Some(sender);
        (drained, self.reap(key))
    }

    fn reap(&mut self, key: usize) -> Option<Slot<I>> {
        let slot = self.slots.get(key)?;
        if slot.draining.is_some() && slot.breaker.in_flight() == 0 { self.slots.try_remove(key) } else { None }
    }

    /// Gives free places to those who wait for any.
    fn grant_any(&mut self, pool: &Arc<Pool<I>>) -> Grants<I> {
        let mut grants = Vec::new();
        while !self.held.is_empty() {
            let Some(key) = self.pick() else { break };
            let Some((_, waiter)) = self.held.pop_first() else { break };
            self.slots[key].breaker.admit();
            grants.push(Grant { waiter, place: self.place(pool, key) });
        }
        grants
    }

    /// Gives the free places of one instance to those who wait.
    fn grant_on(&mut self, pool: &Arc<Pool<I>>, key: usize) -> Grants<I> {
        let mut grants = Vec::new();
        while let Some(grant) = self.next_grant(pool, key) {
            grants.push(grant);
        }
        grants
    }

    /// Gives a free place of this instance to who has waited longest, for it or for any.
    fn next_grant(&mut self, pool: &Arc<Pool<I>>, key: usize) -> Option<Grant<I>> {
        let slot = &mut self.slots[key];
        if !slot.breaker.has_room() {
            return None;
        }
        let any = self.held.first_entry().filter(|_| slot.draining.is_none());
        let own = slot.breaker.oldest();
        let waiter = match any {
            Some(any) if own.is_none_or(|own| *any.key() < own) => {
                slot.breaker.admit();
                any.remove()
            }
            _ => slot.breaker.promote()?,
        };
        Some(Grant { waiter, place: self.place(pool, key) })
    }
}

/// A place and who gets it; sent when the lock is free.
struct Grant<I> {
    waiter: Waiter<I>,
    place: Place<I>,
}

impl<I> Grant<I> {
    fn send(self) {
        // A waiter that has gone meanwhile gives the place back by dropping it.
        let _ = self.waiter.send(self.place);
    }
}

fn send<I>(grants: Grants<I>) {
    for grant in grants {
        grant.send();
    }
}

/// A request's place at an instance; dropping it gives the place to who waits for one.
pub(crate) struct Place<I> {
    pub(crate) id: InstanceId,
    key: usize,
    /// There until it is dropped.
    instance: Option<Arc<I>>,
    pool: Arc<Pool<I>>,
}

impl<I> Place<I> {
    pub(crate) fn instance(&self) -> &I {
        self.instance.as_ref().expect("the instance is there until the place is dropped")
    }
}

impl<I> Drop for Place<I> {
    fn drop(&mut self) {
        // Before the slot may be reported as drained.
        self.instance = None;
        self.pool.release(self.key);
    }
}

#[derive(Clone, Copy)]
enum Queue {
    /// Of the revision.
    Any,
    /// Of the instance with this key.
    Of(usize),
}

/// A request's turn to come; dropping it leaves the queue. `None` if the pool was closed.
pub(crate) struct Waiting<I> {
    ticket: Ticket,
    queue: Queue,
    place: oneshot::Receiver<Place<I>>,
    pool: Arc<Pool<I>>,
    over: bool,
}

impl<I> Future for Waiting<I> {
    type Output = Option<Place<I>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Place<I>>> {
        let place = ready!(Pin::new(&mut self.place).poll(context));
        self.over = true;
        Poll::Ready(place.ok())
    }
}

impl<I> Drop for Waiting<I> {
    fn drop(&mut self) {
        if !self.over {
            self.pool.withdraw(self.ticket, self.queue);
        }
    }
}
