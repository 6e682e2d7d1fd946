//! A request's place at an instance, or its turn to come.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use super::{Pool, state::Queue};
use crate::{breaker::Ticket, instance::InstanceId};

/// What a request in a queue is to whoever gives it a place.
pub(super) type Waiter<I> = oneshot::Sender<Place<I>>;

/// A place and who gets it; sent when the lock is free.
pub(super) struct Grant<I> {
    pub(super) waiter: Waiter<I>,
    pub(super) place: Place<I>,
}

impl<I> Grant<I> {
    pub(super) fn send(self) {
        // A waiter that has gone meanwhile gives the place back by dropping it.
        let _ = self.waiter.send(self.place);
    }
}

pub(super) fn send<I>(grants: Vec<Grant<I>>) {
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
    pub(super) fn new(id: InstanceId, key: usize, instance: Arc<I>, pool: Arc<Pool<I>>) -> Self {
        Self { id, key, instance: Some(instance), pool }
    }

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

/// A request's turn to come; dropping it leaves the queue. `None` if the pool was closed.
pub(crate) struct Waiting<I> {
    ticket: Ticket,
    queue: Queue,
    place: oneshot::Receiver<Place<I>>,
    pool: Arc<Pool<I>>,
    over: bool,
}

impl<I> Waiting<I> {
    pub(super) fn new(ticket: Ticket, queue: Queue, place: oneshot::Receiver<Place<I>>, pool: Arc<Pool<I>>) -> Self {
        Self { ticket, queue, place, pool, over: false }
    }
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
