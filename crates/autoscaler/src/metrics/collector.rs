//! The four windows of a revision: concurrency and requests per second, each over the stable and the panic window.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Aggregation, Buckets, ScalingMetric, Stat};
use crate::time::Timestamp;

/// What to keep of a revision's stats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricSpec {
    /// How far back decisions look; whole seconds.
    pub stable_window: Duration,
    /// How far back panic looks; whole seconds.
    pub panic_window: Duration,
    /// How seconds are averaged; fixed when collecting begins.
    pub aggregation: Aggregation,
    /// Whether instances report themselves: then silence means ignorance, otherwise idleness.
    pub scraped: bool,
}

/// Averages over both windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Over the stable window.
    pub stable: f64,
    /// Over the panic window.
    pub panic: f64,
}

/// Why there is nothing to decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoReading {
    /// Collecting has not begun, or has ended.
    #[error("no metrics are being collected for the requested resource")]
    NotCollecting,
    /// Nothing was reported for a stable window.
    #[error("no data available")]
    NoData,
}

/// Collects a revision's stats once it is told to.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    collection: Option<Collection>,
}

#[derive(Debug, Clone)]
struct Collection {
    scraped: bool,
    concurrency: Windows,
    rps: Windows,
}

#[derive(Debug, Clone)]
struct Windows {
    stable: Buckets,
    panic: Buckets,
}

impl Collector {
    /// Begins to collect or, if it does already, changes the windows' lengths.
    pub fn start(&mut self, spec: &MetricSpec, now: Timestamp) {
        match &mut self.collection {
            Some(collection) => {
                collection.scraped = spec.scraped;
                collection.concurrency.resize(spec, now);
                collection.rps.resize(spec, now);
            }
            None => {
                self.collection = Some(Collection {
                    scraped: spec.scraped,
                    concurrency: Windows::new(spec),
                    rps: Windows::new(spec),
                });
            }
        }
    }

    /// Forgets everything.
    pub fn stop(&mut self) {
        self.collection = None;
    }

    /// Whether stats are kept.
    pub fn is_collecting(&self) -> bool {
        self.collection.is_some()
    }

    /// Adds a stat, which may be late; dropped unless collecting.
    pub fn record(&mut self, at: Timestamp, stat: Stat) {
        if let Some(collection) = &mut self.collection {
            let second = at.unix_seconds();
            collection.concurrency.record(second, stat.concurrency - stat.proxied_concurrency);
            collection.rps.record(second, stat.request_count - stat.proxied_count);
        }
    }

    /// The averages of a metric.
    ///
    /// # Errors
    /// See [`NoReading`].
    pub fn read(&self, metric: ScalingMetric, now: Timestamp) -> Result<Reading, NoReading> {
        let collection = self.collection.as_ref().ok_or(NoReading::NotCollecting)?;
        let windows = match metric {
            ScalingMetric::Concurrency => &collection.concurrency,
            ScalingMetric::Rps => &collection.rps,
        };
        let second = now.unix_seconds();
        if collection.scraped && windows.stable.is_empty(second) {
            return Err(NoReading::NoData);
        }
        Ok(Reading { stable: windows.stable.average(second), panic: windows.panic.average(second) })
    }
}

impl Windows {
    fn new(spec: &MetricSpec) -> Self {
        let window = |duration| Buckets::new(seconds(duration), spec.aggregation);
        Self { stable: window(spec.stable_window), panic: window(spec.panic_window) }
    }

    fn resize(&mut self, spec: &MetricSpec, now: Timestamp) {
        self.stable.resize(seconds(spec.stable_window), now.unix_seconds());
        self.panic.resize(seconds(spec.panic_window), now.unix_seconds());
    }

    fn record(&mut self, second: i64, value: f64) {
        self.stable.record(second, value);
        self.panic.record(second, value);
    }
}

/// Windows are at most an hour long.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: MetricSpec = MetricSpec {
        stable_window: Duration::from_secs(10),
        panic_window: Duration::from_secs(2),
        aggregation: Aggregation::Linear,
        scraped: true,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1000)
    }

    fn stat(concurrency: f64, request_count: f64) -> Stat {
        Stat { concurrency, request_count, ..Stat::default() }
    }

    #[test]
    fn stats_before_the_start_are_dropped() {
        let mut collector = Collector::default();
        collector.record(at(0), stat(5.0, 5.0));
        assert_eq!(collector.read(ScalingMetric::Concurrency, at(0)), Err(NoReading::NotCollecting));
        collector.start(&SPEC, at(0));
        assert_eq!(collector.read(ScalingMetric::Concurrency, at(0)), Err(NoReading::NoData));
    }

    #[test]
    fn silence_is_idleness_where_nothing_is_scraped() {
        let mut collector = Collector::default();
        collector.start(&MetricSpec { scraped: false, ..SPEC }, at(0));
        assert_eq!(collector.read(ScalingMetric::Rps, at(0)), Ok(Reading { stable: 0.0, panic: 0.0 }));
    }

    #[test]
    fn proxied_requests_count_once() {
        let mut collector = Collector::default();
        collector.start(&SPEC, at(0));
        collector.record(
            at(1),
            Stat { concurrency: 20.0, proxied_concurrency: 5.0, request_count: 8.0, proxied_count: 2.0 },
        );
        assert_eq!(collector.read(ScalingMetric::Concurrency, at(1)), Ok(Reading { stable: 15.0, panic: 15.0 }));
        assert_eq!(collector.read(ScalingMetric::Rps, at(1)), Ok(Reading { stable: 6.0, panic: 6.0 }));
    }

    #[test]
    fn panic_forgets_sooner() {
        let mut collector = Collector::default();
        collector.start(&SPEC, at(0));
        collector.record(at(1), stat(8.0, 0.0));
        collector.record(at(2), stat(0.0, 0.0));
        collector.record(at(3), stat(0.0, 0.0));
        collector.record(at(4), stat(0.0, 0.0));
        assert_eq!(collector.read(ScalingMetric::Concurrency, at(4)), Ok(Reading { stable: 2.0, panic: 0.0 }));
    }

    #[test]
    fn starting_again_resizes() {
        let mut collector = Collector::default();
        collector.start(&SPEC, at(0));
        collector.record(at(0), stat(8.0, 0.0));
        collector.record(at(1), stat(4.0, 0.0));
        collector.start(&MetricSpec { stable_window: Duration::from_secs(6), scraped: false, ..SPEC }, at(1));
        assert_eq!(collector.read(ScalingMetric::Concurrency, at(1)), Ok(Reading { stable: 2.0, panic: 6.0 }));
        collector.stop();
        assert!(!collector.is_collecting());
    }
}
