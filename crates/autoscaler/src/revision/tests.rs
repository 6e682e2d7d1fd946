//! A revision's life, poll by poll.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use super::*;
use crate::annotations::Annotations;
use crate::config::AutoscalerConfig;
use crate::decider::Cause;
use crate::metrics::ActivatorStats;
use crate::reconcile::{ActiveState, Reason, Why};
use crate::resolve::{DEFAULT_PROGRESS_DEADLINE, Reachability};

fn settings_for(entries: &[(&str, &str)], reachability: Reachability) -> Settings {
    let annotations: Annotations =
        entries.iter().map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned())).collect();
    Settings::resolve(&annotations, &AutoscalerConfig::default(), 0, DEFAULT_PROGRESS_DEADLINE, reachability)
}

fn settings(entries: &[(&str, &str)]) -> Settings {
    settings_for(entries, Reachability::Reachable)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_000_000 + millis)
}

fn instances(ready: u32, replicas: i32) -> Instances {
    Instances { ready, replicas }
}

fn stat(concurrency: f64) -> Stat {
    Stat { concurrency, request_count: concurrency, ..Stat::default() }
}

/// A revision with one ready instance and a second of idleness behind it, at zero seconds.
fn idle() -> RevisionScaler {
    let mut scaler = RevisionScaler::new(settings(&[]), 0, at(0));
    scaler.poll(at(0), instances(1, 1));
    scaler
}

#[test]
fn a_new_revision_starts_with_its_initial_scale_and_is_ready_once_that_is() {
    let mut scaler = RevisionScaler::new(settings(&[("initial-scale", "2")]), 0, at(0));
    assert_eq!(scaler.initial_replicas(), 2);
    let outcome = scaler.poll(at(0), instances(0, 2)).outcome.unwrap();
    assert_eq!((outcome.why, outcome.status.reason), (Why::InitialScale, Reason::Queued));
    scaler.poll(at(100), instances(1, 2));
    assert!(!scaler.status().is_ready());
    scaler.poll(at(200), instances(2, 2));
    assert!(scaler.status().is_ready());
    assert_eq!(scaler.status().state, ActiveState::Active);
}

#[test]
fn nothing_is_done_before_it_is_due() {
    let mut scaler = idle();
    assert_eq!(scaler.next_wake(at(1)), at(2000));
    assert_eq!(scaler.poll(at(1999), instances(1, 1)), Step { decision: None, outcome: None });
    scaler.record(at(1500), stat(0.0));
    let step = scaler.poll(at(2000), instances(1, 1));
    assert_eq!(step.decision.unwrap().desired, 0);
    assert_eq!(step.outcome.unwrap().why, Why::RecentlyActive);
}

#[test]
fn a_tick_without_data_decides_nothing_and_keeps_the_rhythm() {
    let mut scaler = idle();
    assert_eq!(scaler.poll(at(2000), instances(1, 1)).decision, None);
    assert_eq!(scaler.next_tick(), at(4000));
}

#[test]
fn missed_ticks_are_not_made_up_for() {
    let mut scaler = idle();
    scaler.poll(at(9100), instances(1, 1));
    assert_eq!(scaler.next_tick(), at(10_000));
    scaler.poll(at(10_000), instances(1, 1));
    assert_eq!(scaler.next_tick(), at(12_000));
}

#[test]
fn ready_instances_that_change_call_for_a_pass() {
    let mut scaler = idle();
    assert_eq!(scaler.poll(at(100), instances(1, 1)).outcome, None);
    let outcome = scaler.poll(at(200), instances(0, 1)).outcome.unwrap();
    assert_eq!(outcome.status.state, ActiveState::Activating);
}

/// Lives through seconds of idleness, doing at once what is wanted.
fn idle_until_zero(scaler: &mut RevisionScaler, begin_seconds: i64) -> Option<i64> {
    let mut now = instances(1, 1);
    for tenth in begin_seconds * 10..begin_seconds * 10 + 3000 {
        let time = at(tenth * 100);
        if tenth % 10 == 0 && scaler.is_scraped() {
            scaler.record(time, stat(0.0));
        }
        if scaler.next_wake(time) > time {
            continue;
        }
        if let Some(scale) = scaler.poll(time, now).outcome.and_then(|outcome| outcome.scale) {
            now = instances(u32::try_from(scale).unwrap(), scale);
        }
        if now.replicas == 0 {
            return Some(tenth * 100);
        }
    }
    None
}

#[test]
fn an_idle_revision_is_gone_after_one_stable_window() {
    let mut scaler = idle();
    assert_eq!(idle_until_zero(&mut scaler, 1), Some(60_000));
    assert_eq!(scaler.status().reason, Reason::NoTraffic);
    assert!(scaler.status().is_ready(), "zero instances are no failure");
}

#[test]
fn a_grace_period_counts_from_the_return_of_the_activator() {
    // Without a burst to hold, requests go straight to the instance while there is one.
    let mut scaler = RevisionScaler::new(settings(&[("target-burst-capacity", "0")]), 0, at(0));
    scaler.poll(at(0), instances(1, 1));
    scaler.record(at(0), stat(1.0));
    scaler.poll(at(2000), instances(1, 1));
    assert_eq!(scaler.mode(), Mode::Serve);
    assert_eq!(scaler.network(at(5000)).unwrap().proxy_for, Duration::ZERO);
    assert_eq!(idle_until_zero(&mut scaler, 3), Some(60_000 + 30_000));
}

#[test]
fn requests_pass_the_activator_while_nothing_is_ready() {
    let mut scaler = RevisionScaler::new(settings(&[("target-burst-capacity", "0")]), 0, at(0));
    scaler.poll(at(0), instances(1, 1));
    scaler.record(at(0), stat(1.0));
    scaler.poll(at(2000), instances(1, 1));
    scaler.poll(at(5000), instances(0, 1));
    assert_eq!(scaler.mode(), Mode::Serve);
    assert_eq!(scaler.network(at(8000)).unwrap().proxy_for, Duration::from_secs(3));
    scaler.poll(at(8000), instances(1, 1));
    assert_eq!(scaler.network(at(9000)).unwrap().proxy_for, Duration::ZERO);
}

#[test]
fn retention_keeps_the_last_instance() {
    let asked = [("scale-to-zero-pod-retention-period", "45s")];
    let mut scaler = RevisionScaler::new(settings(&asked), 0, at(0));
    scaler.poll(at(0), instances(1, 1));
    assert_eq!(idle_until_zero(&mut scaler, 1), Some(105_000));
}

#[test]
fn a_request_for_a_revision_at_zero_does_not_wait_for_a_tick() {
    let mut scaler = idle();
    idle_until_zero(&mut scaler, 1).unwrap();
    scaler.poll(at(60_100), instances(0, 0));
    let mut meter = ActivatorStats::default();
    let first = meter.request_in(at(61_300)).unwrap();
    assert!(scaler.record_from_activator(at(61_300), first));
    assert_eq!(scaler.next_wake(at(61_300)), at(61_300));
    let step = scaler.poll(at(61_300), instances(0, 0));
    assert_eq!(step.decision.unwrap().desired, 1);
    let outcome = step.outcome.unwrap();
    assert_eq!((outcome.scale, outcome.status.state), (Some(1), ActiveState::Activating));
    assert_eq!(scaler.next_tick(), at(62_000), "the rhythm stays");
    assert!(meter.request_in(at(61_301)).is_none());
}

#[test]
fn a_burst_is_followed_in_panic_and_held() {
    let mut scaler = idle();
    scaler.record(at(1000), stat(500.0));
    let step = scaler.poll(at(2000), instances(1, 1));
    let decision = step.decision.unwrap();
    assert_eq!((decision.desired, decision.panicking), (8, true));
    assert_eq!(step.outcome.unwrap().scale, Some(8));
    scaler.record(at(9000), stat(0.0));
    let decision = scaler.poll(at(10_000), instances(8, 8)).decision.unwrap();
    assert_eq!((decision.desired, decision.cause), (8, Cause::PanicHold));
}

#[test]
fn a_restart_keeps_the_scale_until_there_is_data() {
    let mut before = idle();
    before.record(at(1000), stat(200.0));
    before.poll(at(2000), instances(1, 1));
    before.poll(at(3000), instances(3, 3));
    let json = serde_json::to_string(&before.snapshot()).unwrap();
    let snapshot: Snapshot = serde_json::from_str(&json).unwrap();
    assert_eq!(snapshot, before.snapshot());

    let mut after = RevisionScaler::restore(settings(&[]), snapshot, 3, at(10_000));
    assert_eq!(after.status(), before.status());
    let outcome = after.poll(at(10_000), instances(3, 3)).outcome.unwrap();
    assert_eq!((outcome.want, outcome.scale, outcome.why), (-1, None, Why::NoData));
    assert_eq!(after.status().desired, Some(3), "what was wanted is still shown");
    after.record(at(11_000), stat(1.0));
    let decision = after.poll(at(12_000), instances(3, 3)).decision.unwrap();
    assert_eq!((decision.desired, decision.cause), (3, Cause::PanicHold));
}

#[test]
fn a_revision_that_no_route_leads_to_loses_its_minimum() {
    let asked = [("min-scale", "3")];
    let mut scaler = RevisionScaler::new(settings(&asked), 0, at(0));
    scaler.poll(at(0), instances(3, 3));
    scaler.record(at(1000), stat(0.0));
    assert_eq!(scaler.poll(at(2000), instances(3, 3)).outcome.unwrap().why, Why::MinScale);
    scaler.update(settings_for(&asked, Reachability::Unreachable), at(2500));
    let outcome = scaler.poll(at(2500), instances(3, 3)).outcome.unwrap();
    assert_eq!((outcome.scale, outcome.why), (Some(1), Why::Desired));
}

#[test]
fn changed_windows_take_effect_at_once_and_keep_their_data() {
    let mut scaler = idle();
    for second in 0..10 {
        scaler.record(at(second * 1000), stat(70.0 * if second < 5 { 1.0 } else { 3.0 }));
    }
    scaler.update(settings(&[("window", "6s"), ("panic-window-percentage", "100")]), at(9000));
    let decision = scaler.poll(at(9000), instances(2, 2)).decision.unwrap();
    assert_eq!(decision.stable, 186.666_667, "one second of 70 and five of 210");
}

#[test]
fn stats_are_dropped_while_nothing_is_collected() {
    let mut scaler = idle();
    scaler.stop_collecting();
    scaler.record(at(1000), stat(5.0));
    scaler.update(settings(&[]), at(1000));
    assert_eq!(scaler.poll(at(2000), instances(1, 1)).decision, None);
    scaler.start_collecting(at(2500));
    scaler.record(at(3000), stat(5.0));
    assert_eq!(scaler.poll(at(4000), instances(1, 1)).decision.unwrap().stable, 5.0);
}

#[test]
fn the_latest_decision_and_pass_can_be_asked_for() {
    let mut scaler = idle();
    scaler.record(at(1000), stat(5.0));
    let step = scaler.poll(at(2000), instances(1, 1));
    assert_eq!(scaler.last_decision().copied(), step.decision);
    assert_eq!(scaler.last_outcome().copied(), step.outcome);
}

#[test]
fn a_timer_neither_follows_an_earlier_one_nor_removes_a_later_one() {
    let mut timers = Timers::default();
    timers.add(at(30));
    timers.add(at(40));
    timers.add(at(10));
    timers.add(at(10));
    assert_eq!(timers.due, [at(30), at(10)]);
    assert_eq!(timers.next(), Some(at(10)));
    assert!(!timers.fire(at(9)));
    assert!(timers.fire(at(10)));
    assert_eq!(timers.next(), Some(at(30)));
    timers.add(at(20));
    assert!(timers.fire(at(35)));
    assert_eq!(timers.next(), None);
}

#[test]
fn passes_come_to_an_end_from_every_state() {
    let asked: [&[(&str, &str)]; 5] = [
        &[],
        &[("min-scale", "2")],
        &[("initial-scale", "3"), ("max-scale", "2")],
        &[("target-burst-capacity", "0"), ("scale-to-zero-pod-retention-period", "30s")],
        &[("target-burst-capacity", "-1")],
    ];
    for entries in asked {
        for state in [ActiveState::Activating, ActiveState::Active, ActiveState::Inactive] {
            for reason in [Reason::None, Reason::Queued, Reason::NoTraffic, Reason::TimedOut] {
                for age_seconds in [0, 3, 30, 60, 700] {
                    passes_end(entries, Status { state, reason, ..Status::new(at(-1000 * age_seconds)) });
                }
            }
        }
    }
}

#[track_caller]
fn passes_end(entries: &[(&str, &str)], status: Status) {
    for (ready, initialized, load) in [(0, false, 0.0), (0, true, 0.0), (1, true, 0.0), (3, false, 9.0)] {
        let status = Status { initialized, ..status };
        let snapshot = Snapshot { status, mode: Mode::Serve, proxy_since: None, replicas: 2 };
        let mut scaler = RevisionScaler::restore(settings(entries), snapshot, ready, at(0));
        scaler.record(at(0), stat(load));
        scaler.tick(at(0));
        let mut passes = 0;
        while scaler.pass_now {
            scaler.pass(at(0), scaler.network(at(0)));
            passes += 1;
            assert!(passes <= 4, "{entries:?} {status:?}");
        }
    }
}
