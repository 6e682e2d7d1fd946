//! From the targets of a route to revisions: all of them, or a reason why not.
//!
//! # Source
//! `pkg/reconciler/route/traffic` of Knative Serving.

use std::borrow::Cow;
use std::collections::BTreeMap;

use autoscaler::go;
use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::host::Hosts;
use crate::resource::{ObjectMeta, TrafficTarget};
use crate::revision::Readiness;
use crate::rollout::{ConfigurationRollout, RevisionShare, Rollout};

/// What is known of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationView<'a> {
    /// Its latest ready revision.
    pub latest_ready: Option<&'a str>,
    /// Whether its latest revision has failed.
    pub is_failed: bool,
}

/// What is known of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionView<'a> {
    /// The Service it belongs to; empty if to none.
    pub service: Cow<'a, str>,
    /// The configuration it belongs to; empty if to none.
    pub configuration: &'a str,
    /// Whether it can take requests.
    pub readiness: &'a Readiness,
}

/// The configurations and revisions of a namespace.
pub trait Lookup {
    /// A configuration by its name.
    fn configuration(&self, name: &str) -> Option<ConfigurationView<'_>>;
    /// A revision by its name.
    fn revision(&self, name: &str) -> Option<RevisionView<'_>>;
}

/// Why a target cannot get traffic.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// It does not exist.
    #[error("{kind} {} referenced in traffic not found", go::quote(.name))]
    Missing {
        /// `Configuration` or `Revision`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A configuration has no ready revision.
    #[error("Configuration {} not ready, isFailure={is_failure}", go::quote(.name))]
    UnreadyConfiguration {
        /// Its name.
        name: String,
        /// Whether waiting is no use.
        is_failure: bool,
    },
    /// A revision is not ready.
    #[error("Revision {} not ready, isFailure={is_failure}", go::quote(.name))]
    UnreadyRevision {
        /// Its name.
        name: String,
        /// Whether waiting is no use.
        is_failure: bool,
    },
    /// A revision belongs to another Service.
    #[error("Revision {} {}", go::quote(.name), belongs(.expected, .actual))]
    NotOwned {
        /// Its name.
        name: String,
        /// The Service it should belong to.
        expected: String,
        /// The Service it belongs to; empty if to none.
        actual: String,
    },
}

fn belongs(expected: &str, actual: &str) -> String {
    let (expected, quoted) = (go::quote(expected), go::quote(actual));
    if actual.is_empty() {
        format!("does not belong to Service {expected}")
    } else {
        format!("belongs to Service {quoted}, not Service {expected}")
    }
}

impl TargetError {
    /// Whether waiting is no use.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::NotOwned { .. } => true,
            Self::UnreadyConfiguration { is_failure, .. } | Self::UnreadyRevision { is_failure, .. } => *is_failure,
        }
    }

    /// The reason and the message with which a route's status tells of it.
    pub(crate) fn condition(&self) -> (String, String) {
        let (reason, message) = match self {
            Self::Missing { kind, .. } => return (format!("{kind}Missing"), format!("{self}.")),
            Self::NotOwned { .. } => ("RevisionNotOwned", format!("{self}.")),
            Self::UnreadyConfiguration { name, is_failure } => {
                let what = if *is_failure {
                    "does not have any ready Revision"
                } else {
                    "is waiting for a Revision to become ready"
                };
                ("RevisionMissing", format!("Configuration {} {what}.", go::quote(name)))
            }
            Self::UnreadyRevision { name, is_failure } => {
                let what = if *is_failure { "failed to become ready" } else { "is not yet ready" };
                ("RevisionMissing", format!("Revision {} {what}.", go::quote(name)))
            }
        };
        (reason.to_owned(), message)
    }
}

/// The targets of a route as revisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// In the order of the spec, with both names; the same revision under the same tag merged.
    targets: Vec<TrafficTarget>,
    /// Who serves a tag's host; under the empty tag, the main host. The same revision merged.
    by_tag: BTreeMap<String, Vec<TrafficTarget>>,
}

impl Traffic {
    /// Finds the revisions of all targets.
    ///
    /// `service` is the one the route belongs to, if any: then only its revisions may be named.
    ///
    /// # Errors
    /// The first target that can have no traffic, of those for which waiting is no use the last: not even the others
    /// get traffic then.
    pub fn resolve(spec: &[TrafficTarget], service: Option<&str>, lookup: &impl Lookup) -> Result<Self, TargetError> {
        let mut traffic = Self::default();
        let mut error: Option<TargetError> = None;
        for target in spec {
            match resolve_target(target, service, lookup) {
                Ok(target) => traffic.add(target),
                Err(found) if error.is_none() || found.is_failure() => error = Some(found),
                Err(_) => {}
            }
        }
        match error {
            Some(error) => Err(error),
            None => Ok(traffic),
        }
    }

    fn add(&mut self, target: TrafficTarget) {
        merge(&mut self.targets, target.clone(), |a, b| {
            a.tag == b.tag && a.revision_name == b.revision_name && a.latest_revision == b.latest_revision
        });
        let mut under = |tag: &str, target: TrafficTarget| {
            merge(self.by_tag.entry(tag.to_owned()).or_default(), target, |a, b| a.revision_name == b.revision_name);
        };
        if !target.tag.is_empty() {
            under(&target.tag, target.clone());
        }
        under("", target);
    }

    /// Tags with the targets that serve their hosts, the main host first under the empty tag; if only one revision
    /// serves a host, it gets everything.
    pub fn by_tag(&self) -> impl Iterator<Item = (&str, Vec<TrafficTarget>)> {
        self.by_tag.iter().map(|(tag, targets)| {
            let mut targets = targets.clone();
            if let [only] = &mut targets[..] {
                only.percent = Some(100);
            }
            (tag.as_str(), targets)
        })
    }

    /// Where rollouts lead: to the latest revision with all of its configuration's traffic.
    pub fn rollout(&self) -> Rollout {
        let of_tag = |(tag, targets): (&str, Vec<TrafficTarget>)| {
            let tag = tag.to_owned();
            targets.into_iter().filter(|target| target.is_latest() && target.percent() != 0).map(move |target| {
                ConfigurationRollout {
                    percent: target.percent(),
                    revisions: vec![RevisionShare { percent: target.percent(), revision_name: target.revision_name }],
                    configuration_name: target.configuration_name,
                    tag: tag.clone(),
                    ..ConfigurationRollout::default()
                }
            })
        };
        Rollout::new(self.by_tag().flat_map(of_tag).collect())
    }

    /// The targets as a status tells them: those in a rollout with all their revisions, those with a tag with the
    /// address of its host.
    ///
    /// # Errors
    /// A host that cannot be called as the cluster wants it.
    pub fn status(
        &self,
        rollout: &Rollout,
        route: &ObjectMeta,
        config: &Config,
    ) -> Result<Vec<TrafficTarget>, ConfigError> {
        let hosts = Hosts::new(route, config);
        let mut status = Vec::new();
        for target in &self.targets {
            let url = if target.tag.is_empty() { String::new() } else { hosts.url(&target.tag)? };
            let shares = shares(target, &target.tag, rollout);
            status.extend(shares.into_iter().map(|(revision_name, percent)| TrafficTarget {
                revision_name,
                percent: Some(percent),
                configuration_name: String::new(),
                url: url.clone(),
                ..target.clone()
            }));
        }
        Ok(status)
    }
}

/// The revisions among which a target's traffic under a tag is spread.
pub(crate) fn shares(target: &TrafficTarget, tag: &str, rollout: &Rollout) -> Vec<(String, i64)> {
    let rollout = rollout.find(tag, &target.configuration_name).filter(|_| target.is_latest());
    match rollout {
        Some(rollout) if rollout.revisions.len() > 1 => {
            rollout.revisions.iter().map(|share| (share.revision_name.clone(), share.percent)).collect()
        }
        _ => vec![(target.revision_name.clone(), target.percent())],
    }
}

fn merge(
    targets: &mut Vec<TrafficTarget>,
    target: TrafficTarget,
    is_same: impl Fn(&TrafficTarget, &TrafficTarget) -> bool,
) {
    match targets.iter_mut().find(|known| is_same(known, &target)) {
        Some(known) => known.percent = Some(known.percent() + target.percent()),
        None => targets.push(target),
    }
}

fn resolve_target(
    target: &TrafficTarget,
    service: Option<&str>,
    lookup: &impl Lookup,
) -> Result<TrafficTarget, TargetError> {
    let missing = |kind, name: &str| TargetError::Missing { kind, name: name.to_owned() };
    let find = |name: &str| lookup.revision(name).ok_or_else(|| missing("Revision", name));
    let check_ready = |name: &str, readiness: &Readiness| {
        let unready = || TargetError::UnreadyRevision { name: name.to_owned(), is_failure: readiness.is_failed() };
        if readiness.is_ready() { Ok(()) } else { Err(unready()) }
    };
    let configuration = |name: &str| lookup.configuration(name).ok_or_else(|| missing("Configuration", name));

    let mut resolved = target.clone();
    if target.revision_name.is_empty() {
        let name = &target.configuration_name;
        let ConfigurationView { latest_ready, is_failed } = configuration(name)?;
        let Some(latest) = latest_ready else {
            return Err(TargetError::UnreadyConfiguration { name: name.clone(), is_failure: is_failed });
        };
        check_ready(latest, find(latest)?.readiness)?;
        resolved.revision_name = latest.to_owned();
    } else {
        let name = &target.revision_name;
        let revision = find(name)?;
        if let Some(service) = service.filter(|service| *service != revision.service) {
            return Err(TargetError::NotOwned {
                name: name.clone(),
                expected: service.to_owned(),
                actual: revision.service.into_owned(),
            });
        }
        check_ready(name, revision.readiness)?;
        if !revision.configuration.is_empty() {
            configuration(revision.configuration)?;
            resolved.configuration_name = revision.configuration.to_owned();
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// Configuration `hello` with `ready`, `starting` and `broken`; `orphan` belongs to nobody.
    struct Namespace {
        latest_ready: Option<&'static str>,
        broken: Readiness,
    }

    impl Namespace {
        fn new(latest_ready: Option<&'static str>) -> Self {
            Self { latest_ready, broken: Readiness::Failed { message: "it broke".to_owned() } }
        }
    }

    impl Lookup for Namespace {
        fn configuration(&self, name: &str) -> Option<ConfigurationView<'_>> {
            (name == "hello").then_some(ConfigurationView { latest_ready: self.latest_ready, is_failed: false })
        }

        fn revision(&self, name: &str) -> Option<RevisionView<'_>> {
            let readiness = match name {
                "ready" | "orphan" | "second" => &Readiness::Ready,
                "starting" => &Readiness::Unknown,
                "broken" => &self.broken,
                _ => return None,
            };
            let owner = if name == "orphan" { "" } else { "hello" };
            Some(RevisionView { service: owner.into(), configuration: owner, readiness })
        }
    }

    fn latest(percent: i64) -> TrafficTarget {
        TrafficTarget { configuration_name: "hello".to_owned(), ..TrafficTarget::latest(percent) }
    }

    #[track_caller]
    fn check_refused(spec: &[TrafficTarget], latest_ready: Option<&'static str>, error: &str, is_failure: bool) {
        let found = Traffic::resolve(spec, Some("hello"), &Namespace::new(latest_ready)).unwrap_err();
        assert_eq!((found.to_string().as_str(), found.is_failure()), (error, is_failure));
    }

    #[test]
    fn a_target_must_be_there_ready_and_the_services_own() {
        let pinned = |name: &str| [TrafficTarget::pinned(name, 100)];
        check_refused(&pinned("none"), None, "Revision \"none\" referenced in traffic not found", true);
        check_refused(&pinned("starting"), None, "Revision \"starting\" not ready, isFailure=false", false);
        check_refused(&pinned("broken"), None, "Revision \"broken\" not ready, isFailure=true", true);
        check_refused(&pinned("orphan"), None, "Revision \"orphan\" does not belong to Service \"hello\"", true);
        check_refused(&[latest(100)], None, "Configuration \"hello\" not ready, isFailure=false", false);
        check_refused(&[latest(100)], Some("broken"), "Revision \"broken\" not ready, isFailure=true", true);
        let other = TrafficTarget { configuration_name: "other".to_owned(), ..TrafficTarget::latest(100) };
        check_refused(&[other], None, "Configuration \"other\" referenced in traffic not found", true);
        assert!(Traffic::resolve(&pinned("orphan"), None, &Namespace::new(None)).is_ok(), "a route without a service");
    }

    #[test]
    fn a_failure_is_told_before_a_wait() {
        let pinned = |name: &str| TrafficTarget::pinned(name, 50);
        check_refused(
            &[pinned("starting"), pinned("none")],
            None,
            "Revision \"none\" referenced in traffic not found",
            true,
        );
        check_refused(
            &[pinned("broken"), pinned("starting")],
            None,
            "Revision \"broken\" not ready, isFailure=true",
            true,
        );
    }

    #[test]
    fn targets_of_one_revision_are_merged_as_far_as_they_are_alike() {
        let spec = [
            TrafficTarget::pinned("ready", 20),
            latest(30),
            TrafficTarget::pinned("ready", 10),
            TrafficTarget::pinned("second", 40).tagged("b"),
        ];
        let traffic = Traffic::resolve(&spec, Some("hello"), &Namespace::new(Some("ready"))).unwrap();
        let parts = |targets: &[TrafficTarget]| -> Vec<(String, i64)> {
            targets.iter().map(|target| (target.revision_name.clone(), target.percent())).collect()
        };
        let by_tag: Vec<_> = traffic.by_tag().map(|(tag, targets)| (tag, parts(&targets))).collect();
        let named = |name: &str, percent| (name.to_owned(), percent);
        assert_eq!(by_tag, [("", vec![named("ready", 60), named("second", 40)]), ("b", vec![named("second", 100)])]);
        let status = traffic.status(&traffic.rollout(), &ObjectMeta::named("ns", "hello"), &Config::default()).unwrap();
        assert_eq!(parts(&status), [named("ready", 30), named("ready", 30), named("second", 40)]);
    }
}
