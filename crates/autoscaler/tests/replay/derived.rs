//! What annotations and settings come to, and counts that follow from them.

use autoscaler::AutoscalerConfig;
use autoscaler::metrics::sample_size;
use autoscaler::reconcile::num_activators;
use autoscaler::resolve::{
    DEFAULT_PROGRESS_DEADLINE, Settings, initial_scale, metric_name, metric_target, scale_bounds, windows,
};

use crate::data::{Differences, each_vector};
use crate::parse::{self, annotations, boolean, float, int, reachability, seconds, text};

#[test]
fn targets_are_alike() {
    each_vector("metric_target", |data| {
        let mut differences = Differences::default();
        let config = parse::config(&data["config"]);
        let (target, total) =
            metric_target(&annotations(&data["annotations"]), &config, int(&data["container_concurrency"]));
        differences.check("target", target, float(&data["expect_target"]));
        differences.check("total", total, float(&data["expect_total"]));
        differences
    });
}

#[test]
fn windows_are_alike() {
    each_vector("metric_windows", |data| {
        let mut differences = Differences::default();
        let config = AutoscalerConfig {
            stable_window: seconds(&data["config_stable_window_s"]),
            panic_window_percentage: float(&data["config_panic_window_percentage"]),
            ..AutoscalerConfig::default()
        };
        let expected = (seconds(&data["expect_stable_window_s"]), seconds(&data["expect_panic_window_s"]));
        differences.check("windows", windows(&annotations(&data["annotations"]), &config), expected);
        differences
    });
}

#[test]
fn deciders_are_made_alike() {
    each_vector("make_decider", |data| {
        let mut differences = Differences::default();
        let annotations = annotations(&data["annotations"]);
        let settings = Settings::resolve(
            &annotations,
            &parse::config(&data["config"]),
            int(&data["container_concurrency"]),
            DEFAULT_PROGRESS_DEADLINE,
            reachability(&data["reachability"]),
        );
        differences.check("spec", settings.decider, parse::decider_spec(&data["expect"]));
        differences.check("metric", metric_name(&annotations), text(&data["expect"]["scaling_metric"]));
        differences
    });
}

#[test]
fn initial_scales_are_alike() {
    each_vector("initial_scale", |data| {
        let mut differences = Differences::default();
        let config = AutoscalerConfig {
            initial_scale: int(&data["cluster_initial_scale"]),
            allow_zero_initial_scale: boolean(&data["allow_zero_initial_scale"]),
            ..AutoscalerConfig::default()
        };
        let scale = initial_scale(&annotations(&data["annotations"]), &config);
        differences.check("scale", scale, int(&data["expect"]));
        differences
    });
}

#[test]
fn bounds_are_alike() {
    each_vector("scale_bounds", |data| {
        let mut differences = Differences::default();
        let config = AutoscalerConfig {
            min_scale: int(&data["config_min_scale"]),
            max_scale: int(&data["config_max_scale"]),
            ..AutoscalerConfig::default()
        };
        let bounds = scale_bounds(&annotations(&data["annotations"]), &config, reachability(&data["reachability"]));
        differences.check("bounds", bounds, (int(&data["expect_min"]), int(&data["expect_max"])));
        differences
    });
}

#[test]
fn samples_are_of_the_same_size() {
    each_vector("sample_size", |data| {
        let mut differences = Differences::default();
        // Knative's function takes any float; fewer than none counts as none.
        let population = int::<i64>(&data["population"]).max(0);
        differences.check("size", sample_size(u32::try_from(population).unwrap()), int(&data["expect"]));
        differences
    });
}

#[test]
fn as_many_activators_are_wanted() {
    each_vector("num_activators", |data| {
        let mut differences = Differences::default();
        let mut spec = Settings::resolve(
            &annotations(&data["annotations"]),
            &AutoscalerConfig::default(),
            0,
            DEFAULT_PROGRESS_DEADLINE,
            Default::default(),
        )
        .decider;
        spec.activator_capacity = float(&data["activator_capacity"]);
        spec.target_burst_capacity = float(&data["target_burst_capacity"]);
        spec.total_value = float(&data["total_value"]);
        differences.check("activators", num_activators(&spec, int(&data["ready"])), int(&data["expect"]));
        differences
    });
}
