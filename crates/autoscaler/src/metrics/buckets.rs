//! A sliding window of one-second buckets and its two averages.
//!
//! The average of a window that is not full yet divides by the seconds since its first value, so a first second counts
//! in full. A pause shrinks the divisor; only the next value fills the pause with zeros.

use serde::{Deserialize, Serialize};

/// How the seconds of a window are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aggregation {
    /// Every second weighs the same.
    Linear,
    /// A second weighs less the longer it is ago.
    WeightedExponential,
}

/// A window over the last seconds; times are whole seconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct Buckets {
    /// The value of second `t` stands at `t` modulo the length.
    buckets: Vec<f64>,
    /// The second since which there are values without a pause of a window's length.
    first: Option<i64>,
    /// The latest second with a value.
    last: Option<i64>,
    total: f64,
    aggregation: Aggregation,
    /// The part of the weighted average that the latest second makes up.
    smoothing: f64,
}

impl Buckets {
    /// An empty window of so many seconds, at least one.
    pub fn new(window_seconds: u32, aggregation: Aggregation) -> Self {
        let length = window_seconds.max(1);
        Self {
            buckets: vec![0.0; length as usize],
            first: None,
            last: None,
            total: 0.0,
            aggregation,
            smoothing: smoothing(length),
        }
    }

    /// Its length in seconds.
    pub fn window_seconds(&self) -> u32 {
        u32::try_from(self.buckets.len()).unwrap_or(u32::MAX)
    }

    /// Adds a value to a second; one that is a window older than the latest is ignored.
    pub fn record(&mut self, second: i64, value: f64) {
        if self.last != Some(second) {
            let window = self.length();
            if self.last.is_some_and(|last| second + window <= last) {
                return;
            }
            if self.first.is_none_or(|first| first > second) {
                self.first = Some(second);
            }
            if self.last.is_none_or(|last| second > last) {
                self.advance(second, window);
            }
        }
        let index = self.index(second);
        self.buckets[index] += value;
        self.total += value;
    }

    /// Makes `second` the latest one, with zeros in between.
    fn advance(&mut self, second: i64, window: i64) {
        match self.last {
            Some(last) if second - last < window => {
                for skipped in last + 1..=second {
                    let index = self.index(skipped);
                    self.total -= std::mem::take(&mut self.buckets[index]);
                }
            }
            _ => {
                self.first = Some(second);
                self.buckets.fill(0.0);
                self.total = 0.0;
            }
        }
        self.last = Some(second);
    }

    /// Whether nothing was recorded for longer than the window.
    pub fn is_empty(&self, now: i64) -> bool {
        self.last.is_none_or(|last| now - last > self.length())
    }

    /// The average at a time; zero if there is nothing to average.
    pub fn average(&self, now: i64) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        match self.aggregation {
            Aggregation::Linear => self.linear(now, last),
            Aggregation::WeightedExponential => self.weighted(now, last),
        }
    }

    fn linear(&self, now: i64, last: i64) -> f64 {
        let window = self.length();
        let idle = (now - last).max(0);
        if idle >= window {
            return 0.0;
        }
        let expired = (last + 1..=now).map(|second| self.buckets[self.index(second)]);
        let remaining = expired.fold(self.total, |total, value| total - value);
        let known = self.first.map_or(window, |first| last - first + 1);
        round_to_millionth(remaining / known.min(window - idle) as f64)
    }

    fn weighted(&self, now: i64, last: i64) -> f64 {
        if self.is_empty(now) {
            return 0.0;
        }
        let keep = 1.0 - self.smoothing;
        let idle = (now - last).max(0);
        let mut weight = self.smoothing * if idle > 0 { keep.powf(idle as f64) } else { 1.0 };
        let mut average = 0.0;
        for age in 0..self.length() - idle {
            average += self.buckets[self.index(last - age)] * weight;
            weight *= keep;
        }
        average
    }

    /// Changes the length, keeping the newest seconds if they are not outdated.
    pub fn resize(&mut self, window_seconds: u32, now: i64) {
        let length = window_seconds.max(1);
        if length == self.window_seconds() {
            return;
        }
        let old_window = self.length();
        let mut resized = Self { first: None, last: self.last, ..Self::new(length, self.aggregation) };
        if let Some(last) = self.last
            && now - last <= old_window
        {
            for second in (last + 1 - old_window.min(resized.length())..=last).rev() {
                let value = self.buckets[self.index(second)];
                let index = resized.index(second);
                resized.buckets[index] = value;
                resized.total += value;
            }
            resized.first = Some(last - (old_window - 1));
        }
        *self = resized;
    }

    fn length(&self) -> i64 {
        self.buckets.len() as i64
    }

    fn index(&self, second: i64) -> usize {
        second.rem_euclid(self.length()) as usize
    }
}

/// So large that a whole window weighs at least 0.9999, and no smaller than a fifth.
fn smoothing(window_seconds: u32) -> f64 {
    (1.0 - 0.0001_f64.powf(1.0 / f64::from(window_seconds))).max(0.2)
}

fn round_to_millionth(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(window: u32, values: &[(i64, f64)]) -> Buckets {
        let mut buckets = Buckets::new(window, Aggregation::Linear);
        for (second, value) in values {
            buckets.record(*second, *value);
        }
        buckets
    }

    #[track_caller]
    fn check(buckets: &Buckets, averages: &[(i64, f64)]) {
        for (now, average) in averages {
            assert_eq!(buckets.average(*now), *average, "at {now}");
        }
    }

    #[test]
    fn nothing_averages_to_zero_and_is_empty() {
        let buckets = linear(5, &[]);
        check(&buckets, &[(0, 0.0), (100, 0.0)]);
        assert!(buckets.is_empty(0));
    }

    #[test]
    fn the_first_second_counts_in_full() {
        check(&linear(60, &[(100, 10.0)]), &[(100, 10.0), (130, 10.0), (159, 10.0), (160, 0.0)]);
        check(&linear(60, &[(100, 10.0), (101, 20.0)]), &[(101, 15.0)]);
    }

    #[test]
    fn values_of_one_second_add_up() {
        check(&linear(5, &[(0, 1.0), (0, 10.0), (0, 0.5)]), &[(0, 11.5)]);
    }

    #[test]
    fn a_pause_shrinks_the_divisor_until_the_next_value_fills_it() {
        let mut buckets = linear(5, &[(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (4, 5.0)]);
        check(&buckets, &[(4, 3.0), (6, 4.0), (8, 5.0), (9, 0.0)]);
        buckets.record(8, 2.0);
        check(&buckets, &[(8, 1.4)]);
    }

    #[test]
    fn a_window_of_silence_starts_over() {
        let buckets = linear(6, &[(0, 6.0), (1, 6.0), (7, 9.0)]);
        check(&buckets, &[(7, 9.0)]);
    }

    #[test]
    fn late_values_count_unless_they_are_a_window_late() {
        let mut buckets = linear(5, &[(60, 1984.0), (57, 4.0)]);
        check(&buckets, &[(60, 497.0)]);
        buckets.record(55, 1000.0);
        check(&buckets, &[(60, 497.0)]);
    }

    #[test]
    fn a_window_stays_nonempty_one_second_longer_than_it_averages() {
        let buckets = linear(5, &[(0, 1.0)]);
        check(&buckets, &[(4, 1.0), (5, 0.0)]);
        assert!(!buckets.is_empty(5));
        assert!(buckets.is_empty(6));
    }

    #[test]
    fn averages_are_rounded_half_away_from_zero() {
        check(&linear(7, &[(0, 1.0), (1, 1.0), (2, 0.0)]), &[(2, 0.666_667)]);
        check(&linear(7, &[(0, 0.000_000_5)]), &[(0, 0.000_001)]);
    }

    #[test]
    fn weights_fade_towards_the_past() {
        let mut buckets = Buckets::new(60, Aggregation::WeightedExponential);
        buckets.record(0, 100.0);
        check(&buckets, &[(0, 20.0)]);
        buckets.record(1, 100.0);
        check(&buckets, &[(1, 36.0)]);
        assert!((buckets.average(4) - 36.0 * 0.8_f64.powi(3)).abs() < 1e-12);
        assert!(!buckets.is_empty(61));
        check(&buckets, &[(61, 0.0), (62, 0.0)]);
    }

    #[test]
    fn short_windows_weigh_the_latest_second_more() {
        let mut buckets = Buckets::new(6, Aggregation::WeightedExponential);
        buckets.record(0, 1.0);
        assert!((buckets.average(0) - 0.784_556_530_996_882_5).abs() < 1e-12);
    }

    #[test]
    fn resizing_keeps_the_newest_seconds() {
        let values = [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (4, 5.0)];
        let mut smaller = linear(5, &values);
        smaller.resize(2, 4);
        check(&smaller, &[(4, 4.5)]);
        let mut larger = linear(5, &values);
        larger.resize(10, 4);
        check(&larger, &[(4, 3.0), (9, 3.0)]);
        larger.record(5, 9.0);
        check(&larger, &[(5, 4.0)]);
        let mut barely = linear(5, &values);
        barely.resize(10, 9);
        check(&barely, &[(9, 3.0)]);
    }

    #[test]
    fn resizing_an_outdated_window_empties_it() {
        let mut buckets = linear(5, &[(0, 20.0)]);
        buckets.resize(10, 60);
        check(&buckets, &[(60, 0.0), (3, 0.0)]);
        buckets.record(61, 3.0);
        check(&buckets, &[(61, 3.0)]);
    }
}
