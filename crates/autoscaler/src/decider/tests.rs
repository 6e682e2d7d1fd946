//! Decisions as stories: what was measured, what is wanted.

use super::*;

const NOW: Timestamp = Timestamp::from_unix_millis(1_000_000);

/// Ten requests an instance, ten times up or down at once, panic from twice what is ready.
const SPEC: DeciderSpec = DeciderSpec {
    metric: ScalingMetric::Concurrency,
    target_value: 10.0,
    total_value: 20.0,
    target_burst_capacity: 100.0,
    activator_capacity: 100.0,
    max_scale_up_rate: 10.0,
    max_scale_down_rate: 10.0,
    panic_threshold: 2.0,
    stable_window: Duration::from_secs(60),
    scale_down_delay: Duration::ZERO,
    initial_scale: 1,
    activation_scale: 0,
    reachable: true,
};

fn after(seconds: u64) -> Timestamp {
    NOW + Duration::from_secs(seconds)
}

fn reading(stable: f64, panic: f64) -> Reading {
    Reading { stable, panic }
}

#[track_caller]
fn check(spec: DeciderSpec, ready: u32, stable: f64, panic: f64, desired: i32, cause: Cause) {
    let decision = Decider::new(spec, 0, NOW).decide(NOW, ready, reading(stable, panic));
    assert_eq!((decision.desired, decision.cause), (desired, cause));
}

#[test]
fn load_is_divided_by_the_target_and_rounded_up() {
    check(SPEC, 4, 50.0, 50.0, 5, Cause::Load);
    check(SPEC, 4, 50.1, 50.0, 6, Cause::Load);
    check(SPEC, 1, 0.0, 0.0, 0, Cause::Load);
}

#[test]
fn one_decision_changes_only_so_much() {
    check(SPEC, 0, 1000.0, 0.0, 10, Cause::ScaleUpLimit);
    check(SPEC, 3, 1000.0, 0.0, 30, Cause::ScaleUpLimit);
    check(SPEC, 50, 1.0, 1.0, 5, Cause::ScaleDownLimit);
    let unreachable = DeciderSpec { reachable: false, ..SPEC };
    check(unreachable, 50, 1.0, 1.0, 1, Cause::Load);
    let slow = DeciderSpec { max_scale_up_rate: 1.1, ..SPEC };
    check(slow, 2, 30.0, 0.0, 3, Cause::Load);
}

#[test]
fn activation_scale_is_a_floor_for_anything_but_zero() {
    let spec = DeciderSpec { activation_scale: 5, ..SPEC };
    check(spec, 0, 1.0, 1.0, 5, Cause::ActivationScale);
    check(spec, 5, 0.0, 0.0, 0, Cause::Load);
    check(spec, 5, 60.0, 60.0, 6, Cause::Load);
    let slow = DeciderSpec { activation_scale: 5, max_scale_up_rate: 2.0, ..SPEC };
    check(slow, 1, 100.0, 0.0, 5, Cause::ActivationScale);
    check(DeciderSpec { activation_scale: 1, ..SPEC }, 0, 1.0, 1.0, 1, Cause::Load);
}

#[test]
fn panic_follows_the_panic_window() {
    check(SPEC, 1, 10.0, 20.0, 2, Cause::PanicLoad);
    check(SPEC, 1, 10.0, 10.0, 1, Cause::Load);
    check(SPEC, 1, 50.0, 20.0, 5, Cause::Load);
}

#[test]
fn panic_never_scales_down_and_ends_a_stable_window_after_its_last_reason() {
    let mut decider = Decider::new(SPEC, 1, NOW);
    assert_eq!(decider.decide(NOW, 1, reading(10.0, 80.0)).desired, 8);
    let held = decider.decide(after(2), 8, reading(10.0, 10.0));
    assert_eq!((held.desired, held.cause, held.panicking), (8, Cause::PanicHold, true));
    assert_eq!(decider.decide(after(30), 8, reading(10.0, 160.0)).desired, 16);
    assert!(decider.decide(after(90), 16, reading(10.0, 10.0)).panicking);
    let over = decider.decide(after(91), 16, reading(10.0, 10.0));
    assert_eq!((over.desired, over.panicking, over.max_panic_instances), (1, false, 0));
}

#[test]
fn a_decider_that_finds_instances_keeps_them() {
    let mut decider = Decider::new(SPEC, 5, NOW);
    assert_eq!(decider.panic(), Panic { since: Some(NOW), max_instances: 5 });
    let held = decider.decide(after(2), 5, reading(0.0, 0.0));
    assert_eq!((held.desired, held.cause), (5, Cause::PanicHold));
    assert_eq!(Decider::new(SPEC, 1, NOW).panic(), Panic { since: None, max_instances: 1 });
}

#[test]
fn scale_down_waits_for_its_delay() {
    let mut decider = Decider::new(DeciderSpec { scale_down_delay: Duration::from_secs(10), ..SPEC }, 4, NOW);
    decider.panic = Panic::default();
    assert_eq!(decider.decide(NOW, 4, reading(40.0, 40.0)).desired, 4);
    let delayed = decider.decide(after(9), 4, reading(10.0, 10.0));
    assert_eq!((delayed.desired, delayed.cause), (4, Cause::ScaleDownDelay));
    assert_eq!(decider.decide(after(10), 4, reading(10.0, 10.0)).desired, 1);

    decider.set_spec(DeciderSpec { reachable: false, ..*decider.spec() });
    assert_eq!(decider.decide(after(12), 4, reading(0.0, 0.0)).desired, 0);
}

#[test]
fn a_delay_that_comes_later_has_no_effect() {
    let mut decider = Decider::new(SPEC, 0, NOW);
    decider.set_spec(DeciderSpec { scale_down_delay: Duration::from_secs(60), ..SPEC });
    assert_eq!(decider.decide(NOW, 4, reading(40.0, 40.0)).desired, 4);
    assert_eq!(decider.decide(after(2), 4, reading(10.0, 10.0)).desired, 1);
}

#[track_caller]
fn check_excess(burst: f64, ready: u32, panic: f64, excess: i32) {
    let mut decider = Decider::new(DeciderSpec { target_burst_capacity: burst, ..SPEC }, 0, NOW);
    assert_eq!(decider.decide(NOW, ready, reading(0.0, panic)).excess_burst_capacity, excess);
}

#[test]
fn excess_is_what_instances_hold_beyond_the_burst_and_the_load() {
    check_excess(100.0, 10, 30.5, 69);
    check_excess(100.0, 0, 0.0, -100);
    check_excess(0.0, 0, 30.0, 0);
    check_excess(-1.0, 10, 0.0, -1);
}

#[test]
fn nothing_is_wanted_before_there_is_data() {
    let status = |burst, initial_scale| {
        let spec = DeciderSpec { target_burst_capacity: burst, initial_scale, ..SPEC };
        let status = Decider::new(spec, 3, NOW).status();
        assert_eq!(status.desired, UNKNOWN_SCALE);
        status.excess_burst_capacity
    };
    assert_eq!(status(100.5, 2), -60);
    assert_eq!(status(10.0, 2), 30);
    assert_eq!(status(-1.0, 2), -1);
    assert_eq!(status(0.0, 2), 0);
}

#[test]
fn only_a_change_of_scale_or_of_the_activators_place_notifies() {
    let status = |desired, excess_burst_capacity| DeciderStatus { desired, excess_burst_capacity };
    assert!(status(1, 5).notifies(status(2, 5)));
    assert!(status(1, 0).notifies(status(1, -1)));
    assert!(!status(1, 0).notifies(status(1, 7)));
    assert!(!status(1, -7).notifies(status(1, -1)));
}

#[test]
fn traffic_pokes_only_a_decider_that_wants_zero() {
    let pokes = |desired, concurrency| {
        let status = DeciderStatus { desired, excess_burst_capacity: 0 };
        status.is_poked_by(&Stat { concurrency, ..Stat::default() })
    };
    assert!(pokes(0, 1.0));
    assert!(!pokes(0, 0.0));
    assert!(!pokes(UNKNOWN_SCALE, 1.0));
    assert!(!pokes(1, 1.0));
}

#[test]
fn decisions_tell_their_reason() {
    let decision = Decider::new(SPEC, 0, NOW).decide(NOW, 1, reading(12.0, 40.0));
    assert_eq!(
        decision.to_string(),
        "4 wanted, 1 ready: the load of the panic window; stable 12.000 asks for 2, panic 40.000 for 4; panicking"
    );
}
