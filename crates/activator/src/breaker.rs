//! The limit in front of one instance: so many requests run, so many wait, the next is refused. It decides and counts;
//! what a waiter is and how it is woken is its owner's.
//!
//! # Source
//! `pkg/queue/breaker.go`; waiting is first in, first out here.

use std::collections::BTreeMap;

/// A waiter's turn: smaller ones go first.
pub type Ticket = u64;

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It runs, and is counted as running.
    Run,
    /// It has to wait: see [`Breaker::wait`].
    Wait,
    /// All places, and those to wait in, are taken.
    Full,
}

/// Counts what runs and keeps what waits, as waiters of type `W`.
#[derive(Debug)]
pub struct Breaker<W> {
    capacity: usize,
    slots: usize,
    running: usize,
    waiting: BTreeMap<Ticket, W>,
}

impl<W> Breaker<W> {
    /// At most `max_concurrency` run and `queue_depth` wait. Running fewer, after [`Breaker::set_capacity`], leaves more
    /// slots to wait in: their sum stays.
    #[must_use]
    pub fn new(max_concurrency: usize, queue_depth: usize) -> Self {
        let slots = max_concurrency.saturating_add(queue_depth);
        Self { capacity: max_concurrency, slots, running: 0, waiting: BTreeMap::new() }
    }

    /// Any number runs, so that none ever waits.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(usize::MAX, 0)
    }

    /// Decides about a request that arrives.
    pub fn admit(&mut self) -> Admission {
        if self.in_flight() >= self.slots {
            Admission::Full
        } else if self.has_room() {
            self.running += 1;
            Admission::Run
        } else {
            Admission::Wait
        }
    }

    /// Lets a request wait that [`Breaker::admit`] told to.
    pub fn wait(&mut self, ticket: Ticket, waiter: W) {
        self.waiting.insert(ticket, waiter);
    }

    /// Takes a waiter out that no longer waits; `None` if it had its turn already.
    pub fn withdraw(&mut self, ticket: Ticket) -> Option<W> {
        self.waiting.remove(&ticket)
    }

    /// Counts one running request less. Whoever calls this then calls [`Breaker::promote`].
    pub fn finish(&mut self) {
        debug_assert!(self.running > 0, "more requests finished than ran");
        self.running = self.running.saturating_sub(1);
    }

    /// The waiter that runs from now on, if there is one and a place for it.
    pub fn promote(&mut self) -> Option<W> {
        if !self.has_room() {
            return None;
        }
        let (_, waiter) = self.waiting.pop_first()?;
        self.running += 1;
        Some(waiter)
    }

    /// How many may run from now on. Those that run beyond it finish; after a growth, [`Breaker::promote`] is due.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Whether one more may run.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.running < self.capacity
    }

    /// Requests that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that run or wait.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.running + self.waiting.len()
    }

    /// The first waiter's ticket.
    #[must_use]
    pub fn oldest(&self) -> Option<Ticket> {
        self.waiting.first_key_value().map(|(ticket, _)| *ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers as many requests, with tickets from zero, and counts what becomes of them.
    fn offer(breaker: &mut Breaker<Ticket>, n_requests: u64) -> (usize, usize, usize) {
        let (mut run, mut wait, mut full) = (0, 0, 0);
        for ticket in 0..n_requests {
            match breaker.admit() {
                Admission::Run => run += 1,
                Admission::Full => full += 1,
                Admission::Wait => {
                    breaker.wait(ticket, ticket);
                    wait += 1;
                }
            }
        }
        (run, wait, full)
    }

    #[test]
    fn what_exceeds_places_and_queue_is_refused() {
        for (capacity, depth, n_requests, expected) in
            [(1, 10, 12, (1, 10, 1)), (2, 20, 25, (2, 20, 3)), (3, 0, 4, (3, 0, 1)), (5, 5, 4, (4, 0, 0))]
        {
            let breaker = &mut Breaker::new(capacity, depth);
            assert_eq!(offer(breaker, n_requests), expected, "{capacity} places, {depth} wait, {n_requests} come");
        }
        assert_eq!(offer(&mut Breaker::unlimited(), 1000), (1000, 0, 0));
    }

    #[test]
    fn the_first_to_wait_is_the_first_to_run() {
        let breaker = &mut Breaker::new(1, 10);
        offer(breaker, 4);
        assert_eq!(breaker.promote(), None, "the place is taken");
        assert_eq!((breaker.oldest(), breaker.withdraw(1)), (Some(1), Some(1)));
        for expected in [Some(2), Some(3), None] {
            breaker.finish();
            assert_eq!(breaker.promote(), expected);
        }
        assert_eq!((breaker.withdraw(2), breaker.in_flight()), (None, 0));
    }

    #[test]
    fn shrinking_stops_nobody_and_moves_the_slots_to_the_queue() {
        let breaker = &mut Breaker::new(3, 1);
        breaker.set_capacity(1);
        assert_eq!(offer(breaker, 6), (1, 3, 2));
        breaker.set_capacity(3);
        assert_eq!((breaker.promote(), breaker.promote(), breaker.promote()), (Some(1), Some(2), None));
        breaker.set_capacity(1);
        assert_eq!((breaker.running(), breaker.waiting()), (3, 1));
        breaker.finish();
        breaker.finish();
        assert_eq!(breaker.promote(), None, "one still runs");
        breaker.finish();
        assert_eq!(breaker.promote(), Some(3));
    }
}
