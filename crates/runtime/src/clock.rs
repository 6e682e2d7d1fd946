//! The time as the autoscaler counts it: that of the wall when the clock was made, and steady from then on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use autoscaler::time::Timestamp;
use tokio::time::Instant;

/// A steady clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    at_start: Timestamp,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX);
        Self { start: Instant::now(), at_start: Timestamp::from_unix_nanos(nanos) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.at_start + self.start.elapsed()
    }

    /// When it is that time; now, if it was before.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.start + at.since(self.at_start)
    }

    /// The next whole second of the wall's clock.
    pub(crate) fn next_second(&self) -> Timestamp {
        let second = Duration::from_secs(1).as_nanos() as i64;
        Timestamp::from_unix_nanos((self.now().unix_nanos().div_euclid(second) + 1) * second)
    }
}
