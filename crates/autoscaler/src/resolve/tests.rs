//! Settings as tables: what is asked for, what it comes to.

use super::*;

fn annotations(entries: &[(&str, &str)]) -> Annotations {
    entries.iter().map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned())).collect()
}

fn resolve_for(entries: &[(&str, &str)], container_concurrency: u32, reachability: Reachability) -> Settings {
    let config = AutoscalerConfig::default();
    Settings::resolve(&annotations(entries), &config, container_concurrency, DEFAULT_PROGRESS_DEADLINE, reachability)
}

fn resolve(entries: &[(&str, &str)]) -> Settings {
    resolve_for(entries, 0, Reachability::Unknown)
}

#[test]
fn a_silent_revision_gets_the_cluster_settings() {
    let settings = resolve(&[]);
    let config = AutoscalerConfig::default();
    assert_eq!(settings.decider.metric, ScalingMetric::Concurrency);
    assert_eq!((settings.decider.target_value, settings.decider.total_value), (70.0, 100.0));
    assert_eq!(settings.decider.target_burst_capacity, config.target_burst_capacity);
    assert_eq!(settings.decider.panic_threshold, 2.0);
    assert!(settings.decider.reachable);
    assert_eq!(settings.metrics.stable_window, config.stable_window);
    assert_eq!(settings.metrics.panic_window, Duration::from_secs(6));
    assert_eq!(settings.metrics.aggregation, Aggregation::Linear);
    assert!(settings.metrics.scraped);
    assert_eq!((settings.scale.min_scale, settings.scale.max_scale, settings.scale.initial_scale), (0, 0, 1));
    assert_eq!(settings.scale.activation_timeout, Duration::from_secs(630));
    assert!(!settings.scale.activator_always_in_path);
}

#[test]
fn annotations_come_before_the_cluster() {
    let settings = resolve(&[
        ("min-scale", "2"),
        ("maxScale", "9"),
        ("initial-scale", "3"),
        ("activation-scale", "4"),
        ("window", "40s"),
        ("panic-window-percentage", "20"),
        ("panic-threshold-percentage", "150"),
        ("scale-down-delay", "1m"),
        ("scale-to-zero-pod-retention-period", "1.5s"),
        ("target-burst-capacity", "-1"),
        ("metric-aggregation-algorithm", "weightedExponential"),
    ]);
    assert_eq!((settings.scale.min_scale, settings.scale.max_scale, settings.scale.initial_scale), (2, 9, 3));
    assert_eq!(settings.decider.activation_scale, 4);
    assert_eq!(settings.scale.stable_window, Duration::from_secs(40));
    assert_eq!(settings.metrics.panic_window, Duration::from_secs(8));
    assert_eq!(settings.decider.panic_threshold, 1.5);
    assert_eq!(settings.decider.scale_down_delay, Duration::from_secs(60));
    assert_eq!(settings.scale.retention_period, Duration::from_millis(1500));
    assert_eq!(settings.metrics.aggregation, Aggregation::WeightedExponential);
    assert!(!settings.metrics.scraped && settings.scale.activator_always_in_path);
}

#[test]
fn what_cannot_be_read_counts_as_absent() {
    let odd = [
        ("min-scale", "two"),
        ("window", "40"),
        ("scale-down-delay", "-1s"),
        ("target", "x"),
        ("initial-scale", "0"),
        ("metric-aggregation-algorithm", "bogus"),
    ];
    assert_eq!(resolve(&odd), resolve(&[]));
}

#[test]
fn an_unreachable_revision_loses_its_minimum_and_its_retention() {
    let asked = [("min-scale", "2"), ("max-scale", "5"), ("scale-to-zero-pod-retention-period", "1m")];
    let settings = resolve_for(&asked, 0, Reachability::Unreachable);
    assert_eq!((settings.scale.min_scale, settings.scale.max_scale), (0, 5));
    assert_eq!(settings.scale.retention_period, Duration::ZERO);
    assert!(!settings.decider.reachable);
}

#[track_caller]
fn check_target(entries: &[(&str, &str)], container_concurrency: u32, target: f64, total: f64) {
    let decider = resolve_for(entries, container_concurrency, Reachability::Unknown).decider;
    assert_eq!((decider.target_value, decider.total_value), (target, total));
}

#[test]
fn targets_never_exceed_the_concurrency_limit() {
    check_target(&[], 10, 7.0, 10.0);
    check_target(&[("target", "5")], 10, 3.5, 5.0);
    check_target(&[("target", "50")], 10, 7.0, 10.0);
    check_target(&[("target", "50")], 0, 35.0, 50.0);
    check_target(&[("target", "50"), ("target-utilization-percentage", "100")], 0, 50.0, 50.0);
    check_target(&[("target", "0.01")], 0, 0.01, 0.01);
    check_target(&[("metric", "rps")], 10, 140.0, 200.0);
    check_target(&[("metric", "rps"), ("target", "50")], 10, 35.0, 50.0);
}

#[test]
fn a_panic_window_is_whole_seconds_rounded_half_up_and_at_least_one() {
    let panic = |window, percentage| {
        resolve(&[("window", window), ("panic-window-percentage", percentage)]).metrics.panic_window.as_secs()
    };
    assert_eq!(panic("6s", "1"), 1);
    assert_eq!(panic("10s", "24.9"), 2);
    assert_eq!(panic("10s", "25"), 3);
    assert_eq!(panic("1h", "100"), 3600);
}

#[test]
fn a_progress_deadline_is_given_a_buffer() {
    let mut annotations = annotations(&[]);
    annotations.insert("serving.knative.dev/progress-deadline".to_owned(), "5s".to_owned());
    let config = AutoscalerConfig::default();
    let settings = Settings::resolve(&annotations, &config, 0, DEFAULT_PROGRESS_DEADLINE, Reachability::Reachable);
    assert_eq!(settings.scale.activation_timeout, Duration::from_secs(35));
}

#[test]
fn a_class_has_its_own_metric() {
    let name = |entries: &[(&str, &str)]| metric_name(&annotations(entries)).to_owned();
    assert_eq!(name(&[]), "concurrency");
    assert_eq!(name(&[("class", HPA_CLASS)]), "cpu");
    assert_eq!(name(&[("class", "other")]), "");
    assert_eq!(name(&[("class", "other"), ("metric", "length")]), "length");
}
