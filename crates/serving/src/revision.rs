//! Revisions: what a Service's template was at some time, unchangeable, and what has become of it.

use autoscaler::resolve::{Reachability, Settings};
use autoscaler::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::resource::{ObjectMeta, RevisionSpec};

/// Whether a revision can take requests. One that has scaled to zero still can.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Readiness {
    /// Not known yet: its first instances are starting.
    #[default]
    Unknown,
    /// It has had its initial scale.
    Ready,
    /// It will not come up.
    Failed {
        /// Why, in a sentence.
        message: String,
    },
}

impl Readiness {
    /// Whether it can take requests.
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }

    /// Whether it will not come up.
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// Whether traffic can get to a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoutingState {
    /// Not decided yet; counts as reachable.
    Pending,
    /// A route names it, or it is the next latest one: reachable.
    Active,
    /// No route names it: unreachable, and some day collected.
    Reserve,
}

/// A revision of a Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Its name.
    pub name: String,
    /// The generation of the configuration that made it.
    pub generation: i64,
    /// Labels and annotations of the template.
    pub metadata: ObjectMeta,
    /// What runs, with all defaults.
    pub spec: RevisionSpec,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it can take requests.
    pub readiness: Readiness,
    /// Whether traffic can get to it.
    pub routing_state: RoutingState,
    /// Since when it has that state.
    pub routing_state_modified: Timestamp,
}

impl Revision {
    /// Whether traffic can get to it, as scaling wants to know it.
    pub fn reachability(&self) -> Reachability {
        match self.routing_state {
            RoutingState::Pending => Reachability::Unknown,
            RoutingState::Active => Reachability::Reachable,
            RoutingState::Reserve => Reachability::Unreachable,
        }
    }

    /// What its scaling depends on, apart from the traffic.
    pub fn scaling(&self, config: &Config) -> Settings {
        Settings::resolve(
            &self.metadata.annotations,
            &config.autoscaler,
            self.spec.concurrency_limit(),
            config.deployment.progress_deadline,
            self.reachability(),
        )
    }

    /// Changes whether traffic can get to it; answers whether that is new.
    pub(crate) fn set_routing_state(&mut self, state: RoutingState, now: Timestamp) -> bool {
        let is_new = self.routing_state != state;
        if is_new {
            self.routing_state = state;
            self.routing_state_modified = now;
        }
        is_new
    }

    /// A revision with nothing in it.
    #[cfg(test)]
    pub(crate) fn for_test(name: &str, created: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            generation: 1,
            metadata: ObjectMeta::default(),
            spec: RevisionSpec::default(),
            created,
            readiness: Readiness::Ready,
            routing_state: RoutingState::Pending,
            routing_state_modified: created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_knows_whether_traffic_can_get_there() {
        let mut revision = Revision::for_test("hello-00001", Timestamp::from_unix_millis(0));
        revision.metadata.annotations.insert("autoscaling.knative.dev/min-scale".to_owned(), "3".to_owned());
        let config = Config::default();
        for (state, reachability, min_scale) in [
            (RoutingState::Pending, Reachability::Unknown, 3),
            (RoutingState::Active, Reachability::Reachable, 3),
            (RoutingState::Reserve, Reachability::Unreachable, 0),
        ] {
            revision.routing_state = state;
            let scale = revision.scaling(&config).scale;
            assert_eq!((scale.reachability, scale.min_scale), (reachability, min_scale));
        }
    }
}
