//! From a decider's recommendation to a revision's scale: bounds, the way to zero, the activator's place, the status.
//!
//! One pass is a pure function. What calls for a pass, and remembering its outcome, is the work of
//! [`crate::revision`]; programming a network or probing it is nobody's here.
//!
//! # Source
//! `pkg/reconciler/autoscaling/kpa` of Knative Serving.

mod scale;
mod status;

pub use scale::{ScaleSpec, Why};
pub use status::{ActiveState, Reason, Status};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decider::{DeciderSpec, DeciderStatus, UNKNOWN_SCALE};
use crate::go;
use crate::time::Timestamp;

/// Where requests of a revision go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Through the activator.
    Proxy,
    /// Straight to the instances.
    Serve,
}

/// What the network looks like at the time of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Where requests go.
    pub mode: Mode,
    /// How long they have been going through the activator; zero if they do not.
    pub proxy_for: Duration,
    /// Whether a probe found the activator in the path; asked only before the last instance goes.
    pub activator_in_path: bool,
}

/// What a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// The time of the pass.
    pub now: Timestamp,
    /// The decider's latest recommendation.
    pub decider: DeciderStatus,
    /// Instances that are meant to be there.
    pub replicas: i32,
    /// Instances that are ready.
    pub ready: u32,
    /// None until the revision has a network, before which there is nothing to scale.
    pub network: Option<Network>,
    /// The status that the pass before left.
    pub status: Status,
}

/// What a pass comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Instances wanted; [`UNKNOWN_SCALE`] if that cannot be told.
    pub want: i32,
    /// Instances to have from now on, if others than before.
    pub scale: Option<i32>,
    /// What `want` and `scale` come from.
    pub why: Why,
    /// When to look again at the latest.
    pub requeue: Option<Duration>,
    /// Whether to go on probing for the activator, and to look again when it is found.
    pub async_probe: bool,
    /// Where requests are to go.
    pub mode: Mode,
    /// Activators to have in the path; means nothing where there is one.
    pub num_activators: i32,
    /// The status from now on.
    pub status: Status,
}

/// Fewest activators in a path.
const MIN_ACTIVATORS: i32 = 2;

/// One pass.
pub fn reconcile(spec: &ScaleSpec, decider: &DeciderSpec, observed: &Observed) -> Outcome {
    let Observed { now, ready, mut status, .. } = *observed;
    let Some(network) = observed.network else {
        status.observe(spec, UNKNOWN_SCALE, 0, now);
        return Outcome {
            want: UNKNOWN_SCALE,
            scale: None,
            why: Why::NoNetwork,
            requeue: None,
            async_probe: false,
            mode: Mode::Proxy,
            num_activators: MIN_ACTIVATORS,
            status,
        };
    };
    let step = scale::scale(spec, &network, observed);
    let serve = step.want > 0 && observed.decider.excess_burst_capacity >= 0;
    status.service_exists = true;
    status.observe(spec, step.want, ready, now);
    Outcome {
        want: step.want,
        scale: step.apply.then_some(step.want).filter(|want| *want != observed.replicas),
        why: step.why,
        requeue: step.requeue,
        async_probe: step.why == Why::AwaitingActivator,
        mode: if serve { Mode::Serve } else { Mode::Proxy },
        num_activators: num_activators(decider, ready),
        status,
    }
}

/// So many activators that they can hold what the instances can, and the burst.
pub fn num_activators(spec: &DeciderSpec, ready: u32) -> i32 {
    if spec.target_burst_capacity == 0.0 {
        return MIN_ACTIVATORS;
    }
    let to_cover = f64::from(ready) * spec.total_value + go::max(spec.target_burst_capacity, 0.0);
    go::truncate_to_i32(go::max(MIN_ACTIVATORS.into(), (to_cover / spec.activator_capacity).ceil()))
}

#[cfg(test)]
mod tests;
