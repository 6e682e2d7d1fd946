//! Single passes of the reconciler.

use autoscaler::AutoscalerConfig;
use autoscaler::annotations::Annotations;
use autoscaler::decider::DeciderStatus;
use autoscaler::reconcile::{ActiveState, Network, Observed, Reason, Status, reconcile};
use autoscaler::resolve::{DEFAULT_PROGRESS_DEADLINE, Reachability, Settings};
use autoscaler::time::Timestamp;

use crate::data::{Differences, each_vector};
use crate::parse::{self, annotations, boolean, int, list, mode, named, reachability, seconds, text};

/// The state that a pass would have left behind.
fn status(state: ActiveState, initialized: bool, since: Timestamp) -> Status {
    let reason = match state {
        ActiveState::Activating => Reason::Queued,
        ActiveState::Active => Reason::None,
        ActiveState::Inactive => Reason::NoTraffic,
    };
    Status { state, reason, initialized, service_exists: true, ..Status::new(since) }
}

#[test]
fn scales_are_alike() {
    each_vector("kpa_scale", |data| {
        let mut differences = Differences::default();
        let (input, expect) = (&data["in"], &data["expect"]);
        let settings = Settings::resolve(
            &annotations(&input["annotations"]),
            &parse::config(&input["config"]),
            0,
            seconds(&input["config"]["progress_deadline_s"]),
            reachability(&input["reachability"]),
        );
        let since = Timestamp::from_unix_millis(0);
        let state = named(&input["pa_active_state"]);
        let observed = Observed {
            now: since + seconds(&input["pa_state_age_s"]),
            decider: DeciderStatus { desired: int(&input["decider_desired"]), excess_burst_capacity: 0 },
            replicas: int(&input["current_replicas"]),
            ready: 0,
            network: Some(Network {
                mode: mode(&input["sks_mode"]),
                proxy_for: seconds(&input["sks_proxy_for_s"]),
                activator_in_path: input["activator_probe"] == "ok",
            }),
            status: status(state, boolean(&input["scale_target_initialized"]), since),
        };
        let outcome = reconcile(&settings.scale, &settings.decider, &observed);
        differences.check("scale", outcome.want, int(&expect["scale"]));
        differences.check("applied", outcome.scale.is_some(), boolean(&expect["applied"]));
        let requeue = list(&expect["requeue_after_s"]).iter().map(seconds).collect();
        differences.check("requeue", outcome.requeue.into_iter().collect::<Vec<_>>(), requeue);
        differences.check("probes", i64::from(outcome.async_probe), int(&expect["async_probe_started"]));
        differences
    });
}

#[test]
fn activity_is_judged_alike() {
    each_vector("active_condition", |data| {
        let mut differences = Differences::default();
        let mut given = Annotations::new();
        for (key, field) in [("initial-scale", "initial_scale"), ("min-scale", "min_scale")] {
            if !text(&data[field]).is_empty() {
                given.insert(format!("autoscaling.knative.dev/{key}"), text(&data[field]).to_owned());
            }
        }
        let config = AutoscalerConfig { allow_zero_initial_scale: true, ..AutoscalerConfig::default() };
        let settings = Settings::resolve(&given, &config, 0, DEFAULT_PROGRESS_DEADLINE, Reachability::Unknown);
        let now = Timestamp::from_unix_millis(0);
        let mut status = status(named(&data["state"]), boolean(&data["initialized"]), now);
        status.observe(&settings.scale, int(&data["want"]), int(&data["ready"]), now);
        differences.check("state", status.state, named(&data["expect_state"]));
        differences.check("reason", status.reason, named(&data["expect_reason"]));
        differences.check("initialized", status.initialized, boolean(&data["expect_initialized"]));
        differences
    });
}

#[test]
fn scales_are_shown_alike() {
    each_vector("pa_status_scales", |data| {
        let mut differences = Differences::default();
        let config = AutoscalerConfig::default();
        let settings =
            Settings::resolve(&Annotations::new(), &config, 0, DEFAULT_PROGRESS_DEADLINE, Reachability::Unknown);
        let now = Timestamp::from_unix_millis(0);
        let mut status = Status {
            desired: data["status_desired_before"].as_i64().map(|desired| desired.try_into().unwrap()),
            actual: data["status_actual_before"].as_i64().map(|actual| actual.try_into().unwrap()),
            ..status(ActiveState::Active, true, now)
        };
        status.observe(&settings.scale, int(&data["want"]), int(&data["ready"]), now);
        differences.check("desired", status.desired, Some(int(&data["expect_desired"])));
        differences.check("actual", status.actual, Some(int(&data["expect_actual"])));
        differences
    });
}
