//! The scale of one pass: a recommendation within its bounds, and the careful way to zero.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ActiveState, Mode, Network, Observed};
use crate::decider::UNKNOWN_SCALE;
use crate::resolve::Reachability;

/// Long enough for a pass to be over.
const AFTER_DEACTIVATION: Duration = Duration::from_secs(3);

/// What a revision's scale depends on, apart from its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleSpec {
    /// Whether a route leads to the revision.
    pub reachability: Reachability,
    /// Whether an idle revision goes to zero; otherwise to one.
    pub enable_scale_to_zero: bool,
    /// Fewest instances; 0 if unreachable.
    pub min_scale: i32,
    /// Most instances; 0 is unlimited, and the minimum wins.
    pub max_scale: i32,
    /// Instances it starts with, and must reach once to be ready.
    pub initial_scale: i32,
    /// How long it must have been active before it is called inactive.
    pub stable_window: Duration,
    /// How long requests must have gone through the activator before the last instance goes.
    pub grace_period: Duration,
    /// How long the last instance stays at least; zero if unreachable.
    pub retention_period: Duration,
    /// How long it may be activating before it is given up.
    pub activation_timeout: Duration,
    /// Whether the activator never leaves the path, so that none has to look for it.
    pub activator_always_in_path: bool,
}

/// What the scale of a pass comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The revision has no network yet.
    NoNetwork,
    /// There is no data yet; everything stays as it is.
    NoData,
    /// The decider's recommendation.
    Desired,
    /// Raised to the minimum.
    MinScale,
    /// Raised to the initial scale, which was never reached yet.
    InitialScale,
    /// Cut to the maximum.
    MaxScale,
    /// One is left, for the cluster does not allow zero.
    ZeroDisabled,
    /// Still activating within its time.
    Activating,
    /// Activation took too long: zero.
    ActivationTimedOut,
    /// Idle, but active for less than a stable window: one.
    RecentlyActive,
    /// Idle for a stable window: not active any more, the last instance stays for now.
    Deactivated,
    /// The activator is not in the path yet.
    AwaitingActivator,
    /// The last instance stays for the retention period.
    Retained,
    /// The last instance stays for the grace period.
    GracePeriod,
    /// Idle long enough: zero.
    Idle,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNetwork => "the revision has no network yet",
            Self::NoData => "no metrics yet, the scale is kept",
            Self::Desired => "as the decider wants",
            Self::MinScale => "raised to the minimum scale",
            Self::InitialScale => "raised to the initial scale",
            Self::MaxScale => "cut to the maximum scale",
            Self::ZeroDisabled => "scale to zero is disabled",
            Self::Activating => "still activating",
            Self::ActivationTimedOut => "the activation timed out",
            Self::RecentlyActive => "idle, but active for less than the stable window",
            Self::Deactivated => "idle for the stable window, deactivated",
            Self::AwaitingActivator => "waiting for the activator to be in the path",
            Self::Retained => "the last instance is retained",
            Self::GracePeriod => "the last instance stays for the grace period",
            Self::Idle => "idle",
        })
    }
}

/// The scale of one pass.
pub(super) struct Step {
    pub(super) want: i32,
    pub(super) apply: bool,
    pub(super) requeue: Option<Duration>,
    pub(super) why: Why,
}

impl Step {
    fn apply(want: i32, why: Why) -> Self {
        Self { want, apply: true, requeue: None, why }
    }

    fn hold(want: i32, why: Why) -> Self {
        Self { want, apply: false, requeue: None, why }
    }

    fn requeue(self, after: Duration) -> Self {
        Self { requeue: Some(after), ..self }
    }
}

pub(super) fn scale(spec: &ScaleSpec, network: &Network, observed: &Observed) -> Step {
    let desired = observed.decider.desired;
    if desired < 0 && observed.status.state != ActiveState::Activating {
        return Step::hold(desired, Why::NoData);
    }
    match bounded(spec, observed) {
        (0, _) => to_zero(spec, network, observed),
        (scale, why) => Step::apply(scale, why),
    }
}

fn bounded(spec: &ScaleSpec, observed: &Observed) -> (i32, Why) {
    let desired = observed.decider.desired;
    let starting = spec.initial_scale > 1
        && !observed.status.initialized
        && spec.reachability != Reachability::Unreachable
        && spec.initial_scale > spec.min_scale;
    let (min, why_min) =
        if starting { (spec.initial_scale, Why::InitialScale) } else { (spec.min_scale, Why::MinScale) };
    if desired < min {
        (min, why_min)
    } else if spec.max_scale != 0 && desired > spec.max_scale {
        (spec.max_scale, Why::MaxScale)
    } else {
        (desired, Why::Desired)
    }
}

/// The last instance goes when the revision was active for a stable window, is inactive, and requests have been going
/// through the activator for the grace period; or if it never got active.
fn to_zero(spec: &ScaleSpec, network: &Network, observed: &Observed) -> Step {
    if !spec.enable_scale_to_zero {
        return Step::apply(1, Why::ZeroDisabled);
    }
    let age = observed.now.since(observed.status.since);
    match observed.status.state {
        ActiveState::Activating if age > spec.activation_timeout => Step::apply(0, Why::ActivationTimedOut),
        ActiveState::Activating => Step::hold(UNKNOWN_SCALE, Why::Activating).requeue(spec.activation_timeout),
        ActiveState::Active if age < spec.stable_window => {
            Step::apply(1, Why::RecentlyActive).requeue(spec.stable_window - age)
        }
        ActiveState::Active => {
            let step = Step::hold(0, Why::Deactivated);
            // In this mode nothing else may change that would call for the next pass.
            if network.mode == Mode::Proxy { step.requeue(AFTER_DEACTIVATION) } else { step }
        }
        ActiveState::Inactive => last_instance(spec, network, age),
    }
}

fn last_instance(spec: &ScaleSpec, network: &Network, age: Duration) -> Step {
    if !spec.activator_always_in_path && !network.activator_in_path {
        return Step::hold(0, Why::AwaitingActivator);
    }
    if age >= spec.grace_period.max(spec.retention_period) {
        return Step::apply(0, Why::Idle);
    }
    if age < spec.retention_period {
        return Step::hold(0, Why::Retained).requeue(spec.retention_period - age);
    }
    match spec.grace_period.saturating_sub(network.proxy_for) {
        Duration::ZERO => Step::apply(0, Why::Idle),
        left => Step::hold(0, Why::GracePeriod).requeue(left),
    }
}
