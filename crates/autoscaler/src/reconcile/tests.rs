//! Passes as stories: what is found, what comes of it.

use super::*;
use crate::resolve::Reachability;

const START: Timestamp = Timestamp::from_unix_millis(1_000_000);

const SPEC: ScaleSpec = ScaleSpec {
    reachability: Reachability::Reachable,
    enable_scale_to_zero: true,
    min_scale: 0,
    max_scale: 0,
    initial_scale: 1,
    stable_window: Duration::from_secs(60),
    grace_period: Duration::from_secs(30),
    retention_period: Duration::ZERO,
    activation_timeout: Duration::from_secs(630),
    activator_always_in_path: false,
};

const NETWORK: Network = Network { mode: Mode::Serve, proxy_for: Duration::ZERO, activator_in_path: true };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A revision of three instances that has been in its state for so many seconds.
fn found(state: ActiveState, age_seconds: u64, desired: i32) -> Observed {
    let status = Status { state, initialized: true, service_exists: true, ..Status::new(START) };
    Observed {
        now: START + seconds(age_seconds),
        decider: DeciderStatus { desired, excess_burst_capacity: 0 },
        replicas: 3,
        ready: 3,
        network: Some(NETWORK),
        status,
    }
}

fn pass(spec: &ScaleSpec, observed: &Observed) -> Outcome {
    let decider = crate::decider::DeciderSpec {
        metric: crate::metrics::ScalingMetric::Concurrency,
        target_value: 70.0,
        total_value: 100.0,
        target_burst_capacity: 200.0,
        activator_capacity: 100.0,
        max_scale_up_rate: 1000.0,
        max_scale_down_rate: 2.0,
        panic_threshold: 2.0,
        stable_window: spec.stable_window,
        scale_down_delay: Duration::ZERO,
        initial_scale: spec.initial_scale,
        activation_scale: 0,
        reachable: true,
    };
    reconcile(spec, &decider, observed)
}

#[track_caller]
fn check(spec: ScaleSpec, observed: Observed, want: i32, scale: Option<i32>, requeue: Option<u64>, why: Why) {
    let outcome = pass(&spec, &observed);
    assert_eq!((outcome.want, outcome.scale, outcome.requeue, outcome.why), (want, scale, requeue.map(seconds), why));
}

use ActiveState::{Activating, Active, Inactive};

#[test]
fn a_recommendation_is_applied_within_its_bounds() {
    check(SPEC, found(Active, 0, 5), 5, Some(5), None, Why::Desired);
    check(SPEC, found(Active, 0, 3), 3, None, None, Why::Desired);
    check(ScaleSpec { min_scale: 4, ..SPEC }, found(Active, 0, 2), 4, Some(4), None, Why::MinScale);
    check(ScaleSpec { max_scale: 4, ..SPEC }, found(Active, 0, 9), 4, Some(4), None, Why::MaxScale);
    let crossed = ScaleSpec { min_scale: 6, max_scale: 4, ..SPEC };
    check(crossed, found(Active, 0, 5), 6, Some(6), None, Why::MinScale);
}

#[test]
fn the_initial_scale_is_a_minimum_until_it_is_reached() {
    let spec = ScaleSpec { initial_scale: 5, ..SPEC };
    let mut observed = found(Activating, 0, 1);
    check(spec, observed, 1, Some(1), None, Why::Desired);
    observed.status.initialized = false;
    check(spec, observed, 5, Some(5), None, Why::InitialScale);
    check(ScaleSpec { min_scale: 6, ..spec }, observed, 6, Some(6), None, Why::MinScale);
    let unreachable = ScaleSpec { reachability: Reachability::Unreachable, ..spec };
    check(unreachable, observed, 1, Some(1), None, Why::Desired);
}

#[test]
fn without_data_everything_stays_as_it_is() {
    check(SPEC, found(Active, 0, -1), -1, None, None, Why::NoData);
    check(SPEC, found(Inactive, 900, -1), -1, None, None, Why::NoData);
    let starting = ScaleSpec { min_scale: 2, ..SPEC };
    check(starting, found(Activating, 0, -1), 2, Some(2), None, Why::MinScale);
    check(SPEC, found(Activating, 0, -1), -1, None, Some(630), Why::Activating);
}

#[test]
fn a_cluster_without_scale_to_zero_leaves_one() {
    let spec = ScaleSpec { enable_scale_to_zero: false, ..SPEC };
    check(spec, found(Active, 900, 0), 1, Some(1), None, Why::ZeroDisabled);
}

#[test]
fn activation_is_given_up_after_its_time_and_not_on_it() {
    check(SPEC, found(Activating, 630, 0), -1, None, Some(630), Why::Activating);
    check(SPEC, found(Activating, 631, 0), 0, Some(0), None, Why::ActivationTimedOut);
    let status = pass(&SPEC, &found(Activating, 631, 0)).status;
    assert_eq!((status.state, status.reason), (Inactive, Reason::TimedOut));
}

#[test]
fn an_active_revision_keeps_one_instance_for_the_stable_window() {
    check(SPEC, found(Active, 59, 0), 1, Some(1), Some(1), Why::RecentlyActive);
    check(SPEC, found(Active, 60, 0), 0, None, None, Why::Deactivated);
    let mut proxied = found(Active, 60, 0);
    proxied.network = Some(Network { mode: Mode::Proxy, ..NETWORK });
    check(SPEC, proxied, 0, None, Some(3), Why::Deactivated);
    assert_eq!(pass(&SPEC, &proxied).status.state, Inactive);
}

#[test]
fn the_last_instance_waits_for_the_activator() {
    let mut observed = found(Inactive, 900, 0);
    observed.network = Some(Network { activator_in_path: false, ..NETWORK });
    check(SPEC, observed, 0, None, None, Why::AwaitingActivator);
    assert!(pass(&SPEC, &observed).async_probe);
    let always = ScaleSpec { activator_always_in_path: true, ..SPEC };
    check(always, observed, 0, Some(0), None, Why::Idle);
    assert!(!pass(&always, &observed).async_probe);
}

#[test]
fn the_last_instance_goes_once_requests_have_passed_the_activator_long_enough() {
    let proxied_for = |age, proxied| {
        let mut observed = found(Inactive, age, 0);
        observed.network = Some(Network { proxy_for: seconds(proxied), ..NETWORK });
        observed
    };
    check(SPEC, proxied_for(30, 0), 0, Some(0), None, Why::Idle);
    check(SPEC, proxied_for(29, 0), 0, None, Some(30), Why::GracePeriod);
    check(SPEC, proxied_for(29, 29), 0, None, Some(1), Why::GracePeriod);
    check(SPEC, proxied_for(0, 30), 0, Some(0), None, Why::Idle);
}

#[test]
fn retention_is_a_hard_minimum() {
    let spec = ScaleSpec { retention_period: seconds(40), ..SPEC };
    let observed = |age| {
        let network = Some(Network { proxy_for: seconds(900), ..NETWORK });
        Observed { network, ..found(Inactive, age, 0) }
    };
    check(spec, observed(10), 0, None, Some(30), Why::Retained);
    check(spec, observed(39), 0, None, Some(1), Why::Retained);
    check(spec, observed(40), 0, Some(0), None, Why::Idle);
    check(ScaleSpec { retention_period: seconds(10), ..SPEC }, observed(10), 0, Some(0), None, Why::Idle);
}

#[test]
fn requests_go_straight_to_instances_that_have_room() {
    let mode = |desired, excess_burst_capacity| {
        let decider = DeciderStatus { desired, excess_burst_capacity };
        pass(&SPEC, &Observed { decider, ..found(Active, 60, desired) }).mode
    };
    assert_eq!(mode(1, 0), Mode::Serve);
    assert_eq!(mode(1, -1), Mode::Proxy);
    assert_eq!(mode(0, 5), Mode::Proxy);
    assert_eq!(mode(-1, 5), Mode::Proxy);
}

#[test]
fn nothing_happens_before_there_is_a_network() {
    let mut observed = found(Activating, 0, 5);
    observed.network = None;
    observed.status = Status::new(START);
    let outcome = pass(&SPEC, &observed);
    assert_eq!((outcome.want, outcome.scale, outcome.why, outcome.mode), (-1, None, Why::NoNetwork, Mode::Proxy));
    assert_eq!((outcome.status.reason, outcome.status.actual), (Reason::Queued, Some(0)));
    assert!(!outcome.status.service_exists);
}

#[test]
fn activators_hold_what_instances_hold_and_the_burst() {
    assert_eq!(pass(&SPEC, &found(Active, 0, 3)).num_activators, 5);
}

#[track_caller]
fn check_status(spec: ScaleSpec, before: Status, want: i32, ready: u32, after: (ActiveState, Reason, bool)) {
    let mut status = before;
    status.observe(&spec, want, ready, START + seconds(7));
    assert_eq!((status.state, status.reason, status.initialized), after);
    let changed = (before.state, before.reason) != (status.state, status.reason);
    assert_eq!(status.since, if changed { START + seconds(7) } else { START });
}

#[test]
fn a_revision_is_active_while_enough_of_it_is_ready() {
    let before = |state, reason| Status { reason, ..found(state, 0, 0).status };
    let queued = before(Activating, Reason::Queued);
    check_status(SPEC, queued, 1, 0, (Activating, Reason::Queued, true));
    check_status(SPEC, queued, 1, 1, (Active, Reason::None, true));
    check_status(SPEC, queued, -1, 1, (Active, Reason::None, true));
    check_status(SPEC, queued, 0, 1, (Inactive, Reason::TimedOut, true));
    let active = before(Active, Reason::None);
    check_status(SPEC, active, 1, 0, (Activating, Reason::Queued, true));
    check_status(SPEC, active, -1, 3, (Active, Reason::None, true));
    check_status(SPEC, active, 0, 3, (Inactive, Reason::NoTraffic, true));
    check_status(ScaleSpec { min_scale: 4, ..SPEC }, active, 4, 3, (Activating, Reason::Queued, true));
    let idle = before(Inactive, Reason::NoTraffic);
    check_status(SPEC, idle, -1, 0, (Inactive, Reason::NoTraffic, true));
    check_status(SPEC, idle, -1, 3, (Inactive, Reason::NoTraffic, true));
    check_status(SPEC, idle, 1, 0, (Activating, Reason::Queued, true));
    let timed_out = before(Inactive, Reason::TimedOut);
    check_status(SPEC, timed_out, 0, 0, (Inactive, Reason::NoTraffic, true));
    check_status(SPEC, timed_out, -1, 0, (Inactive, Reason::NoTraffic, true));
    check_status(SPEC, timed_out, -1, 1, (Inactive, Reason::TimedOut, true));
}

#[test]
fn a_revision_must_reach_its_initial_scale_once() {
    let spec = ScaleSpec { initial_scale: 3, ..SPEC };
    let fresh = Status { service_exists: true, reason: Reason::Queued, ..Status::new(START) };
    check_status(spec, fresh, 3, 2, (Activating, Reason::Queued, false));
    check_status(spec, fresh, 3, 3, (Active, Reason::None, true));
    check_status(spec, Status { initialized: true, ..fresh }, 1, 1, (Active, Reason::None, true));
    check_status(spec, Status { service_exists: false, ..fresh }, 3, 3, (Active, Reason::None, false));
}

#[test]
fn an_initial_scale_of_zero_is_reached_at_once() {
    let spec = ScaleSpec { initial_scale: 0, ..SPEC };
    let fresh = Status { service_exists: true, reason: Reason::Queued, ..Status::new(START) };
    check_status(spec, fresh, -1, 0, (Inactive, Reason::NoTraffic, true));
}

#[test]
fn what_was_wanted_before_a_restart_is_still_shown() {
    let shown = |before, want| {
        let mut status = Status { desired: before, ..Status::new(START) };
        status.observe(&SPEC, want, 0, START);
        status.desired
    };
    assert_eq!(shown(Some(4), -1), Some(4));
    assert_eq!(shown(Some(4), 0), Some(0));
    assert_eq!(shown(Some(-1), -1), Some(-1));
    assert_eq!(shown(None, -1), Some(-1));
}
