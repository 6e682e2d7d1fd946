//! What annotations may say, as a table.

use super::*;

/// Annotations by the part of their keys after the group.
fn annotations(entries: &[(&str, &str)]) -> Annotations {
    entries
        .iter()
        .map(|(key, value)| {
            let key = if key.contains('/') { (*key).to_owned() } else { format!("{GROUP}/{key}") };
            (key, (*value).to_owned())
        })
        .collect()
}

#[track_caller]
fn check_with(config: &AutoscalerConfig, entries: &[(&str, &str)], errors: &str) {
    assert_eq!(validate(&annotations(entries), config).to_string().replace(&format!("{GROUP}/"), ""), errors);
}

#[track_caller]
fn check(entries: &[(&str, &str)], errors: &str) {
    check_with(&AutoscalerConfig::default(), entries, errors);
}

#[test]
fn scales_are_integers_from_zero_on() {
    check(&[("min-scale", "+01"), ("max-scale", "2147483647")], "");
    check(&[("min-scale", "-1")], "expected 0 <= -1 <= 2147483647: min-scale");
    check(&[("max-scale", "2147483648")], "expected 0 <= 2147483648 <= 2147483647: max-scale");
    check(&[("max-scale", "1.0")], "invalid value: 1.0: max-scale");
}

#[test]
fn bounds_must_not_cross() {
    check(&[("min-scale", "5"), ("max-scale", "5")], "");
    check(&[("min-scale", "5"), ("max-scale", "0")], "");
    check(&[("min-scale", "5"), ("max-scale", "4")], "max-scale=4 is less than min-scale=5: max-scale, min-scale");
    check(
        &[("minScale", "3"), ("activation-scale", "2")],
        "min-scale=3 is greater than activation-scale=2: activation-scale",
    );
    check(
        &[("max-scale", "3"), ("activation-scale", "4")],
        "max-scale=3 is less than activation-scale=4: activation-scale",
    );
    check(&[("activation-scale", "1")], "activation-scale=1 must be greater than 1: activation-scale");
    check(&[("activation-scale", "2147483648")], "invalid value: 2147483648: activation-scale");
}

#[test]
fn a_cluster_limit_binds_only_a_scale_that_is_given() {
    let limited = AutoscalerConfig { max_scale: 1, max_scale_limit: 20, ..AutoscalerConfig::default() };
    check_with(&limited, &[], "");
    check_with(&limited, &[("max-scale", "20")], "");
    check_with(&limited, &[("maxScale", "21")], "expected 1 <= 21 <= 20: maxScale");
    check_with(&limited, &[("max-scale", "0")], "max-scale=0 (unlimited), must be less than 20: max-scale");
    let both = "invalid value: x: max-scale\nmax-scale=0 (unlimited), must be less than 20: max-scale";
    check_with(&limited, &[("max-scale", "x")], both);
}

#[test]
fn an_initial_scale_of_zero_needs_the_cluster() {
    check(&[("initial-scale", "1")], "");
    check(&[("initial-scale", "-1")], "invalid value: -1: initial-scale must be greater than 0");
    check(&[("initial-scale", "0")], "invalid value: 0: initial-scale=0 not allowed by cluster");
    let allowing = AutoscalerConfig { allow_zero_initial_scale: true, ..AutoscalerConfig::default() };
    check_with(&allowing, &[("initial-scale", "0")], "");
}

#[test]
fn floats_keep_to_their_ranges() {
    check(&[("target", "0x1p3"), ("target-burst-capacity", "-1.0"), ("panic-threshold-percentage", "110")], "");
    check(&[("target", "0.009")], "target 0.009 should be at least 0.01: target");
    check(&[("target", "100}")], "invalid value: 100}: target");
    check(&[("targetBurstCapacity", "-0.5")], "invalid value: -0.5: targetBurstCapacity");
    check(&[("panic-window-percentage", "100.5")], "expected 1 <= 100.5 <= 100: panic-window-percentage");
    check(&[("panic-threshold-percentage", "109")], "expected 110 <= 109 <= 1000: panic-threshold-percentage");
    check(&[("target-utilization-percentage", "0")], "expected 1 <= 0 <= 100: target-utilization-percentage");
}

#[test]
fn what_is_no_number_passes_the_webhook_but_not_the_stricter_check() {
    let odd = [("target", "NaN"), ("target-burst-capacity", "Inf")];
    check(&odd, "");
    let refused = "invalid value: Inf: autoscaling.knative.dev/target-burst-capacity\nmust be a finite number\n\
                   invalid value: NaN: autoscaling.knative.dev/target\nmust be a finite number";
    assert_eq!(validate_finite(&annotations(&odd)).to_string(), refused);
    assert!(validate_finite(&annotations(&[("target", "1"), ("target-burst-capacity", "x")])).is_empty());
}

#[test]
fn durations_keep_to_their_ranges_and_mostly_to_seconds() {
    check(&[("window", "1.5m"), ("scale-down-delay", "0"), ("scale-to-zero-pod-retention-period", "500ms")], "");
    check(&[("window", "5999ms")], "expected 6s <= 5999ms <= 1h0m0s: window");
    check(&[("window", "61m")], "expected 6s <= 61m <= 1h0m0s: window");
    check(&[("window", "6.5s")], "must be specified with at most second precision: window");
    check(&[("window", "90")], "invalid value: 90: window");
    check(&[("scaleDownDelay", "-1s")], "expected 0s <= -1s <= 1h0m0s: scaleDownDelay");
    check(&[("scale-down-delay", "1.5s")], "must be specified with at most second precision: scale-down-delay");
}

#[test]
fn class_decides_which_metrics_and_algorithms_exist() {
    check(&[("class", "foo.knative.dev")], "invalid value: foo.knative.dev: class");
    check(&[("class", "knative.dev"), ("metric", "anything")], "");
    check(&[("metric", "rps")], "");
    check(&[("metric", "RPS")], "invalid value: RPS: metric");
    check(&[("class", HPA_CLASS), ("metric", "")], "invalid value: : metric");
    check(&[("class", HPA_CLASS), ("metric", "queue-length")], "");
    let hpa = AutoscalerConfig { pod_autoscaler_class: HPA_CLASS.to_owned(), ..AutoscalerConfig::default() };
    check_with(&hpa, &[("metric", "cpu")], "");
    check(&[("metric-aggregation-algorithm", "bogus")], "");
    check(
        &[("class", KPA_CLASS), ("metric-aggregation-algorithm", "bogus")],
        "invalid value: bogus: metric-aggregation-algorithm",
    );
    check(&[("class", KPA_CLASS), ("metricAggregationAlgorithm", "weightedExponential")], "");
}

#[test]
fn all_errors_are_told_at_once() {
    check(
        &[("min-scale", "-4"), ("max-scale", "never"), ("window", "1ms"), ("class", "x.knative.dev")],
        "expected 0 <= -4 <= 2147483647: min-scale\nexpected 6s <= 1ms <= 1h0m0s: window\n\
         invalid value: never: max-scale\ninvalid value: x.knative.dev: class",
    );
}

#[test]
fn todays_spelling_wins_over_the_legacy_one() {
    let both = annotations(&[("min-scale", "1"), ("minScale", "7")]);
    assert_eq!(MIN_SCALE.get(&both), Some(("autoscaling.knative.dev/min-scale", "1")));
    assert_eq!(MIN_SCALE.value(&annotations(&[("minScale", "7")])), Some("7"));
    assert_eq!(WINDOW.value(&annotations(&[])), None);
}

#[test]
fn scaling_belongs_on_the_template() {
    assert!(validate_absent(&annotations(&[("example.com/min-scale", "1")])).is_empty());
    assert_eq!(
        validate_absent(&annotations(&[("min-scale", "1")])).via_field("metadata.annotations").to_string(),
        "invalid key name \"autoscaling.knative.dev/min-scale\": metadata.annotations\n\
         autoscaling annotations must be put under \"spec.template.metadata.annotations\" to work"
    );
}

#[test]
fn deadlines_and_rollouts_are_whole_seconds() {
    let deadline = |text| {
        let errors = validate_progress_deadline(&annotations(&[("serving.knative.dev/progress-deadline", text)]));
        errors.to_string().replace("serving.knative.dev/", "")
    };
    assert_eq!(deadline(""), "");
    assert_eq!(deadline("10m"), "");
    assert_eq!(deadline("x"), "invalid value: x: progress-deadline");
    assert_eq!(deadline("1.5s"), "progress-deadline=1.5s is not at second precision: progress-deadline");
    assert_eq!(deadline("-1s"), "progress-deadline=-1s must be positive: progress-deadline");
    let rollout = annotations(&[("serving.knative.dev/rolloutDuration", "-2s")]);
    assert_eq!(
        validate_rollout_duration(&rollout).to_string(),
        "rollout-duration=-2s must be positive: serving.knative.dev/rolloutDuration"
    );
}
