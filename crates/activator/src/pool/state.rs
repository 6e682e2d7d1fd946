//! The decisions: who runs where, who waits in which queue, who is next.

use std::{collections::BTreeMap, sync::Arc};

use slab::Slab;
use tokio::sync::oneshot;

use super::{
    Load, Mode, Pool, Turn,
    place::{Grant, Place, Waiter, Waiting},
};
use crate::{
    breaker::{Admission, Breaker, Ticket},
    instance::InstanceId,
    policy::Policy,
};

/// Requests that wait in an instance's own queue for each that runs.
const QUEUE_DEPTH_PER_PLACE: usize = 10;

/// Who is ready, what they run, and who waits.
pub(super) struct State<I> {
    pub(super) mode: Mode,
    pub(super) closed: bool,
    pub(super) container_concurrency: u32,
    max_in_flight: usize,
    policy: Policy,
    /// Ready and draining ones.
    slots: Slab<Slot<I>>,
    /// Keys of the ready ones, by id.
    pub(super) ready: Vec<usize>,
    /// Who waits for any instance.
    pub(super) held: BTreeMap<Ticket, Waiter<I>>,
    tickets: Ticket,
    instances: u64,
    /// Where the search for the least loaded instance starts, so that equals take turns.
    next_direct: usize,
}

pub(super) struct Slot<I> {
    id: InstanceId,
    instance: Arc<I>,
    breaker: Breaker<Waiter<I>>,
    /// Dropped when the slot is gone.
    draining: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy)]
pub(super) enum Queue {
    /// Of the revision.
    Any,
    /// Of the instance with this key.
    Of(usize),
}

impl<I> State<I> {
    pub(super) fn new(container_concurrency: u32, max_in_flight: usize) -> Self {
        Self {
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
        }
    }

    pub(super) fn admit_to_any(&mut self, pool: &Arc<Pool<I>>) -> Turn<I> {
        if let Some(key) = self.pick() {
            self.slots[key].breaker.admit();
            return Turn::Now(self.place(pool, key));
        }
        if self.container_concurrency > 0 && self.running() + self.held.len() >= self.max_in_flight {
            return Turn::Full;
        }
        let (ticket, sender, waiting) = self.waiting(pool, Queue::Any);
        self.held.insert(ticket, sender);
        Turn::Later(waiting)
    }

    pub(super) fn admit_to_least_loaded(&mut self, pool: &Arc<Pool<I>>) -> Turn<I> {
        let n_ready = self.ready.len();
        let start = self.next_direct % n_ready.max(1);
        let least = (start..n_ready).chain(0..start).min_by_key(|&position| {
            let breaker = &self.slots[self.ready[position]].breaker;
            (!breaker.has_room(), breaker.in_flight())
        });
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
        Place::new(slot.id, key, Arc::clone(&slot.instance), Arc::clone(pool))
    }

    fn waiting(&mut self, pool: &Arc<Pool<I>>, queue: Queue) -> (Ticket, Waiter<I>, Waiting<I>) {
        self.tickets += 1;
        let ticket = self.tickets;
        let (sender, place) = oneshot::channel();
        (ticket, sender, Waiting::new(ticket, queue, place, Arc::clone(pool)))
    }

    pub(super) fn add(&mut self, instance: Arc<I>) -> InstanceId {
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
    pub(super) fn drain(&mut self, key: usize) -> (oneshot::Receiver<()>, Option<Slot<I>>) {
        self.ready.retain(|&ready| ready != key);
        let (sender, drained) = oneshot::channel();
        self.slots[key].draining = Some(sender);
        (drained, self.reap(key))
    }

    pub(super) fn reap(&mut self, key: usize) -> Option<Slot<I>> {
        let slot = self.slots.get(key)?;
        if slot.draining.is_some() && slot.breaker.in_flight() == 0 { self.slots.try_remove(key) } else { None }
    }

    pub(super) fn key_of_ready(&self, id: InstanceId) -> Option<usize> {
        self.ready.iter().copied().find(|&key| self.slots[key].id == id)
    }

    pub(super) fn resize(&mut self, key: usize, places: u32) {
        self.slots[key].breaker.set_capacity(places.min(self.container_concurrency) as usize);
    }

    /// A place at the instance is given back; the next one gets it.
    pub(super) fn finish(&mut self, pool: &Arc<Pool<I>>, key: usize) -> Option<Grant<I>> {
        self.slots.get_mut(key)?.breaker.finish();
        self.next_grant(pool, key)
    }

    /// Takes a waiter out of its queue, if its turn has not come; with it goes a slot that has nothing left to do.
    pub(super) fn withdraw(&mut self, ticket: Ticket, queue: Queue) -> (Option<Waiter<I>>, Option<Slot<I>>) {
        match queue {
            Queue::Any => (self.held.remove(&ticket), None),
            Queue::Of(key) => (self.slots.get_mut(key).and_then(|slot| slot.breaker.withdraw(ticket)), self.reap(key)),
        }
    }

    pub(super) fn load(&self) -> Load {
        Load {
            mode: self.mode,
            ready: self.ready.len(),
            draining: self.slots.len() - self.ready.len(),
            running: self.running(),
            queued: self.slots.iter().map(|(_, slot)| slot.breaker.waiting()).sum(),
            held: self.held.len(),
        }
    }

    fn running(&self) -> usize {
        self.slots.iter().map(|(_, slot)| slot.breaker.running()).sum()
    }

    /// Gives free places to those who wait for any.
    pub(super) fn grant_any(&mut self, pool: &Arc<Pool<I>>) -> Vec<Grant<I>> {
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
    pub(super) fn grant_on(&mut self, pool: &Arc<Pool<I>>, key: usize) -> Vec<Grant<I>> {
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
