//! The largest of the values seen in a sliding window: what delays scaling down.
//!
//! # Source
//! `pkg/autoscaler/aggregation/max` of Knative Serving.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// A maximum over the last so many indexes, which must not decrease.
#[derive(Debug, Clone)]
pub struct MaxWindow {
    size: i64,
    /// Falling values at rising indexes: whatever is older and not larger can never be the maximum again.
    entries: VecDeque<(i64, i32)>,
}

impl MaxWindow {
    /// A window of so many indexes.
    pub fn new(size: u32) -> Self {
        Self { size: i64::from(size), entries: VecDeque::new() }
    }

    /// Adds a value; of several at one index the largest counts.
    pub fn record(&mut self, index: i64, value: i32) {
        while self.entries.back().is_some_and(|(_, known)| value >= *known) {
            self.entries.pop_back();
        }
        while self.entries.front().is_some_and(|(known, _)| index - known >= self.size) {
            self.entries.pop_front();
        }
        // What is left at this index is larger.
        if self.entries.back().is_none_or(|(known, _)| *known != index) {
            self.entries.push_back((index, value));
        }
    }

    /// The largest value in the window of the latest index, if any was recorded.
    pub fn current(&self) -> Option<i32> {
        self.entries.front().map(|(_, value)| *value)
    }
}

/// A maximum over a span of time, kept in buckets of whole seconds.
#[derive(Debug, Clone)]
pub struct MaxTimeWindow {
    window: MaxWindow,
    granularity_seconds: i64,
}

impl MaxTimeWindow {
    /// A window of that length, rounded up to whole buckets.
    pub fn new(length: Duration, granularity_seconds: u32) -> Self {
        let granularity = granularity_seconds.max(1);
        let buckets = length.as_nanos().div_ceil(Duration::from_secs(granularity.into()).as_nanos());
        Self {
            window: MaxWindow::new(u32::try_from(buckets).unwrap_or(u32::MAX)),
            granularity_seconds: granularity.into(),
        }
    }

    /// Adds a value and returns the largest of the window that ends with it.
    pub fn record(&mut self, now: Timestamp, value: i32) -> i32 {
        self.window.record(now.unix_seconds().div_euclid(self.granularity_seconds), value);
        self.window.current().unwrap_or(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(size: u32, records: &[(i64, i32, i32)]) {
        let mut window = MaxWindow::new(size);
        assert_eq!(window.current(), None);
        for (index, value, maximum) in records {
            window.record(*index, *value);
            assert_eq!(window.current(), Some(*maximum), "after {value} at {index}");
        }
    }

    #[test]
    fn the_largest_value_stands_until_it_leaves_the_window() {
        check(5, &[(0, 5, 5), (1, 6, 6), (2, 5, 6), (5, 4, 6), (6, 3, 5), (7, 2, 4), (12, 1, 1)]);
    }

    #[test]
    fn of_one_index_the_largest_counts() {
        check(2, &[(0, 5, 5), (0, 3, 5), (1, 2, 5), (1, 4, 5), (2, 1, 4)]);
    }

    #[test]
    fn equal_values_last_from_the_latest() {
        check(2, &[(0, 5, 5), (1, 5, 5), (2, 1, 5), (3, 1, 1)]);
    }

    #[test]
    fn lengths_are_rounded_up_to_buckets() {
        let mut window = MaxTimeWindow::new(Duration::from_secs(3), 2);
        let mut record = |millis, value| window.record(Timestamp::from_unix_millis(millis), value);
        assert_eq!(record(0, 5), 5);
        assert_eq!(record(1_999, 3), 5);
        assert_eq!(record(3_999, 2), 5);
        assert_eq!(record(4_000, 1), 2);
    }
}
