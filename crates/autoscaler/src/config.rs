//! The ConfigMap `config-autoscaler`: what a cluster sets for all revisions that do not say otherwise.
//!
//! Unknown keys are ignored, among them the retired `tick-interval` and `panic-window`.
//!
//! # Source
//! `pkg/autoscaler/config` of Knative Serving.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::annotations::{PANIC_WINDOW_PERCENTAGE, TARGET_MIN, WINDOW_MAX_NANOS, WINDOW_MIN_NANOS};
use crate::go::{self, NANOS_PER_SECOND};

/// The class of the autoscaler this crate is.
pub const KPA_CLASS: &str = "kpa.autoscaling.knative.dev";
/// The class that leaves scaling to Kubernetes' horizontal pod autoscaler.
pub const HPA_CLASS: &str = "hpa.autoscaling.knative.dev";

/// The settings of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AutoscalerConfig {
    /// Whether idle revisions go to zero instances; otherwise one is left.
    pub enable_scale_to_zero: bool,
    /// Whether a revision may be deployed without ever starting an instance.
    pub allow_zero_initial_scale: bool,
    /// Instances a new revision starts with.
    pub initial_scale: i32,
    /// Fewest instances of a reachable revision.
    pub min_scale: i32,
    /// Most instances of a revision; 0 is unlimited.
    pub max_scale: i32,
    /// The largest `max-scale` a revision may ask for; 0 is unlimited.
    pub max_scale_limit: i32,
    /// How many times more instances one decision may want than are ready.
    pub max_scale_up_rate: f64,
    /// How many times fewer instances one decision may want than are ready.
    pub max_scale_down_rate: f64,
    /// The part of an instance's concurrency to aim at, in (0, 1].
    pub container_concurrency_target_fraction: f64,
    /// Concurrency of an instance without a limit.
    pub container_concurrency_target_default: f64,
    /// The part of other metrics' totals to aim at; no key sets it.
    pub target_utilization: f64,
    /// Requests per second of an instance.
    pub rps_target_default: f64,
    /// Requests that must always find room; -1 keeps the activator in the path for good.
    pub target_burst_capacity: f64,
    /// The panic window as a percentage of the stable one.
    pub panic_window_percentage: f64,
    /// The wanted instances, as a percentage of the ready ones, at which panic starts.
    pub panic_threshold_percentage: f64,
    /// Requests that one activator can hold.
    pub activator_capacity: f64,
    /// How far back decisions look outside of panic.
    pub stable_window: Duration,
    /// How long the activator must have been in the path before the last instance goes.
    pub scale_to_zero_grace_period: Duration,
    /// How long the last instance stays at least.
    pub scale_to_zero_pod_retention_period: Duration,
    /// How long a lower load must last before it is followed.
    pub scale_down_delay: Duration,
    /// The class of revisions that name none.
    pub pod_autoscaler_class: String,
}

impl Default for AutoscalerConfig {
    fn default() -> Self {
        Self {
            enable_scale_to_zero: true,
            allow_zero_initial_scale: false,
            initial_scale: 1,
            min_scale: 0,
            max_scale: 0,
            max_scale_limit: 0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            container_concurrency_target_fraction: 0.7,
            container_concurrency_target_default: 100.0,
            target_utilization: 0.7,
            rps_target_default: 200.0,
            target_burst_capacity: 211.0,
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            activator_capacity: 100.0,
            stable_window: Duration::from_secs(60),
            scale_to_zero_grace_period: Duration::from_secs(30),
            scale_to_zero_pod_retention_period: Duration::ZERO,
            scale_down_delay: Duration::ZERO,
            pod_autoscaler_class: KPA_CLASS.to_owned(),
        }
    }
}

/// Why a ConfigMap is refused, in Knative's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A value cannot be read. Knative prints the cause in the same line, so this variant does too.
    #[error("failed to parse data: failed to parse {}: {cause}", go::quote(.key))]
    Parse {
        /// The key of the value.
        key: &'static str,
        /// What is wrong with it.
        cause: ValueError,
    },
    /// A value, or a pair of them, is out of range.
    #[error("{0}")]
    OutOfRange(String),
}

/// Why a value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// A number or boolean.
    #[error(transparent)]
    Number(#[from] go::NumberError),
    /// A duration.
    #[error(transparent)]
    Duration(#[from] go::DurationError),
}

impl AutoscalerConfig {
    /// Reads the `data` of a ConfigMap; keys that are absent keep their defaults.
    ///
    /// # Errors
    /// The first value that cannot be read, else the first that is out of range.
    pub fn from_config_map(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(class) = data.get("pod-autoscaler-class") {
            config.pod_autoscaler_class = class.trim().to_owned();
        }

        read(data, "enable-scale-to-zero", &mut config.enable_scale_to_zero, go::parse_bool)?;
        read(data, "allow-zero-initial-scale", &mut config.allow_zero_initial_scale, go::parse_bool)?;

        let float = |key, target| read(data, key, target, go::parse_float);
        float("max-scale-up-rate", &mut config.max_scale_up_rate)?;
        float("max-scale-down-rate", &mut config.max_scale_down_rate)?;
        float("container-concurrency-target-percentage", &mut config.container_concurrency_target_fraction)?;
        float("container-concurrency-target-default", &mut config.container_concurrency_target_default)?;
        float("requests-per-second-target-default", &mut config.rps_target_default)?;
        float("target-burst-capacity", &mut config.target_burst_capacity)?;
        float("panic-window-percentage", &mut config.panic_window_percentage)?;
        float("activator-capacity", &mut config.activator_capacity)?;
        float("panic-threshold-percentage", &mut config.panic_threshold_percentage)?;

        let int = |key, target| read(data, key, target, go::parse_int);
        int("initial-scale", &mut config.initial_scale)?;
        int("min-scale", &mut config.min_scale)?;
        int("max-scale", &mut config.max_scale)?;
        int("max-scale-limit", &mut config.max_scale_limit)?;

        let mut durations = Durations {
            stable_window: nanos(config.stable_window),
            scale_down_delay: nanos(config.scale_down_delay),
            grace_period: nanos(config.scale_to_zero_grace_period),
            retention_period: nanos(config.scale_to_zero_pod_retention_period),
        };
        let duration = |key, target| read(data, key, target, go::parse_duration);
        duration("stable-window", &mut durations.stable_window)?;
        duration("scale-down-delay", &mut durations.scale_down_delay)?;
        duration("scale-to-zero-grace-period", &mut durations.grace_period)?;
        duration("scale-to-zero-pod-retention-period", &mut durations.retention_period)?;

        // Up to 1 the value is taken for the fraction itself.
        if config.container_concurrency_target_fraction > 1.0 {
            config.container_concurrency_target_fraction /= 100.0;
        }
        config.check(&durations).map_err(ConfigError::OutOfRange)?;
        config.stable_window = from_nanos(durations.stable_window);
        config.scale_down_delay = from_nanos(durations.scale_down_delay);
        config.scale_to_zero_grace_period = from_nanos(durations.grace_period);
        config.scale_to_zero_pod_retention_period = from_nanos(durations.retention_period);
        Ok(config)
    }

    /// The ranges, in the order in which Knative looks at them.
    fn check(&self, durations: &Durations) -> Result<(), String> {
        let refuse_if = |wrong: bool, message: &dyn Fn() -> String| if wrong { Err(message()) } else { Ok(()) };
        let float = go::format_float;
        let duration = go::format_duration;

        let grace = durations.grace_period;
        refuse_if(grace <= 0, &|| format!("scale-to-zero-grace-period must be positive, was: {}", duration(grace)))?;
        let delay = durations.scale_down_delay;
        refuse_if(delay < 0, &|| format!("scale-down-delay cannot be negative, was: {}", duration(delay)))?;
        refuse_if(delay % NANOS_PER_SECOND != 0, &|| too_precise("scale-down-delay", delay))?;
        let retention = durations.retention_period;
        refuse_if(retention < 0, &|| {
            format!("scale-to-zero-pod-retention-period cannot be negative, was: {}", duration(retention))
        })?;

        let burst = self.target_burst_capacity;
        refuse_if(burst < 0.0 && burst != -1.0, &|| {
            format!(
                "target-burst-capacity must be either non-negative or -1 (for unlimited), was: {}",
                six_decimals(burst)
            )
        })?;
        let fraction = self.container_concurrency_target_fraction;
        refuse_if(fraction <= 0.0 || fraction > 1.0, &|| {
            format!(
                "container-concurrency-target-percentage = {} is outside of valid range of (0, 100]",
                six_decimals(fraction)
            )
        })?;
        let target = fraction * self.container_concurrency_target_default;
        refuse_if(target < TARGET_MIN, &|| {
            format!(
                "container-concurrency-target-percentage and container-concurrency-target-default yield target \
                 concurrency of {}, can't be less than {TARGET_MIN}",
                float(target)
            )
        })?;
        let rps = self.rps_target_default;
        refuse_if(rps < TARGET_MIN, &|| {
            format!("requests-per-second-target-default must be at least {TARGET_MIN}, was: {}", float(rps))
        })?;
        let capacity = self.activator_capacity;
        refuse_if(capacity < 1.0, &|| format!("activator-capacity = {}, must be at least 1", float(capacity)))?;
        for (key, rate) in
            [("max-scale-up-rate", self.max_scale_up_rate), ("max-scale-down-rate", self.max_scale_down_rate)]
        {
            refuse_if(rate <= 1.0, &|| format!("{key} = {}, must be greater than 1.0", float(rate)))?;
        }

        let window = durations.stable_window;
        refuse_if(!(WINDOW_MIN_NANOS..=WINDOW_MAX_NANOS).contains(&window), &|| {
            let (low, high) = (duration(WINDOW_MIN_NANOS), duration(WINDOW_MAX_NANOS));
            format!("stable-window = {}, must be in [{low}; {high}] range", duration(window))
        })?;
        refuse_if(window % NANOS_PER_SECOND != 0, &|| too_precise("stable-window", window))?;
        let (low, high) = PANIC_WINDOW_PERCENTAGE;
        let percentage = self.panic_window_percentage;
        refuse_if(percentage < low || percentage > high, &|| {
            format!("panic-window-percentage = {}, must be in [{low}, {high}] interval", float(percentage))
        })?;
        self.check_scales()
    }

    fn check_scales(&self) -> Result<(), String> {
        let Self { initial_scale: initial, min_scale: min, max_scale: max, max_scale_limit: limit, .. } = *self;
        if initial < 0 || initial == 0 && !self.allow_zero_initial_scale {
            return Err(format!(
                "initial-scale = {initial}, must be at least 0 (or at least 1 when allow-zero-initial-scale is false)"
            ));
        }
        if min < 0 {
            return Err(format!("min-scale = {min}, must be at least 0"));
        }
        let lowest = i32::from(limit > 0);
        if max < lowest || limit > 0 && max > limit {
            return Err(format!("max-scale = {max}, must be in [{lowest}, max-scale-limit({limit})] range"));
        }
        if limit < 0 {
            return Err(format!("max-scale-limit = {limit}, must be at least 0"));
        }
        if min > max && max > 0 {
            return Err(format!("min-scale ({min}) must be less than max-scale ({max})"));
        }
        Ok(())
    }
}

/// The durations before their signs are checked, in nanoseconds.
struct Durations {
    stable_window: i64,
    scale_down_delay: i64,
    grace_period: i64,
    retention_period: i64,
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn from_nanos(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.unsigned_abs())
}

fn read<T, E: Into<ValueError>>(
    data: &BTreeMap<String, String>,
    key: &'static str,
    target: &mut T,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<(), ConfigError> {
    if let Some(text) = data.get(key) {
        *target = parse(text).map_err(|cause| ConfigError::Parse { key, cause: cause.into() })?;
    }
    Ok(())
}

fn too_precise(key: &str, nanos: i64) -> String {
    format!("{key} = {}, must be specified with at most second precision", go::format_duration(nanos))
}

/// Go's `%f`.
fn six_decimals(value: f64) -> String {
    if value.is_finite() { format!("{value:.6}") } else { go::format_float(value) }
}

#[cfg(test)]
mod tests;
