//! Whether a revision is active, and since when.

use serde::{Deserialize, Serialize};

use super::ScaleSpec;
use crate::decider::UNKNOWN_SCALE;
use crate::time::Timestamp;

/// Whether a revision's instances serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveState {
    /// They are on their way; Knative's `Unknown`.
    Activating,
    /// They do.
    Active,
    /// There is no traffic for them.
    Inactive,
}

/// Why a revision is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Active needs no reason, and a fresh status has none.
    #[serde(rename = "")]
    None,
    /// Requests are held while instances start.
    Queued,
    /// There are no requests.
    NoTraffic,
    /// Instances did not become ready in time.
    TimedOut,
}

impl Reason {
    /// What a human is told.
    pub fn message(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Queued => "Requests to the target are being buffered as resources are provisioned.",
            Self::NoTraffic => "The target is not receiving traffic.",
            Self::TimedOut => "The target could not be activated.",
        }
    }
}

/// The status of a revision's autoscaling; survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether it is active.
    pub state: ActiveState,
    /// Why.
    pub reason: Reason,
    /// Since when both are as they are.
    pub since: Timestamp,
    /// Whether it ever had as many ready instances as it starts with; once true, always.
    pub initialized: bool,
    /// Whether it has an address.
    pub service_exists: bool,
    /// Instances wanted, once a pass has told.
    pub desired: Option<i32>,
    /// Instances ready, once a pass has told.
    pub actual: Option<u32>,
}

impl Status {
    /// The status of a revision that no pass has looked at.
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: ActiveState::Activating,
            reason: Reason::None,
            since: now,
            initialized: false,
            service_exists: false,
            desired: None,
            actual: None,
        }
    }

    /// Whether the revision may get traffic: it started once, and going to zero does not take that back.
    pub fn is_ready(&self) -> bool {
        self.initialized
    }

    /// Takes in what a pass wants and what is ready.
    pub fn observe(&mut self, spec: &ScaleSpec, want: i32, ready: u32, now: Timestamp) {
        self.actual = Some(ready);
        // After a restart nothing is known for a while; what was wanted before still is.
        if want != UNKNOWN_SCALE || self.desired.is_none_or(|desired| desired < 0) {
            self.desired = Some(want);
        }

        let least = if self.initialized { 1 } else { spec.initial_scale }.max(spec.min_scale);
        let enough = i64::from(ready) >= i64::from(least);
        if enough && self.service_exists {
            self.initialized = true;
        }
        if want == 0 || least == 0 {
            let timed_out = self.state == ActiveState::Activating && least > 0;
            self.mark(ActiveState::Inactive, if timed_out { Reason::TimedOut } else { Reason::NoTraffic }, now);
        } else if want <= 0 && self.state == ActiveState::Inactive {
            if !enough {
                self.mark(ActiveState::Inactive, Reason::NoTraffic, now);
            }
        } else if enough {
            self.mark(ActiveState::Active, Reason::None, now);
        } else {
            self.mark(ActiveState::Activating, Reason::Queued, now);
        }
    }

    fn mark(&mut self, state: ActiveState, reason: Reason, now: Timestamp) {
        if (self.state, self.reason) != (state, reason) {
            (self.state, self.reason, self.since) = (state, reason, now);
        }
    }
}
