//! Annotations and ConfigMaps: which are refused, in which words, and what the others come to.

use autoscaler::annotations::validate;
use autoscaler::resolve::{DEFAULT_PROGRESS_DEADLINE, Reachability, Settings, aggregation_name, metric_name};
use autoscaler::{AutoscalerConfig, field_error::FieldErrors};
use serde_json::Value;

use crate::data::{Differences, each_vector};
use crate::parse::{self, boolean, float, int, seconds, text, texts};

fn check_errors(data: &Value, errors: &FieldErrors) -> Differences {
    let mut differences = Differences::default();
    differences.check("error", errors.to_string().as_str(), text(&data["expect_error"]));
    differences
}

#[test]
fn annotations_are_refused_in_the_same_words() {
    each_vector("validate_annotations", |data| {
        let config = parse::config(&data["config"]);
        check_errors(data, &validate(&parse::annotations(&data["annotations"]), &config))
    });
}

#[test]
fn odd_annotations_are_refused_in_the_same_words_or_come_to_the_same() {
    each_vector("annotations_edge", |data| {
        let annotations = parse::annotations(&data["annotations"]);
        let config = AutoscalerConfig::from_config_map(&texts(&data["config_autoscaler"])).unwrap();
        let mut differences = check_errors(data, &validate(&annotations, &config));
        let Some(resolved) = data.get("resolved") else { return differences };
        let settings = Settings::resolve(&annotations, &config, 0, DEFAULT_PROGRESS_DEADLINE, Reachability::Unknown);
        let (decider, metrics, scale) = (settings.decider, settings.metrics, settings.scale);
        for (key, value) in resolved.as_object().unwrap() {
            match key.as_str() {
                "activation_scale" => differences.check(key, decider.activation_scale, int(value)),
                "aggregation" => differences.check(key, aggregation_name(&annotations), text(value)),
                "initial_scale" => differences.check(key, scale.initial_scale, int(value)),
                "max_scale" => differences.check(key, scale.max_scale, int(value)),
                "min_scale" => differences.check(key, scale.min_scale, int(value)),
                "panic_threshold" => differences.check_float(key, decider.panic_threshold, float(value), 0.0),
                "panic_window_s" => differences.check(key, metrics.panic_window, seconds(value)),
                "scale_down_delay_s" => differences.check(key, decider.scale_down_delay, seconds(value)),
                "scaling_metric" => differences.check(key, metric_name(&annotations), text(value)),
                "stable_window_s" => differences.check(key, metrics.stable_window, seconds(value)),
                "target_burst_capacity" => {
                    differences.check_float(key, decider.target_burst_capacity, float(value), 0.0);
                }
                "target_value" => differences.check_float(key, decider.target_value, float(value), 0.0),
                "total_value" => differences.check_float(key, decider.total_value, float(value), 0.0),
                other => panic!("{other} is not resolved here"),
            }
        }
        differences
    });
}

fn check_config(data: &Value) -> Differences {
    let mut differences = Differences::default();
    let parsed = AutoscalerConfig::from_config_map(&texts(&data["data"]));
    differences.check("accepted", parsed.is_ok(), boolean(&data["expect_ok"]));
    match parsed {
        Err(error) => differences.check("error", error.to_string().as_str(), text(&data["error"])),
        Ok(config) => {
            // Where only some values are told, the others may be anything.
            let recorded = match data.get("expect_some") {
                Some(some) => parse::config_over(config.clone(), some),
                None => parse::config(&data["expect"]),
            };
            differences.check("config", config, recorded);
        }
    }
    differences
}

#[test]
fn config_maps_are_read_and_refused_alike() {
    each_vector("config_autoscaler", check_config);
}

#[test]
fn odd_config_maps_are_read_and_refused_alike() {
    each_vector("config_autoscaler_edge", check_config);
}
