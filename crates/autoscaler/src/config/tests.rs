//! What a ConfigMap may say, as a table.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

fn parse(data: &[(&str, &str)]) -> Result<AutoscalerConfig, ConfigError> {
    AutoscalerConfig::from_config_map(&data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

#[track_caller]
fn refuses(data: &[(&str, &str)], message: &str) {
    assert_eq!(parse(data).unwrap_err().to_string(), message);
}

#[test]
fn an_empty_map_and_unknown_keys_leave_the_defaults() {
    assert_eq!(parse(&[]).unwrap(), AutoscalerConfig::default());
    assert_eq!(parse(&[("tick-interval", "x"), ("panic-window", "y")]).unwrap(), AutoscalerConfig::default());
}

#[test]
fn every_key_is_read() {
    let config = parse(&[
        ("pod-autoscaler-class", " other "),
        ("enable-scale-to-zero", "F"),
        ("allow-zero-initial-scale", "T"),
        ("max-scale-up-rate", "1.5"),
        ("max-scale-down-rate", "1.25"),
        ("container-concurrency-target-percentage", "50"),
        ("container-concurrency-target-default", "10"),
        ("requests-per-second-target-default", "20"),
        ("target-burst-capacity", "-1"),
        ("panic-window-percentage", "20"),
        ("activator-capacity", "7"),
        ("panic-threshold-percentage", "150"),
        ("initial-scale", "0"),
        ("min-scale", "2"),
        ("max-scale", "3"),
        ("max-scale-limit", "4"),
        ("stable-window", "1m30s"),
        ("scale-down-delay", "5s"),
        ("scale-to-zero-grace-period", "1500ms"),
        ("scale-to-zero-pod-retention-period", "0.5s"),
    ]);
    let expected = AutoscalerConfig {
        enable_scale_to_zero: false,
        allow_zero_initial_scale: true,
        initial_scale: 0,
        min_scale: 2,
        max_scale: 3,
        max_scale_limit: 4,
        max_scale_up_rate: 1.5,
        max_scale_down_rate: 1.25,
        container_concurrency_target_fraction: 0.5,
        container_concurrency_target_default: 10.0,
        target_utilization: 0.7,
        rps_target_default: 20.0,
        target_burst_capacity: -1.0,
        panic_window_percentage: 20.0,
        panic_threshold_percentage: 150.0,
        activator_capacity: 7.0,
        stable_window: Duration::from_secs(90),
        scale_to_zero_grace_period: Duration::from_millis(1500),
        scale_to_zero_pod_retention_period: Duration::from_millis(500),
        scale_down_delay: Duration::from_secs(5),
        pod_autoscaler_class: "other".to_owned(),
    };
    assert_eq!(config, Ok(expected));
}

#[test]
fn a_percentage_up_to_one_is_a_fraction() {
    let fraction = |text| parse(&[("container-concurrency-target-percentage", text)]).unwrap();
    assert_eq!(fraction("1").container_concurrency_target_fraction, 1.0);
    assert_eq!(fraction("0.5").container_concurrency_target_fraction, 0.5);
    assert_eq!(fraction("1.01").container_concurrency_target_fraction, 0.0101);
}

#[test]
fn unreadable_values_are_refused_in_go_words() {
    refuses(
        &[("max-scale", "abc")],
        r#"failed to parse data: failed to parse "max-scale": strconv.ParseInt: parsing "abc": invalid syntax"#,
    );
    refuses(
        &[("enable-scale-to-zero", "yes")],
        "failed to parse data: failed to parse \"enable-scale-to-zero\": \
         strconv.ParseBool: parsing \"yes\": invalid syntax",
    );
    refuses(
        &[("stable-window", "60")],
        r#"failed to parse data: failed to parse "stable-window": time: missing unit in duration "60""#,
    );
}

#[test]
fn values_out_of_range_are_refused() {
    let cases: [(&[(&str, &str)], &str); 20] = [
        (&[("scale-to-zero-grace-period", "0")], "scale-to-zero-grace-period must be positive, was: 0s"),
        (&[("scale-down-delay", "-1s")], "scale-down-delay cannot be negative, was: -1s"),
        (&[("scale-down-delay", "1500ms")], "scale-down-delay = 1.5s, must be specified with at most second precision"),
        (
            &[("scale-to-zero-pod-retention-period", "-1s")],
            "scale-to-zero-pod-retention-period cannot be negative, was: -1s",
        ),
        (
            &[("target-burst-capacity", "-11")],
            "target-burst-capacity must be either non-negative or -1 (for unlimited), was: -11.000000",
        ),
        (
            &[("container-concurrency-target-percentage", "142.4")],
            "container-concurrency-target-percentage = 1.424000 is outside of valid range of (0, 100]",
        ),
        (
            &[("container-concurrency-target-default", "0.001")],
            "container-concurrency-target-percentage and container-concurrency-target-default yield target \
             concurrency of 0.0007, can't be less than 0.01",
        ),
        (
            &[("requests-per-second-target-default", "0.001")],
            "requests-per-second-target-default must be at least 0.01, was: 0.001",
        ),
        (&[("activator-capacity", "0.5")], "activator-capacity = 0.5, must be at least 1"),
        (&[("max-scale-up-rate", "1")], "max-scale-up-rate = 1, must be greater than 1.0"),
        (&[("max-scale-down-rate", "1.0")], "max-scale-down-rate = 1, must be greater than 1.0"),
        (&[("stable-window", "1h1s")], "stable-window = 1h0m1s, must be in [6s; 1h0m0s] range"),
        (&[("stable-window", "6.5s")], "stable-window = 6.5s, must be specified with at most second precision"),
        (&[("panic-window-percentage", "0.5")], "panic-window-percentage = 0.5, must be in [1, 100] interval"),
        (
            &[("initial-scale", "0")],
            "initial-scale = 0, must be at least 0 (or at least 1 when allow-zero-initial-scale is false)",
        ),
        (&[("min-scale", "-1")], "min-scale = -1, must be at least 0"),
        (&[("max-scale", "-1")], "max-scale = -1, must be in [0, max-scale-limit(0)] range"),
        (&[("max-scale-limit", "5")], "max-scale = 0, must be in [1, max-scale-limit(5)] range"),
        (&[("max-scale-limit", "-1")], "max-scale-limit = -1, must be at least 0"),
        (&[("min-scale", "3"), ("max-scale", "2")], "min-scale (3) must be less than max-scale (2)"),
    ];
    for (data, message) in cases {
        refuses(data, message);
    }
}
