//! Single decisions, and what follows from them at once.

use autoscaler::AutoscalerConfig;
use autoscaler::annotations::Annotations;
use autoscaler::decider::{Decider, DeciderSpec, DeciderStatus, Panic, same_sign};
use autoscaler::metrics::{Reading, Stat};
use autoscaler::resolve::{DEFAULT_PROGRESS_DEADLINE, Reachability, Settings};
use autoscaler::time::Timestamp;
use serde_json::Value;

use crate::data::{Differences, each_vector};
use crate::parse::{boolean, decider_spec, float, int, list};

#[test]
fn sequences_of_decisions_are_alike() {
    each_vector("decider_sequence", |data| {
        let mut differences = Differences::default();
        let base = int::<i64>(&data["base_unix_s"]) * 1_000_000_000;
        let steps = list(&data["steps"]);
        let mut spec = decider_spec(&data["spec"]);
        let mut decider = in_state(data, spec, base + int::<i64>(&steps[0]["t_ns"]));
        decider.set_spec(spec);
        for (index, step) in steps.iter().enumerate() {
            if let Some(changed) = step.get("set_spec") {
                spec = DeciderSpec { activator_capacity: spec.activator_capacity, ..decider_spec(changed) };
                decider.set_spec(spec);
            }
            let failed = |key| step.get(key).is_some_and(boolean);
            let decision = (!failed("ready_error") && !failed("metric_error")).then(|| {
                let now = Timestamp::from_unix_nanos(base + int::<i64>(&step["t_ns"]));
                let reading = Reading { stable: float(&step["stable"]), panic: float(&step["panic"]) };
                decider.decide(now, int(&step["ready"]), reading)
            });
            let expect = &step["expect"];
            let mut step = Differences::default();
            step.check("valid", decision.is_some(), boolean(&expect["valid"]));
            if let Some(decision) = decision {
                step.check("desired", decision.desired, int(&expect["desired"]));
                step.check("excess", decision.excess_burst_capacity, int(&expect["ebc"]));
            }
            step.check("panicking", decider.panic().since.is_some(), boolean(&expect["panicking"]));
            step.check("most", decider.panic().max_instances, int(&expect["max_panic_pods"]));
            differences.within(&format!("step {index}"), step);
        }
        differences
    });
}

/// A decider as the first step finds it.
fn in_state(data: &Value, spec: DeciderSpec, first_step_nanos: i64) -> Decider {
    let state = &data["initial_state"];
    let before = state.get("panic_started_ns_before_first_step").map_or(0, int::<i64>);
    let since = Timestamp::from_unix_nanos(first_step_nanos - before);
    let panic =
        Panic { since: boolean(&state["panicking"]).then_some(since), max_instances: int(&state["max_panic_pods"]) };
    let delay = if boolean(&data["delay_window"]) { spec.scale_down_delay } else { Default::default() };
    Decider::with_panic(DeciderSpec { scale_down_delay: delay, ..spec }, panic)
}

fn default_spec() -> DeciderSpec {
    let config = AutoscalerConfig::default();
    Settings::resolve(&Annotations::new(), &config, 0, DEFAULT_PROGRESS_DEADLINE, Reachability::Unknown).decider
}

#[test]
fn deciders_start_alike() {
    each_vector("decider_start", |data| {
        let mut differences = Differences::default();
        // Instances that cannot be counted are counted as none.
        let ready = data.get("ready_at_creation").map_or(0, int);
        let panic = Decider::new(default_spec(), ready, Timestamp::from_unix_millis(0)).panic();
        differences.check("panicking", panic.since.is_some(), boolean(&data["expect_panicking"]));
        differences.check("most", panic.max_instances, int(&data["expect_max_panic_pods"]));
        differences
    });
}

#[test]
fn deciders_begin_with_the_same_recommendation() {
    each_vector("multiscaler_create", |data| {
        let mut differences = Differences::default();
        let spec = DeciderSpec {
            initial_scale: int(&data["initial_scale"]),
            total_value: float(&data["total_value"]),
            target_burst_capacity: float(&data["target_burst_capacity"]),
            ..default_spec()
        };
        let expected =
            DeciderStatus { desired: int(&data["expect_desired"]), excess_burst_capacity: int(&data["expect_ebc"]) };
        differences.check("status", Decider::new(spec, 0, Timestamp::from_unix_millis(0)).status(), expected);
        differences
    });
}

fn status(pair: &Value) -> DeciderStatus {
    DeciderStatus { desired: int(&pair[0]), excess_burst_capacity: int(&pair[1]) }
}

#[test]
fn the_same_decisions_call_for_a_pass() {
    each_vector("multiscaler_notify", |data| {
        let mut differences = Differences::default();
        let notifies = status(&data["before"]).notifies(status(&data["result"]));
        differences.check("notifies", notifies, boolean(&data["expect_notify"]));
        differences
    });
}

#[test]
fn the_same_stats_do_not_wait() {
    each_vector("multiscaler_poke", |data| {
        let mut differences = Differences::default();
        let latest = DeciderStatus { desired: int(&data["latest_desired"]), excess_burst_capacity: 0 };
        let stat = Stat { concurrency: float(&data["stat_average_concurrency"]), ..Stat::default() };
        differences.check("pokes", latest.is_poked_by(&stat), boolean(&data["expect_immediate_tick"]));
        differences
    });
}

#[test]
fn signs_are_compared_alike() {
    each_vector("same_sign", |data| {
        let mut differences = Differences::default();
        differences.check("same", same_sign(int(&data["a"]), int(&data["b"])), boolean(&data["expect"]));
        differences
    });
}
