//! What is measured of a revision, and the windows it is averaged over.
//!
//! # Source
//! `pkg/autoscaler/metrics` and `pkg/autoscaler/aggregation` of Knative Serving.

mod activator;
mod buckets;
mod collector;
mod request_stats;

pub use activator::ActivatorStats;
pub use buckets::{Aggregation, Buckets};
pub use collector::{Collector, MetricSpec, NoReading, Reading};
pub use request_stats::{RequestReport, RequestStats};

use serde::{Deserialize, Serialize};

/// What a revision is scaled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalingMetric {
    /// Requests in flight; also what names unknown to this crate come to.
    Concurrency,
    /// Requests per second.
    Rps,
}

/// One second of a revision's traffic, as one reporter saw it.
///
/// Requests that came through the activator have been reported by it; an instance names them apart, so that they do not
/// count twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stat {
    /// Mean number of requests in flight.
    pub concurrency: f64,
    /// The part of it that came through the activator.
    pub proxied_concurrency: f64,
    /// Requests that arrived.
    pub request_count: f64,
    /// The part of them that came through the activator.
    pub proxied_count: f64,
}

/// How many instances a scrape asks, of so many: all of three, fewer the more there are, never more than 16.
///
/// Embedded, instances are asked by adding up, so nothing is sampled; the rule is here for whoever scrapes.
pub fn sample_size(instances: u32) -> u32 {
    // Critical value squared · variance / margin of error squared, for 95 % and a margin of 5.
    const UNBOUNDED: f64 = 1.96 * 1.96 * 100.0 / 25.0;
    if instances <= 3 {
        return instances;
    }
    let population = f64::from(instances);
    (population * UNBOUNDED / (population + UNBOUNDED - 1.0)).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_grow_slower_than_what_they_stand_for() {
        let sizes = [0, 1, 3, 4, 5, 10, 100, 1000, u32::MAX].map(sample_size);
        assert_eq!(sizes, [0, 1, 3, 4, 4, 7, 14, 16, 16]);
    }
}
