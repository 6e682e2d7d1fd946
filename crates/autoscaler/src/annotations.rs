//! The annotations by which a revision asks for its own scaling: their keys, and whether their values are allowed.
//!
//! What the values come to together with a cluster's settings is worked out elsewhere.
//!
//! # Source
//! `pkg/apis/autoscaling` and `pkg/apis/serving` of Knative Serving.

use std::collections::BTreeMap;

use crate::config::{AutoscalerConfig, HPA_CLASS, KPA_CLASS};
use crate::field_error::{CURRENT_FIELD, FieldError, FieldErrors};
use crate::go::{self, NANOS_PER_SECOND, NumberErrorKind};

/// An object's `metadata.annotations`.
pub type Annotations = BTreeMap<String, String>;

/// Smallest target of any metric.
pub(crate) const TARGET_MIN: f64 = 0.01;
pub(crate) const WINDOW_MIN_NANOS: i64 = 6 * NANOS_PER_SECOND;
pub(crate) const WINDOW_MAX_NANOS: i64 = 3600 * NANOS_PER_SECOND;
pub(crate) const PANIC_WINDOW_PERCENTAGE: (f64, f64) = (1.0, 100.0);
const PANIC_THRESHOLD_PERCENTAGE: (f64, f64) = (110.0, 1000.0);
const TARGET_UTILIZATION_PERCENTAGE: (f64, f64) = (1.0, 100.0);

/// What every autoscaling annotation's key begins with.
const GROUP: &str = "autoscaling.knative.dev";

/// The key of an annotation, with the spelling it had in earlier times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    name: &'static str,
    legacy: Option<&'static str>,
}

impl Key {
    const fn new(name: &'static str) -> Self {
        Self { name, legacy: None }
    }

    const fn with_legacy(name: &'static str, legacy: &'static str) -> Self {
        Self { name, legacy: Some(legacy) }
    }

    /// The key as it is written today.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The key that is present and its value; today's spelling wins.
    pub fn get(self, annotations: &Annotations) -> Option<(&'static str, &str)> {
        [Some(self.name), self.legacy]
            .into_iter()
            .flatten()
            .find_map(|name| annotations.get(name).map(|value| (name, value.as_str())))
    }

    /// The value under whichever key is present.
    pub fn value(self, annotations: &Annotations) -> Option<&str> {
        self.get(annotations).map(|(_, value)| value)
    }
}

macro_rules! key {
    ($name:literal) => {
        Key::new(concat!("autoscaling.knative.dev/", $name))
    };
    ($name:literal, $legacy:literal) => {
        Key::with_legacy(concat!("autoscaling.knative.dev/", $name), concat!("autoscaling.knative.dev/", $legacy))
    };
}

/// Which autoscaler is in charge.
pub const CLASS: Key = key!("class");
/// What is measured.
pub const METRIC: Key = key!("metric");
/// How much of it an instance should have.
pub const TARGET: Key = key!("target");
/// The part of the target to aim at, in percent.
pub const TARGET_UTILIZATION: Key = key!("target-utilization-percentage", "targetUtilizationPercentage");
/// Requests that must always find room.
pub const TARGET_BURST_CAPACITY: Key = key!("target-burst-capacity", "targetBurstCapacity");
/// Fewest instances while reachable.
pub const MIN_SCALE: Key = key!("min-scale", "minScale");
/// Most instances.
pub const MAX_SCALE: Key = key!("max-scale", "maxScale");
/// Instances to start with.
pub const INITIAL_SCALE: Key = key!("initial-scale", "initialScale");
/// Fewest instances while there are any.
pub const ACTIVATION_SCALE: Key = key!("activation-scale");
/// The stable window.
pub const WINDOW: Key = key!("window");
/// The panic window as a percentage of the stable one.
pub const PANIC_WINDOW: Key = key!("panic-window-percentage", "panicWindowPercentage");
/// When panic starts, in percent.
pub const PANIC_THRESHOLD: Key = key!("panic-threshold-percentage", "panicThresholdPercentage");
/// How long a lower load must last before it is followed.
pub const SCALE_DOWN_DELAY: Key = key!("scale-down-delay", "scaleDownDelay");
/// How long the last instance stays at least.
pub const RETENTION_PERIOD: Key = key!("scale-to-zero-pod-retention-period", "scaleToZeroPodRetentionPeriod");
/// How the seconds of a window are averaged.
pub const AGGREGATION: Key = key!("metric-aggregation-algorithm", "metricAggregationAlgorithm");
/// How long instances may take to become ready.
pub const PROGRESS_DEADLINE: Key = Key::new("serving.knative.dev/progress-deadline");
/// How long traffic takes to move to a new revision; belongs on a Service or Route itself.
pub const ROLLOUT_DURATION: Key =
    Key::with_legacy("serving.knative.dev/rollout-duration", "serving.knative.dev/rolloutDuration");

/// Checks the autoscaling annotations of a revision template, as Knative's webhook does.
///
/// Paths are bare keys; put `spec.template.metadata.annotations` before them with [`FieldErrors::via_field`]. As there,
/// the floats `NaN` and `Inf` pass; [`validate_finite`] refuses them.
pub fn validate(annotations: &Annotations, config: &AutoscalerConfig) -> FieldErrors {
    FieldErrors::new()
        .also(validate_class(annotations))
        .also(validate_scales(annotations, config))
        .also(validate_floats(annotations))
        .also(validate_durations(annotations))
        .also(validate_metric(annotations, config))
        .also(validate_aggregation(annotations))
        .also(validate_initial_scale(annotations, config))
}

/// Refuses floats that are no numbers to calculate with. Stricter than Knative, whose decisions they spoil.
pub fn validate_finite(annotations: &Annotations) -> FieldErrors {
    [PANIC_WINDOW, PANIC_THRESHOLD, TARGET, TARGET_UTILIZATION, TARGET_BURST_CAPACITY]
        .into_iter()
        .filter_map(|key| key.get(annotations))
        .filter(|(_, text)| go::parse_float(text).is_ok_and(|value| !value.is_finite()))
        .map(|(name, text)| FieldError::invalid_value(text, name).with_details("must be a finite number"))
        .collect()
}

/// Refuses autoscaling annotations where they have no effect: on a Service or Configuration itself.
pub fn validate_absent(annotations: &Annotations) -> FieldErrors {
    annotations
        .keys()
        .filter(|key| key.starts_with(GROUP))
        .map(|key| {
            FieldError::invalid_key_name(key, CURRENT_FIELD).with_details(
                r#"autoscaling annotations must be put under "spec.template.metadata.annotations" to work"#,
            )
        })
        .collect()
}

/// Checks the progress deadline of a revision template.
pub fn validate_progress_deadline(annotations: &Annotations) -> FieldErrors {
    whole_seconds(annotations, PROGRESS_DEADLINE, "progress-deadline").into()
}

/// Checks the rollout duration of a Service or Route.
pub fn validate_rollout_duration(annotations: &Annotations) -> FieldErrors {
    whole_seconds(annotations, ROLLOUT_DURATION, "rollout-duration").into()
}

fn validate_class(annotations: &Annotations) -> Option<FieldError> {
    let (key, class) = CLASS.get(annotations)?;
    let unknown = class.ends_with(".knative.dev") && class != KPA_CLASS && class != HPA_CLASS;
    unknown.then(|| FieldError::invalid_value(class, key))
}

/// A count of instances; 0 if absent or wrong, and what is wrong with it.
fn scale(annotations: &Annotations, key: Key) -> (i32, Option<FieldError>) {
    let Some((key, text)) = key.get(annotations) else { return (0, None) };
    let out_of_bounds = || FieldError::out_of_bounds(text, 0, i32::MAX, key);
    match go::parse_int::<i32>(text) {
        Ok(value) if value < 0 => (0, Some(out_of_bounds())),
        Ok(value) => (value, None),
        Err(error) if error.kind == NumberErrorKind::Range => (0, Some(out_of_bounds())),
        Err(_) => (0, Some(FieldError::invalid_value(text, key))),
    }
}

fn validate_scales(annotations: &Annotations, config: &AutoscalerConfig) -> FieldErrors {
    let (min, min_error) = scale(annotations, MIN_SCALE);
    let (max, max_error) = scale(annotations, MAX_SCALE);
    let mut errors = FieldErrors::new().also(min_error).also(max_error);
    if max != 0 && max < min {
        let message = format!("max-scale={max} is less than min-scale={min}");
        errors.push(FieldError::new(message, [MAX_SCALE.name, MIN_SCALE.name]));
    }
    let limit = config.max_scale_limit;
    if let Some((key, _)) = MAX_SCALE.get(annotations)
        && limit != 0
    {
        if max > limit {
            errors.push(FieldError::out_of_bounds(max, 1, limit, key));
        }
        if max == 0 {
            errors.push(FieldError::new(format!("max-scale=0 (unlimited), must be less than {limit}"), [key]));
        }
    }
    errors.also(validate_activation_scale(annotations, min, max))
}

fn validate_activation_scale(annotations: &Annotations, min: i32, max: i32) -> Option<FieldError> {
    let (key, text) = ACTIVATION_SCALE.get(annotations)?;
    let Ok(scale) = go::parse_int::<i32>(text) else { return Some(FieldError::invalid_value(text, key)) };
    let message = if min > scale {
        format!("min-scale={min} is greater than activation-scale={scale}")
    } else if max < scale && max != 0 {
        format!("max-scale={max} is less than activation-scale={scale}")
    } else if scale < 2 {
        format!("activation-scale={scale} must be greater than 1")
    } else {
        return None;
    };
    Some(FieldError::new(message, [key]))
}

fn validate_floats(annotations: &Annotations) -> FieldErrors {
    let check = |key: Key, wrong: &dyn Fn(f64, &str, &'static str) -> Option<FieldError>| {
        let (key, text) = key.get(annotations)?;
        match go::parse_float(text) {
            Ok(value) => wrong(value, text, key),
            Err(_) => Some(FieldError::invalid_value(text, key)),
        }
    };
    let within = |(low, high): (f64, f64)| {
        move |value: f64, text: &str, key: &'static str| {
            (value < low || value > high).then(|| FieldError::out_of_bounds(text, low, high, key))
        }
    };
    FieldErrors::new()
        .also(check(PANIC_WINDOW, &within(PANIC_WINDOW_PERCENTAGE)))
        .also(check(PANIC_THRESHOLD, &within(PANIC_THRESHOLD_PERCENTAGE)))
        .also(check(TARGET, &|value, text, key| {
            let message = || format!("target {text} should be at least {TARGET_MIN}");
            (value < TARGET_MIN).then(|| FieldError::new(message(), [key]))
        }))
        .also(check(TARGET_UTILIZATION, &within(TARGET_UTILIZATION_PERCENTAGE)))
        .also(check(TARGET_BURST_CAPACITY, &|value, text, key| {
            (value < 0.0 && value != -1.0).then(|| FieldError::invalid_value(text, key))
        }))
}

fn validate_durations(annotations: &Annotations) -> FieldErrors {
    let check = |key: Key, low: i64, fractions_allowed: bool| {
        let (key, text) = key.get(annotations)?;
        let Ok(nanos) = go::parse_duration(text) else { return Some(FieldError::invalid_value(text, key)) };
        if nanos < low || nanos > WINDOW_MAX_NANOS {
            let (low, high) = (go::format_duration(low), go::format_duration(WINDOW_MAX_NANOS));
            return Some(FieldError::out_of_bounds(text, low, high, key));
        }
        let too_precise = !fractions_allowed && nanos % NANOS_PER_SECOND != 0;
        too_precise.then(|| FieldError::new("must be specified with at most second precision", [key]))
    };
    FieldErrors::new().also(check(WINDOW, WINDOW_MIN_NANOS, false)).also(check(RETENTION_PERIOD, 0, true)).also(check(
        SCALE_DOWN_DELAY,
        0,
        false,
    ))
}

fn whole_seconds(annotations: &Annotations, key: Key, name: &str) -> Option<FieldError> {
    let (key, text) = key.get(annotations).filter(|(_, text)| !text.is_empty())?;
    let Ok(nanos) = go::parse_duration(text) else { return Some(FieldError::invalid_value(text, key)) };
    if nanos % NANOS_PER_SECOND != 0 {
        Some(FieldError::new(format!("{name}={text} is not at second precision"), [key]))
    } else if nanos < 0 {
        Some(FieldError::new(format!("{name}={text} must be positive"), [key]))
    } else {
        None
    }
}

fn validate_metric(annotations: &Annotations, config: &AutoscalerConfig) -> Option<FieldError> {
    let (key, metric) = METRIC.get(annotations)?;
    let class = CLASS.value(annotations).unwrap_or(&config.pod_autoscaler_class);
    let allowed = match class {
        KPA_CLASS => matches!(metric, "concurrency" | "rps"),
        HPA_CLASS => !metric.is_empty(),
        // Other autoscalers have metrics of their own.
        _ => true,
    };
    (!allowed).then(|| FieldError::invalid_value(metric, key))
}

fn validate_aggregation(annotations: &Annotations) -> Option<FieldError> {
    // Other autoscalers have algorithms of their own, and no class is one of them here.
    if CLASS.value(annotations) != Some(KPA_CLASS) {
        return None;
    }
    let (key, algorithm) = AGGREGATION.get(annotations)?;
    let allowed = matches!(algorithm, "" | "linear" | "weighted-exponential" | "weightedExponential");
    (!allowed).then(|| FieldError::invalid_value(algorithm, key))
}

fn validate_initial_scale(annotations: &Annotations, config: &AutoscalerConfig) -> Option<FieldError> {
    let (key, text) = INITIAL_SCALE.get(annotations)?;
    match go::parse_int::<i64>(text) {
        Err(_) => Some(FieldError::invalid_value(text, key)),
        Ok(scale) if scale < 0 => Some(FieldError::invalid_value(text, format!("{key} must be greater than 0"))),
        Ok(0) if !config.allow_zero_initial_scale => {
            Some(FieldError::invalid_value(text, format!("{key}=0 not allowed by cluster")))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests;
