//! What a revision's annotations and its cluster's settings come to.
//!
//! An annotation that cannot be read counts as absent here; refusing it is the work of [`crate::annotations`].
//!
//! # Source
//! `pa_lifecycle.go`, `kpa/resources` and `autoscaling/resources` of Knative Serving.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::annotations::{self, Annotations, Key, TARGET_MIN};
use crate::config::{AutoscalerConfig, HPA_CLASS, KPA_CLASS};
use crate::decider::DeciderSpec;
use crate::go::{self, NANOS_PER_SECOND};
use crate::metrics::{Aggregation, MetricSpec, ScalingMetric};
use crate::reconcile::ScaleSpec;

/// How long instances may take to become ready, unless the cluster or the revision says otherwise.
pub const DEFAULT_PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

/// Given up this much later than the deadline, so that what became of the instances can be told first.
const ACTIVATION_TIMEOUT_BUFFER: Duration = Duration::from_secs(30);

const WEIGHTED_EXPONENTIAL: &str = "weighted-exponential";

/// Whether a route leads to a revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reachability {
    /// Not known yet; counts as reachable.
    #[default]
    #[serde(rename = "")]
    Unknown,
    /// One does.
    Reachable,
    /// None does: minimum, initial scale and retention do not hold any more.
    Unreachable,
}

/// All that scaling depends on, apart from the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// For the decider.
    pub decider: DeciderSpec,
    /// For the windows.
    pub metrics: MetricSpec,
    /// For bounds and the way to zero.
    pub scale: ScaleSpec,
}

impl Settings {
    /// Resolves a revision's settings.
    ///
    /// `container_concurrency` is its limit of concurrent requests per instance, 0 for none; `progress_deadline` the
    /// cluster's, usually [`DEFAULT_PROGRESS_DEADLINE`].
    pub fn resolve(
        annotations: &Annotations,
        config: &AutoscalerConfig,
        container_concurrency: u32,
        progress_deadline: Duration,
        reachability: Reachability,
    ) -> Self {
        let (target_value, total_value) = metric_target(annotations, config, container_concurrency);
        let (min_scale, max_scale) = scale_bounds(annotations, config, reachability);
        let (stable_window, panic_window) = windows(annotations, config);
        let initial_scale = initial_scale(annotations, config);
        let target_burst_capacity =
            float(annotations, annotations::TARGET_BURST_CAPACITY).unwrap_or(config.target_burst_capacity);
        let panic_threshold_percentage =
            float(annotations, annotations::PANIC_THRESHOLD).unwrap_or(config.panic_threshold_percentage);
        let retention = match reachability {
            Reachability::Unreachable => Duration::ZERO,
            _ => duration(annotations, annotations::RETENTION_PERIOD)
                .unwrap_or(config.scale_to_zero_pod_retention_period),
        };
        Self {
            decider: DeciderSpec {
                metric: match metric_name(annotations) {
                    "rps" => ScalingMetric::Rps,
                    _ => ScalingMetric::Concurrency,
                },
                target_value,
                total_value,
                target_burst_capacity,
                activator_capacity: config.activator_capacity,
                max_scale_up_rate: config.max_scale_up_rate,
                max_scale_down_rate: config.max_scale_down_rate,
                panic_threshold: panic_threshold_percentage / 100.0,
                stable_window,
                scale_down_delay: duration(annotations, annotations::SCALE_DOWN_DELAY)
                    .unwrap_or(config.scale_down_delay),
                initial_scale,
                activation_scale: int(annotations, annotations::ACTIVATION_SCALE).unwrap_or(0),
                reachable: reachability != Reachability::Unreachable,
            },
            metrics: MetricSpec {
                stable_window,
                panic_window,
                aggregation: match aggregation_name(annotations) {
                    WEIGHTED_EXPONENTIAL => Aggregation::WeightedExponential,
                    _ => Aggregation::Linear,
                },
                scraped: target_burst_capacity != -1.0,
            },
            scale: ScaleSpec {
                reachability,
                enable_scale_to_zero: config.enable_scale_to_zero,
                min_scale,
                max_scale,
                initial_scale,
                stable_window,
                grace_period: config.scale_to_zero_grace_period,
                retention_period: retention,
                activation_timeout: duration(annotations, annotations::PROGRESS_DEADLINE).unwrap_or(progress_deadline)
                    + ACTIVATION_TIMEOUT_BUFFER,
                activator_always_in_path: target_burst_capacity == -1.0,
            },
        }
    }
}

/// The name of what is measured; the one of another class's autoscaler may be anything.
pub fn metric_name(annotations: &Annotations) -> &str {
    annotations::METRIC.value(annotations).unwrap_or_else(|| match annotations::CLASS.value(annotations) {
        None | Some(KPA_CLASS) => "concurrency",
        Some(HPA_CLASS) => "cpu",
        Some(_) => "",
    })
}

/// The name of the algorithm by which seconds are averaged, in today's spelling; any but one is linear.
pub fn aggregation_name(annotations: &Annotations) -> &str {
    match annotations::AGGREGATION.value(annotations) {
        Some("weightedExponential") => WEIGHTED_EXPONENTIAL,
        other => other.unwrap_or(""),
    }
}

/// How much of the metric an instance should have, and how much it can have.
pub fn metric_target(annotations: &Annotations, config: &AutoscalerConfig, container_concurrency: u32) -> (f64, f64) {
    let metric = metric_name(annotations);
    let limit = f64::from(container_concurrency);
    let (mut total, mut utilization) = if metric == "rps" {
        (config.rps_target_default, config.target_utilization)
    } else {
        let total = if container_concurrency == 0 { config.container_concurrency_target_default } else { limit };
        (total, config.container_concurrency_target_fraction)
    };
    if let Some(target) = float(annotations, annotations::TARGET) {
        // Never more than the instance takes.
        let limited = metric == "concurrency" && container_concurrency != 0;
        total = if limited { go::min(target, limit) } else { target };
    }
    if let Some(percentage) = float(annotations, annotations::TARGET_UTILIZATION) {
        utilization = percentage / 100.0;
    }
    (go::max(TARGET_MIN, total * utilization), total)
}

/// Fewest and most instances; a maximum of 0 is none.
pub fn scale_bounds(annotations: &Annotations, config: &AutoscalerConfig, reachability: Reachability) -> (i32, i32) {
    let min = match reachability {
        Reachability::Unreachable => 0,
        _ => int(annotations, annotations::MIN_SCALE).unwrap_or(config.min_scale),
    };
    (min, int(annotations, annotations::MAX_SCALE).unwrap_or(config.max_scale))
}

/// Instances to start with: the revision's wish, unless it is zero and the cluster does not allow that.
pub fn initial_scale(annotations: &Annotations, config: &AutoscalerConfig) -> i32 {
    int(annotations, annotations::INITIAL_SCALE)
        .filter(|scale| *scale != 0 || config.allow_zero_initial_scale)
        .unwrap_or(config.initial_scale)
}

/// The stable window and the panic window, a percentage of it in whole seconds, at least one.
pub fn windows(annotations: &Annotations, config: &AutoscalerConfig) -> (Duration, Duration) {
    let stable = duration(annotations, annotations::WINDOW).unwrap_or(config.stable_window);
    let percentage = float(annotations, annotations::PANIC_WINDOW).unwrap_or(config.panic_window_percentage);
    let nanos = (stable.as_nanos() as f64 * percentage / 100.0) as i64;
    let seconds = nanos.saturating_add(NANOS_PER_SECOND / 2) / NANOS_PER_SECOND;
    (stable, Duration::from_secs(seconds.max(1).unsigned_abs()))
}

fn int(annotations: &Annotations, key: Key) -> Option<i32> {
    go::parse_int(key.value(annotations)?).ok()
}

fn float(annotations: &Annotations, key: Key) -> Option<f64> {
    go::parse_float(key.value(annotations)?).ok()
}

/// A negative duration, which no validation lets pass, counts as absent too.
fn duration(annotations: &Annotations, key: Key) -> Option<Duration> {
    let nanos = go::parse_duration(key.value(annotations)?).ok()?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests;
