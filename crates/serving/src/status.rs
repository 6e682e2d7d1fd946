//! What a Service's status tells: conditions, addresses, revisions, traffic.
//!
//! # Source
//! `pkg/apis/serving/v1/*_lifecycle.go` of Knative Serving; `apis.ConditionSet` of knative.dev/pkg.

use autoscaler::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resource::TrafficTarget;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Not yet known.
    Unknown,
}

/// What may hold of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionType {
    /// The latest template has a ready revision.
    ConfigurationsReady,
    /// All of these.
    Ready,
    /// Traffic goes where the spec says.
    RoutesReady,
}

/// Whether something holds, since when, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether.
    pub status: ConditionStatus,
    /// Why not, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why not, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when, in nanoseconds since 1970.
    pub last_transition_time: Timestamp,
}

/// Whether something holds and why not, without a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) status: ConditionStatus,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Verdict {
    pub(crate) const TRUE: Self = Self { status: ConditionStatus::True, reason: String::new(), message: String::new() };

    pub(crate) fn unknown(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::Unknown, reason: reason.into(), message: message.into() }
    }

    pub(crate) fn failed(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::False, reason: reason.into(), message: message.into() }
    }
}

/// The three conditions of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conditions {
    configurations_ready: Condition,
    ready: Condition,
    routes_ready: Condition,
}

impl Conditions {
    /// Nothing known yet.
    pub(crate) fn new(now: Timestamp) -> Self {
        let unknown = |kind| Condition {
            kind,
            status: ConditionStatus::Unknown,
            reason: String::new(),
            message: String::new(),
            last_transition_time: now,
        };
        Self {
            configurations_ready: unknown(ConditionType::ConfigurationsReady),
            ready: unknown(ConditionType::Ready),
            routes_ready: unknown(ConditionType::RoutesReady),
        }
    }

    /// Takes note of both verdicts; `Ready` follows the worse one, of two alike the newer one.
    pub(crate) fn set(&mut self, configurations: Verdict, routes: Verdict, now: Timestamp) {
        set(&mut self.configurations_ready, configurations, now);
        set(&mut self.routes_ready, routes, now);
        let (mut newer, mut older) = (&self.configurations_ready, &self.routes_ready);
        if older.last_transition_time > newer.last_transition_time {
            (newer, older) = (older, newer);
        }
        let with = |status| [newer, older].into_iter().find(|condition| condition.status == status);
        let worst = with(ConditionStatus::False).or_else(|| with(ConditionStatus::Unknown));
        let verdict = worst.map_or(Verdict::TRUE, |condition| Verdict {
            status: condition.status,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        });
        set(&mut self.ready, verdict, now);
    }

    /// The conditions in alphabetical order.
    pub(crate) fn list(&self) -> Vec<Condition> {
        vec![self.configurations_ready.clone(), self.ready.clone(), self.routes_ready.clone()]
    }
}

fn set(condition: &mut Condition, verdict: Verdict, now: Timestamp) {
    let Verdict { status, reason, message } = verdict;
    if (condition.status, &condition.reason, &condition.message) != (status, &reason, &message) {
        *condition = Condition { kind: condition.kind, status, reason, message, last_transition_time: now };
    }
}

/// The status of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// How often the spec has changed, counted from 1.
    pub observed_generation: i64,
    /// The conditions in alphabetical order.
    pub conditions: Vec<Condition>,
    /// Address of the main host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Address of the main host inside the cluster, once traffic has been assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The revision of the present template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_created_revision_name: Option<String>,
    /// The latest revision that can take requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ready_revision_name: Option<String>,
    /// Who gets which part of the traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

impl ServiceStatus {
    /// A condition.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether everything is as the spec says.
    pub fn is_ready(&self) -> bool {
        self.condition(ConditionType::Ready).is_some_and(|condition| condition.status == ConditionStatus::True)
    }
}

/// An address that other objects refer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(configurations: Verdict, routes: Verdict, status: ConditionStatus, reason: &str) {
        let mut conditions = Conditions::new(Timestamp::from_unix_millis(1));
        conditions.set(configurations, routes, Timestamp::from_unix_millis(2));
        assert_eq!((conditions.ready.status, conditions.ready.reason.as_str()), (status, reason));
    }

    #[test]
    fn ready_follows_the_worse_condition() {
        let unknown = || Verdict::unknown("Waiting", "");
        let failed = || Verdict::failed("Broken", "");
        check(Verdict::TRUE, Verdict::TRUE, ConditionStatus::True, "");
        check(Verdict::TRUE, unknown(), ConditionStatus::Unknown, "Waiting");
        check(failed(), unknown(), ConditionStatus::False, "Broken");
        check(unknown(), failed(), ConditionStatus::False, "Broken");
    }

    #[test]
    fn of_two_alike_the_newer_one_is_told() {
        let mut conditions = Conditions::new(Timestamp::from_unix_millis(1));
        conditions.set(Verdict::failed("Old", ""), Verdict::TRUE, Timestamp::from_unix_millis(2));
        conditions.set(Verdict::failed("Old", ""), Verdict::failed("New", ""), Timestamp::from_unix_millis(3));
        assert_eq!(conditions.ready.reason, "New");
    }

    #[test]
    fn the_time_changes_only_with_the_verdict() {
        let mut conditions = Conditions::new(Timestamp::from_unix_millis(1));
        for millis in [2, 3] {
            conditions.set(Verdict::TRUE, Verdict::TRUE, Timestamp::from_unix_millis(millis));
        }
        assert!(conditions.list().iter().all(|found| found.last_transition_time == Timestamp::from_unix_millis(2)));
    }
}
