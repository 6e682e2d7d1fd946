//! Revisions: what a Service's template was at some time, unchangeable, and what has become of it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

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
    pub created: SystemTime,
    /// Whether it can take requests.
    pub readiness: Readiness,
    /// Whether traffic can get to it.
    pub routing_state: RoutingState,
    /// Since when it has that state.
    pub routing_state_modified: SystemTime,
}

impl Revision {
    /// Changes whether traffic can get to it; answers whether that is new.
    pub(crate) fn set_routing_state(&mut self, state: RoutingState, now: SystemTime) -> bool {
        let is_new = self.routing_state != state;
        if is_new {
            self.routing_state = state;
            self.routing_state_modified = now;
        }
        is_new
    }

    /// A revision with nothing in it.
    #[cfg(test)]
    pub(crate) fn for_test(name: &str, created: SystemTime) -> Self {
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
