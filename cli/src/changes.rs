//! What has changed between two looks at the runtime; asks nobody and prints nothing.

use std::fmt;

use api::functions::{Decision, RevisionStatus, ServiceStatus, Status};

use crate::view::{self, activity, cold_starts, instances, phase};

/// What kind of change it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The autoscaler has changed its mind.
    Decision,
    /// A request has met zero instances.
    ColdStart,
    /// Something has become other than it was.
    State,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, or when it was noticed, in milliseconds since the Unix epoch.
    pub at_unix_ms: i64,
    /// What kind.
    pub kind: Kind,
    /// The function or the revision.
    pub about: String,
    /// What, in words.
    pub what: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.about, self.what)
    }
}

/// What is other in `after`, oldest first. Before anything was known, [`Status::default`] was.
pub fn between(before: &Status, after: &Status) -> Vec<Change> {
    let mut found = Finder { now_unix_ms: after.at_unix_ms, changes: Vec::new() };
    for service in &after.services {
        let old = before.services.iter().find(|old| old.label() == service.label());
        found.service(old, service);
    }
    for gone in before.services.iter().filter(|old| after.services.iter().all(|new| new.label() != old.label())) {
        found.state(gone.label(), "is gone");
    }
    // What was decided before a look came before what the look found.
    found.changes.sort_by_key(|change| change.at_unix_ms);
    found.changes
}

struct Finder {
    now_unix_ms: i64,
    changes: Vec<Change>,
}

impl Finder {
    fn service(&mut self, old: Option<&ServiceStatus>, new: &ServiceStatus) {
        let about = new.label();
        if old.is_none() {
            self.state(&about, format!("is at {}", new.url));
        }
        let readiness = |service: &ServiceStatus| (service.ready, service.reason.clone());
        if old.map(readiness) != Some(readiness(new)) {
            let ready = if new.ready { "is ready" } else { "is not ready" };
            self.state(&about, because(ready, new.reason.as_deref()));
        }
        if old.map(|old| &old.traffic) != Some(&new.traffic) {
            self.state(&about, format!("traffic: {}", view::traffic(new)));
        }
        let old_revisions = old.map_or(&[][..], |old| &old.revisions);
        // The newest comes first in a status, the oldest first here.
        for revision in new.revisions.iter().rev() {
            match old_revisions.iter().find(|old| old.name == revision.name) {
                Some(old) => self.revision(old, revision),
                None => self.new_revision(revision),
            }
        }
        for gone in old_revisions.iter().filter(|old| new.revisions.iter().all(|new| new.name != old.name)) {
            self.state(&gone.name, "is gone");
        }
    }

    fn new_revision(&mut self, new: &RevisionStatus) {
        self.decisions(new, &new.decisions);
        let mut what =
            format!("is {}, {}, {} instances ready", phase(new.phase), activity(new.activity), instances(new));
        if new.cold_starts > 0 {
            what.push_str(&format!("; {} before", cold_starts(new.cold_starts, new.last_cold_start_ms)));
        }
        self.state(&new.name, because(&what, new.reason.as_deref()));
    }

    fn revision(&mut self, old: &RevisionStatus, new: &RevisionStatus) {
        // A status holds only the latest decisions: the last one seen may have left it.
        let known = old.decisions.first();
        let fresh = new.decisions.iter().position(|decision| Some(decision) == known).unwrap_or(new.decisions.len());
        self.decisions(new, &new.decisions[..fresh]);
        if (old.phase, &old.reason) != (new.phase, &new.reason) {
            self.state(&new.name, because(&format!("is {}", phase(new.phase)), new.reason.as_deref()));
        }
        // A counter that has gone back belongs to a new runtime.
        let cold = new.cold_starts.saturating_sub(old.cold_starts);
        if cold > 0 {
            self.push(self.now_unix_ms, Kind::ColdStart, &new.name, cold_starts(cold, new.last_cold_start_ms));
        }
        if old.ready != new.ready || old.activity != new.activity {
            self.state(&new.name, format!("is {}, {} instances ready", activity(new.activity), instances(new)));
        }
    }

    fn decisions(&mut self, revision: &RevisionStatus, newest_first: &[Decision]) {
        for decision in newest_first.iter().rev() {
            self.push(decision.at_unix_ms, Kind::Decision, &revision.name, view::decision(decision));
        }
    }

    fn state(&mut self, about: impl AsRef<str>, what: impl Into<String>) {
        self.push(self.now_unix_ms, Kind::State, about.as_ref(), what.into());
    }

    fn push(&mut self, at_unix_ms: i64, kind: Kind, about: &str, what: String) {
        self.changes.push(Change { at_unix_ms, kind, about: about.to_owned(), what });
    }
}

fn because(what: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| what.to_owned(), |reason| format!("{what}: {reason}"))
}

#[cfg(test)]
mod tests {
    use api::functions::{Activity, Phase};

    use super::*;
    use crate::view::tests::inference;

    /// What is told when `edit` has happened to [`inference`].
    #[track_caller]
    fn check(edit: impl FnOnce(&mut ServiceStatus), expected: &[&str]) {
        let before = inference();
        let mut after = before.clone();
        after.at_unix_ms += 250;
        edit(&mut after.services[0]);
        let told: Vec<_> = between(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn nothing_is_told_of_what_merely_fluctuates() {
        check(
            |service| {
                let revision = &mut service.revisions[0];
                (revision.running, revision.waiting, revision.requests) = (7, 0, 129);
                (revision.stable_concurrency, revision.panic_concurrency) = (7.0, 9.0);
            },
            &[],
        );
    }

    #[test]
    fn decisions_are_told_once_and_oldest_first() {
        let decision =
            |at, desired| Decision { at_unix_ms: at, desired, ready: 2, reason: "fewer requests".to_owned() };
        check(
            |service| {
                service.revisions[0].decisions.insert(0, decision(100_050, 1));
                service.revisions[0].decisions.insert(0, decision(100_100, 0));
            },
            &["inference-00002 2 -> 1: fewer requests", "inference-00002 2 -> 0: fewer requests"],
        );
        // The last one seen is no longer among the latest.
        check(
            |service| service.revisions[0].decisions = vec![decision(100_100, 0)],
            &["inference-00002 2 -> 0: fewer requests"],
        );
    }

    #[test]
    fn scale_cold_starts_and_phases_are_told() {
        check(
            |service| {
                let idle = &mut service.revisions[1];
                (idle.ready, idle.desired, idle.activity) = (1, 1, Activity::Active);
                (idle.cold_starts, idle.last_cold_start_ms) = (1, Some(412.0));
            },
            &["inference-00001 1 cold start, 412 ms", "inference-00001 is active, 1/1 instances ready"],
        );
        check(
            |service| {
                (service.revisions[1].phase, service.revisions[1].reason) = (Phase::Failed, Some("no memory".into()));
                (service.ready, service.reason) = (false, Some("RevisionFailed".into()));
            },
            &["inference is not ready: RevisionFailed", "inference-00001 is failed: no memory"],
        );
    }

    #[test]
    fn traffic_and_coming_and_going_revisions_are_told() {
        check(
            |service| {
                service.traffic.truncate(1);
                service.traffic[0].percent = 100;
                service.revisions[1].name = "inference-00003".into();
            },
            &[
                "inference traffic: 100% inference-00002 (latest)",
                "inference-00003 is ready, inactive, 0/0 instances ready",
                "inference-00001 is gone",
            ],
        );
    }

    #[test]
    fn the_first_look_tells_how_everything_is_after_what_was_decided_before() {
        let first = between(&Status::default(), &inference());
        let told: Vec<_> = first.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "inference-00002 1 -> 2: 1.50 in flight, 0.70 wanted each",
                "inference is at http://127.0.0.1:8082/",
                "inference is ready",
                "inference traffic: 90% inference-00002 (latest), 10% inference-00001 @old",
                "inference-00001 is ready, inactive, 0/0 instances ready",
                "inference-00002 is ready, active, 1/2 instances ready; 3 cold starts, the last 4.1 ms before",
            ]
        );
        assert_eq!(first[0].at_unix_ms, 95_000);
        let gone: Vec<_> = between(&inference(), &Status::default()).iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["inference is gone"]);
    }

    #[test]
    fn a_new_runtime_begins_to_count_anew() {
        check(|service| service.revisions[0].cold_starts = 0, &[]);
    }
}
