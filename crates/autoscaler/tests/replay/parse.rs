//! Recorded values as the crate's own.

use std::collections::BTreeMap;
use std::time::Duration;

use autoscaler::AutoscalerConfig;
use autoscaler::annotations::Annotations;
use autoscaler::decider::DeciderSpec;
use autoscaler::metrics::ScalingMetric;
use autoscaler::reconcile::Mode;
use autoscaler::resolve::Reachability;
use autoscaler::time::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub fn int<T: TryFrom<i64, Error: std::fmt::Debug>>(value: &Value) -> T {
    T::try_from(value.as_i64().unwrap_or_else(|| panic!("{value} is no integer"))).unwrap()
}

/// A float, or the name of what is none.
pub fn float(value: &Value) -> f64 {
    match value {
        Value::String(name) => match name.as_str() {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            "NaN" => f64::NAN,
            other => panic!("{other} is no float"),
        },
        number => number.as_f64().unwrap_or_else(|| panic!("{number} is no float")),
    }
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

pub fn boolean(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| panic!("{value} is no boolean"))
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

pub fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(float(value))
}

pub fn after(base_unix_millis: i64, millis: &Value) -> Timestamp {
    Timestamp::from_unix_millis(base_unix_millis + int::<i64>(millis))
}

/// Maps of texts; null is an empty one.
pub fn texts(value: &Value) -> BTreeMap<String, String> {
    let empty = Map::new();
    let map = value.as_object().unwrap_or(&empty);
    map.iter().map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}

/// Annotations whose keys may lack their group.
pub fn annotations(value: &Value) -> Annotations {
    let full = |key: String| match key.as_str() {
        "progress-deadline" | "rollout-duration" => format!("serving.knative.dev/{key}"),
        _ if key.contains('/') => key,
        _ => format!("autoscaling.knative.dev/{key}"),
    };
    texts(value).into_iter().map(|(key, value)| (full(key), value)).collect()
}

pub fn named<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

pub fn reachability(value: &Value) -> Reachability {
    named(value)
}

pub fn mode(value: &Value) -> Mode {
    named(value)
}

/// The defaults with some values in their place. Recordings of Knative's tests may hold values that no ConfigMap could
/// set.
pub fn config(values: &Value) -> AutoscalerConfig {
    config_over(AutoscalerConfig::default(), values)
}

/// A config with some values in their place.
pub fn config_over(mut config: AutoscalerConfig, values: &Value) -> AutoscalerConfig {
    for (key, value) in values.as_object().unwrap() {
        match key.as_str() {
            "enable_scale_to_zero" => config.enable_scale_to_zero = boolean(value),
            "allow_zero_initial_scale" => config.allow_zero_initial_scale = boolean(value),
            "initial_scale" => config.initial_scale = int(value),
            "min_scale" => config.min_scale = int(value),
            "max_scale" => config.max_scale = int(value),
            "max_scale_limit" => config.max_scale_limit = int(value),
            "max_scale_up_rate" => config.max_scale_up_rate = float(value),
            "max_scale_down_rate" => config.max_scale_down_rate = float(value),
            "container_concurrency_target_fraction" => config.container_concurrency_target_fraction = float(value),
            "container_concurrency_target_default" => config.container_concurrency_target_default = float(value),
            "target_utilization" => config.target_utilization = float(value),
            "rps_target_default" => config.rps_target_default = float(value),
            "target_burst_capacity" => config.target_burst_capacity = float(value),
            "panic_window_percentage" => config.panic_window_percentage = float(value),
            "panic_threshold_percentage" => config.panic_threshold_percentage = float(value),
            "activator_capacity" => config.activator_capacity = float(value),
            "stable_window_s" => config.stable_window = seconds(value),
            "scale_to_zero_grace_period_s" => config.scale_to_zero_grace_period = seconds(value),
            "scale_to_zero_pod_retention_period_s" => config.scale_to_zero_pod_retention_period = seconds(value),
            "scale_down_delay_s" => config.scale_down_delay = seconds(value),
            "pod_autoscaler_class" => config.pod_autoscaler_class = text(value).to_owned(),
            // Set on the deployment, not here.
            "progress_deadline_s" => {}
            other => panic!("{other} is no setting"),
        }
    }
    config
}

pub fn decider_spec(value: &Value) -> DeciderSpec {
    DeciderSpec {
        metric: if value["scaling_metric"] == "rps" { ScalingMetric::Rps } else { ScalingMetric::Concurrency },
        target_value: float(&value["target_value"]),
        total_value: float(&value["total_value"]),
        target_burst_capacity: float(&value["target_burst_capacity"]),
        activator_capacity: value.get("activator_capacity").map_or(100.0, float),
        max_scale_up_rate: float(&value["max_scale_up_rate"]),
        max_scale_down_rate: float(&value["max_scale_down_rate"]),
        panic_threshold: float(&value["panic_threshold"]),
        stable_window: seconds(&value["stable_window_s"]),
        scale_down_delay: seconds(&value["scale_down_delay_s"]),
        initial_scale: int(&value["initial_scale"]),
        activation_scale: int(&value["activation_scale"]),
        reachable: boolean(&value["reachable"]),
    }
}
