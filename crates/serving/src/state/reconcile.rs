//! The three steps: a revision for the template, revisions for the traffic, and who can be reached.

use std::collections::BTreeSet;

use autoscaler::annotations::ROLLOUT_DURATION;
use autoscaler::go::{self, NANOS_PER_SECOND};
use autoscaler::time::Timestamp;

use super::{Changes, Context, ServiceState};
use crate::name::revision_name;
use crate::resource::TrafficTarget;
use crate::revision::{Readiness, Revision, RoutingState};
use crate::routing::Routing;
use crate::status::{ConditionStatus, Verdict};
use crate::traffic::{ConfigurationView, Lookup, RevisionView, TargetError, Traffic};

/// What is wrong if somebody else's revision, or an older one, has the name that the author brings.
pub(super) fn name_taken(name: &str) -> String {
    let name = go::quote(name);
    format!("The revision name {name} is taken by a conflicting Revision, so traffic will not be migrated")
}

/// The revision that the present template stands for.
enum Latest {
    /// It is there.
    Found(String),
    /// It is to be made, with this name.
    Wanted(String),
    /// It cannot be, for another one has this name.
    Taken(String),
}

impl ServiceState {
    fn latest(&self, context: &Context<'_>) -> Latest {
        let configuration = &self.configuration;
        let brought = &configuration.template.metadata.name;
        let name = if brought.is_empty() {
            let mut revisions = self.revisions.values();
            if let Some(found) = revisions.find(|revision| revision.generation == configuration.generation) {
                return Latest::Found(found.name.clone());
            }
            revision_name(&self.service.metadata.name, configuration.generation)
        } else {
            brought.clone()
        };
        match self.revisions.get(&name) {
            // Labels and annotations do not matter: an author may go back to a name with the very spec it had.
            Some(found) if !brought.is_empty() && found.spec == configuration.template.spec => Latest::Found(name),
            Some(_) => Latest::Taken(name),
            None if (context.owner_of)(&name).is_some() => Latest::Taken(name),
            None => Latest::Wanted(name),
        }
    }

    /// Makes the revision of the template if it is not there yet, and finds the latest one that is ready.
    ///
    /// Answers also whether the name that the author brings is taken.
    pub(super) fn reconcile_configuration(&mut self, context: &Context<'_>, changes: &mut Changes) -> (Verdict, bool) {
        let latest = match self.latest(context) {
            Latest::Found(name) => name,
            Latest::Wanted(name) => {
                self.create_revision(name.clone(), context.now);
                changes.created.push(name.clone());
                name
            }
            Latest::Taken(name) => {
                let exists = format!("revisions.serving.knative.dev {} already exists", go::quote(&name));
                let message = format!("Revision creation failed with message: {exists}.");
                let is_brought = !self.configuration.template.metadata.name.is_empty();
                return (Verdict::failed("RevisionFailed", message), is_brought);
            }
        };
        self.configuration.latest_created = Some(latest.clone());
        if let Some(ready) = self.find_latest_ready(&latest) {
            self.configuration.latest_ready = Some(ready);
        }
        (self.configuration_verdict(&latest), false)
    }

    fn configuration_verdict(&self, latest: &str) -> Verdict {
        match self.revisions.get(latest).map(|revision| &revision.readiness) {
            Some(Readiness::Failed { message }) => {
                let latest = go::quote(latest);
                Verdict::failed("RevisionFailed", format!("Revision {latest} failed with message: {message}."))
            }
            _ if self.configuration.latest_ready.as_deref() == Some(latest) => Verdict::TRUE,
            _ => Verdict::unknown("", ""),
        }
    }

    fn create_revision(&mut self, name: String, now: Timestamp) {
        let template = self.configuration.template.clone();
        let revision = Revision {
            name: name.clone(),
            generation: self.configuration.generation,
            metadata: template.metadata,
            spec: template.spec,
            created: now,
            readiness: Readiness::Unknown,
            // The revisions of a Service have a route from the beginning.
            routing_state: RoutingState::Active,
            routing_state_modified: now,
        };
        self.revisions.insert(name, Box::new(revision));
    }

    /// The newest ready revision, not older than the present one; the one whose name the author brings goes first.
    fn find_latest_ready(&self, latest_created: &str) -> Option<String> {
        let present = self.configuration.latest_ready.as_ref().and_then(|name| self.revisions.get(name));
        let oldest = present.map_or(0, |revision| revision.generation);
        let is_brought = |revision: &Revision| {
            !self.configuration.template.metadata.name.is_empty() && revision.name == latest_created
        };
        self.revisions
            .values()
            .filter(|revision| revision.readiness.is_ready())
            .filter(|revision| revision.generation >= oldest || is_brought(revision))
            .max_by_key(|revision| (is_brought(revision), revision.generation))
            .map(|revision| revision.name.clone())
    }

    /// Finds revisions for the traffic; without them everything stays as it was.
    pub(super) fn reconcile_route(&mut self, context: &Context<'_>, changes: &mut Changes) -> Verdict {
        let name = self.service.metadata.name.clone();
        self.route.spec = self.service.spec.traffic.clone();
        for target in self.route.spec.iter_mut().filter(|target| target.revision_name.is_empty()) {
            target.configuration_name.clone_from(&name);
        }
        let traffic = match Traffic::resolve(&self.route.spec, Some(&name), &self.lookup(context)) {
            Ok(traffic) => traffic,
            Err(error) => return unassigned(&error),
        };

        let goal = traffic.rollout();
        let duration_s = self.rollout_seconds(context);
        let now_ns = context.now.unix_nanos();
        let rollout = if duration_s > 0 {
            let (mut rollout, _) = goal.step(&self.route.rollout, now_ns);
            // Nothing has to be told of a change here before it takes effect.
            rollout.observe_ready(now_ns, duration_s as f64);
            rollout
        } else {
            goal
        };
        let metadata = &self.service.metadata;
        let routing = Routing::new(metadata, &traffic, &rollout, context.config);
        let status = traffic.status(&rollout, metadata, context.config);
        let (routing, status) = match (routing, status) {
            (Ok(routing), Ok(status)) => (routing, status),
            (Err(error), _) | (_, Err(error)) => return Verdict::failed("ErrorConfig", error.to_string()),
        };
        changes.routing = routing != self.route.routing;
        self.route.routing = routing;
        self.route.status = status;
        self.route.is_assigned = true;
        self.route.next_step = rollout.next_step_ns().map(Timestamp::from_unix_nanos);
        self.route.rollout = rollout;
        if self.route.rollout.is_done() {
            Verdict::TRUE
        } else {
            Verdict::unknown("RolloutInProgress", "A gradual rollout of the latest revision(s) is in progress.")
        }
    }

    fn rollout_seconds(&self, context: &Context<'_>) -> i64 {
        let annotated = ROLLOUT_DURATION.value(&self.service.metadata.annotations).map(go::parse_duration);
        match annotated {
            Some(Ok(nanos)) if nanos / NANOS_PER_SECOND != 0 => nanos / NANOS_PER_SECOND,
            _ => context.config.network.rollout_duration_seconds,
        }
    }

    /// Not yet, if the traffic that there is differs from the traffic that is wanted.
    pub(super) fn migrated(&self, route: Verdict) -> Verdict {
        let latest = self.configuration.latest_ready.as_deref().unwrap_or_default();
        let is_same = |(wanted, found): (&TrafficTarget, &TrafficTarget)| {
            let revision = if wanted.revision_name.is_empty() { latest } else { &wanted.revision_name };
            (wanted.tag.as_str(), revision, wanted.percent)
                == (found.tag.as_str(), found.revision_name.as_str(), found.percent)
        };
        let (wanted, found) = (&self.route.spec, &self.route.status);
        let is_migrated = wanted.len() == found.len() && wanted.iter().zip(found).all(is_same);
        if route.status == ConditionStatus::True && !is_migrated {
            return Verdict::unknown("TrafficNotMigrated", "Traffic is not yet migrated to the latest revision.");
        }
        route
    }

    /// Marks the revisions that the route names, and those that are next; the others only once the route is settled.
    pub(super) fn reconcile_routing_states(&mut self, route: &Verdict, now: Timestamp, changes: &mut Changes) {
        let mut named = BTreeSet::new();
        for target in self.route.status.iter().chain(&self.route.spec) {
            named.insert(target.revision_name.clone());
            if target.is_latest() {
                named.extend(self.configuration.latest_created.clone());
            }
        }
        let is_settled = route.status != ConditionStatus::Unknown;
        for revision in self.revisions.values_mut() {
            let state = match named.contains(&revision.name) {
                true => RoutingState::Active,
                false if is_settled => RoutingState::Reserve,
                false => revision.routing_state,
            };
            if revision.set_routing_state(state, now) {
                changes.routing_states.push((revision.name.clone(), state));
            }
        }
    }

    fn lookup<'a>(&'a self, context: &'a Context<'a>) -> Namespace<'a> {
        Namespace { state: self, context }
    }
}

fn unassigned(error: &TargetError) -> Verdict {
    let (reason, message) = error.condition();
    if error.is_failure() { Verdict::failed(reason, message) } else { Verdict::unknown(reason, message) }
}

/// The namespace as one Service sees it.
struct Namespace<'a> {
    state: &'a ServiceState,
    context: &'a Context<'a>,
}

impl Lookup for Namespace<'_> {
    fn configuration(&self, name: &str) -> Option<ConfigurationView<'_>> {
        let configuration = &self.state.configuration;
        (name == self.state.service.metadata.name).then_some(ConfigurationView {
            latest_ready: configuration.latest_ready.as_deref(),
            is_failed: configuration.is_failed,
        })
    }

    fn revision(&self, name: &str) -> Option<RevisionView<'_>> {
        let own = &self.state.service.metadata.name;
        match self.state.revisions.get(name) {
            Some(revision) => {
                Some(RevisionView { service: own.into(), configuration: own, readiness: &revision.readiness })
            }
            // That it is another's is reason enough to refuse it, ready or not.
            None => (self.context.owner_of)(name).map(|service| RevisionView {
                service: service.into(),
                configuration: "",
                readiness: &Readiness::Unknown,
            }),
        }
    }
}
