//! How long a request may take: in all, until its answer starts, and between two pieces of it.
//!
//! # Source
//! `pkg/http/handler/timeout.go`.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The timeouts of a revision, each counted from the request's arrival at the hop: waiting and cold starts are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the answer's last byte (`timeoutSeconds`). Zero expires at once.
    pub total: Duration,
    /// Until the answer starts (`responseStartTimeoutSeconds`). Zero is none.
    pub response_start: Duration,
    /// Since the last piece of the answer, or the arrival before there is one (`idleTimeoutSeconds`). Zero is none.
    pub idle: Duration,
}

/// The moments at which a request's time is over. `None` is never, also for what lies beyond the clock's range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    total: Option<Instant>,
    response_start: Option<Instant>,
    idle: Option<Instant>,
    idle_timeout: Duration,
}

/// A deadline has passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired;

impl Deadlines {
    pub(crate) fn new(arrived: Instant, timeouts: &Timeouts) -> Self {
        let unless_zero = |timeout: Duration| if timeout.is_zero() { None } else { arrived.checked_add(timeout) };
        Self {
            total: arrived.checked_add(timeouts.total),
            response_start: unless_zero(timeouts.response_start),
            idle: unless_zero(timeouts.idle),
            idle_timeout: timeouts.idle,
        }
    }

    /// A piece of the answer came.
    pub(crate) fn written(&mut self, now: Instant) {
        self.response_start = None;
        if self.idle.is_some() {
            self.idle = now.checked_add(self.idle_timeout);
        }
    }

    pub(crate) fn expired(&self, now: Instant) -> bool {
        self.next().is_some_and(|next| next <= now)
    }

    fn next(&self) -> Option<Instant> {
        [self.total, self.response_start, self.idle].into_iter().flatten().min()
    }

    /// Ready when a deadline has passed; keeps its timer in `sleep`, which starts empty.
    pub(crate) fn poll_expired(&self, mut sleep: Pin<&mut Option<Sleep>>, context: &mut Context<'_>) -> Poll<()> {
        let Some(next) = self.next() else { return Poll::Pending };
        match sleep.as_mut().as_pin_mut() {
            None => sleep.set(Some(sleep_until(next))),
            Some(sleep) if sleep.deadline() != next => sleep.reset(next),
            Some(_) => {}
        }
        sleep.as_pin_mut().map_or(Poll::Pending, |sleep| sleep.poll(context))
    }

    /// Does the work until a deadline passes, and then drops it. The deadline wins a tie. No timer is set for work that is
    /// done at once.
    pub(crate) async fn limit<T>(&self, work: impl Future<Output = T>) -> Result<T, Expired> {
        let mut work = pin!(work);
        let mut sleep = pin!(None);
        poll_fn(|context| {
            if self.expired(Instant::now()) {
                return Poll::Ready(Err(Expired));
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            self.poll_expired(sleep.as_mut(), context).map(|()| Err(Expired))
        })
        .await
    }
}
