//! Who may work at once, and in which order the others wait: that of their ids, which is that of their creation.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// So many places, and who waits for one.
#[derive(Debug)]
pub(super) struct Places {
    total: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    waiting: BTreeSet<String>,
}

/// A run that waits. Dropping it gives the wait up.
#[derive(Debug)]
pub(super) struct Ticket {
    places: Arc<Places>,
    run: String,
}

/// A taken place. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Places {
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, state: Mutex::default(), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the run waits.
    pub(super) fn queue(self: &Arc<Self>, run: &str) -> Ticket {
        self.state().waiting.insert(run.to_owned());
        Ticket { places: self.clone(), run: run.to_owned() }
    }

    /// For one that works already, even if no place is free.
    pub(super) fn take(self: &Arc<Self>) -> Place {
        self.state().taken += 1;
        Place(self.clone())
    }

    /// How many runs get a place before this one; `None` if it does not wait.
    pub(super) fn ahead(&self, run: &str) -> Option<usize> {
        let state = self.state();
        state.waiting.contains(run).then(|| state.waiting.iter().take_while(|other| other.as_str() < run).count())
    }
}

impl Ticket {
    /// Waits until a place is free and nobody is in front.
    pub(super) async fn admitted(self) -> Place {
        loop {
            // Made before the look, so that no change in between is missed.
            let changed = self.places.changed.notified();
            {
                let mut state = self.places.state();
                if state.taken < self.places.total && state.waiting.first() == Some(&self.run) {
                    state.taken += 1;
                    break;
                }
            }
            changed.await;
        }
        Place(self.places.clone())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.places.state().waiting.remove(&self.run);
        self.places.changed.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().taken -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn places_go_to_the_oldest_whoever_asks_first() {
        let places = Places::new(1);
        let [third, first, second] = ["c", "a", "b"].map(|run| places.queue(run));
        assert_eq!(["a", "b", "c", "d"].map(|run| places.ahead(run)), [Some(0), Some(1), Some(2), None]);
        let (mut third, mut second) = (Box::pin(third.admitted()), Box::pin(second.admitted()));
        assert!(third.as_mut().now_or_never().is_none());
        let place = first.admitted().now_or_never().unwrap();
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(["a", "b", "c"].map(|run| places.ahead(run)), [None, Some(0), Some(1)]);
        drop(place);
        assert!(third.as_mut().now_or_never().is_none(), "somebody is in front");
        let _place = second.as_mut().now_or_never().unwrap();
        assert!(third.as_mut().now_or_never().is_none(), "no place is free");
    }

    #[test]
    fn who_gives_up_lets_the_next_through() {
        let places = Places::new(1);
        let [first, second] = ["a", "b"].map(|run| places.queue(run));
        let working = places.take();
        drop(first);
        assert_eq!(places.ahead("b"), Some(0));
        let mut second = Box::pin(second.admitted());
        assert!(second.as_mut().now_or_never().is_none(), "one that was found working counts");
        drop(working);
        assert!(second.now_or_never().is_some());
    }
}
