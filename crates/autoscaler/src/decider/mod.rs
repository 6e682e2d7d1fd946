//! How many instances a revision should have, by what was measured of it.
//!
//! Bounds, the way to zero and the instances themselves are the business of [`crate::reconcile`].
//!
//! # Source
//! `pkg/autoscaler/scaling` of Knative Serving.

mod decision;
mod max_window;

pub use decision::{Cause, Decision};
pub use max_window::{MaxTimeWindow, MaxWindow};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::go;
use crate::metrics::{Reading, ScalingMetric, Stat};
use crate::time::Timestamp;

/// Decisions come this often, counted from the decider's creation.
pub const TICK: Duration = Duration::from_secs(TICK_SECONDS as u64);
const TICK_SECONDS: u32 = 2;

/// The desired scale while nothing is known.
pub const UNKNOWN_SCALE: i32 = -1;

/// What a revision is scaled by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeciderSpec {
    /// What to look at.
    pub metric: ScalingMetric,
    /// How much of it an instance should have.
    pub target_value: f64,
    /// How much of it an instance can have.
    pub total_value: f64,
    /// Requests that must always find room; -1 keeps the activator in the path for good.
    pub target_burst_capacity: f64,
    /// Requests one activator can hold.
    pub activator_capacity: f64,
    /// How many times more instances one decision may want than are ready.
    pub max_scale_up_rate: f64,
    /// How many times fewer instances one decision may want than are ready.
    pub max_scale_down_rate: f64,
    /// The ratio of wanted to ready instances at which panic starts.
    pub panic_threshold: f64,
    /// How long panic outlasts its last reason.
    pub stable_window: Duration,
    /// How long a lower load must last before it is followed; heeded at creation only.
    pub scale_down_delay: Duration,
    /// Instances the revision starts with.
    pub initial_scale: i32,
    /// Fewest instances while there are any; heeded from 2 on.
    pub activation_scale: i32,
    /// Whether a route may lead to the revision; if not, it may go down without a limit to the rate.
    pub reachable: bool,
}

/// The latest recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeciderStatus {
    /// Instances wanted; [`UNKNOWN_SCALE`] until there is data.
    pub desired: i32,
    /// Requests that would find room beyond the burst capacity; negative if the activator must stay in the path.
    pub excess_burst_capacity: i32,
}

impl DeciderStatus {
    /// Whether a stat of the activator must not wait for the next tick: traffic for a revision that is at zero.
    pub fn is_poked_by(self, stat: &Stat) -> bool {
        self.desired == 0 && stat.concurrency != 0.0
    }

    /// Whether going on to another recommendation calls for a reconciliation: the scale is another, or the activator
    /// comes or goes.
    pub fn notifies(self, next: Self) -> bool {
        self.desired != next.desired || !same_sign(self.excess_burst_capacity, next.excess_burst_capacity)
    }
}

/// Panic: decisions look at the panic window too, and never go down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Panic {
    /// When it had its last reason, while it lasts.
    pub since: Option<Timestamp>,
    /// The most instances wanted while it lasts; before the first one, the instances at creation.
    pub max_instances: i32,
}

/// Decides for one revision.
#[derive(Debug, Clone)]
pub struct Decider {
    spec: DeciderSpec,
    status: DeciderStatus,
    panic: Panic,
    delay: Option<MaxTimeWindow>,
}

impl Decider {
    /// A decider that knows of no traffic yet. More than one ready instance means that history was lost: it then starts
    /// in panic, which keeps them until there is data.
    pub fn new(spec: DeciderSpec, ready: u32, now: Timestamp) -> Self {
        let max_instances = i32::try_from(ready).unwrap_or(i32::MAX);
        Self::with_panic(spec, Panic { since: (ready > 1).then_some(now), max_instances })
    }

    /// A decider that knows of no traffic yet, with panic as it is.
    pub fn with_panic(spec: DeciderSpec, panic: Panic) -> Self {
        let burst = spec.target_burst_capacity;
        let excess = if burst == -1.0 || burst == 0.0 {
            burst
        } else {
            f64::from(spec.initial_scale) * spec.total_value - burst
        };
        Self {
            spec,
            status: DeciderStatus { desired: UNKNOWN_SCALE, excess_burst_capacity: go::truncate_to_i32(excess) },
            panic,
            delay: (!spec.scale_down_delay.is_zero()).then(|| MaxTimeWindow::new(spec.scale_down_delay, TICK_SECONDS)),
        }
    }

    /// What it decides by.
    pub fn spec(&self) -> &DeciderSpec {
        &self.spec
    }

    /// What the next decisions are made by. A changed scale-down delay has no effect.
    pub fn set_spec(&mut self, spec: DeciderSpec) {
        self.spec = spec;
    }

    /// Its latest recommendation.
    pub fn status(&self) -> DeciderStatus {
        self.status
    }

    /// Its panic.
    pub fn panic(&self) -> Panic {
        self.panic
    }

    /// Decides, and remembers the decision.
    pub fn decide(&mut self, now: Timestamp, ready: u32, reading: Reading) -> Decision {
        let spec = self.spec;
        let countable = f64::from(ready.max(1));
        let up = (spec.max_scale_up_rate * countable).ceil();
        let down = if spec.reachable { (countable / spec.max_scale_down_rate).floor() } else { 0.0 };
        let wanted_stable = (reading.stable / spec.target_value).ceil();
        let wanted_panic = (reading.panic / spec.target_value).ceil();
        let (stable, stable_cause) = limit(wanted_stable, down, up, spec.activation_scale);
        let (panic, panic_cause) = limit(wanted_panic, down, up, spec.activation_scale);

        if wanted_panic / countable >= spec.panic_threshold {
            self.panic.since = Some(now);
        } else if self.panic.since.is_some_and(|since| since + spec.stable_window < now) {
            self.panic = Panic::default();
        }

        let (mut desired, mut cause) = (stable, stable_cause);
        if self.panic.since.is_some() {
            if panic > desired {
                (desired, cause) = (panic, if panic_cause == Cause::Load { Cause::PanicLoad } else { panic_cause });
            }
            if desired < self.panic.max_instances {
                cause = Cause::PanicHold;
            }
            self.panic.max_instances = self.panic.max_instances.max(desired);
            desired = self.panic.max_instances;
        }
        if spec.reachable
            && let Some(delay) = &mut self.delay
        {
            let delayed = delay.record(now, desired);
            if delayed != desired {
                (desired, cause) = (delayed, Cause::ScaleDownDelay);
            }
        }

        let status =
            DeciderStatus { desired, excess_burst_capacity: excess_burst_capacity(&spec, ready, reading.panic) };
        let notify = self.status.notifies(status);
        self.status = status;
        Decision {
            at: now,
            desired,
            excess_burst_capacity: status.excess_burst_capacity,
            cause,
            notify,
            ready,
            stable: reading.stable,
            panic: reading.panic,
            wanted_stable: go::truncate_to_i32(wanted_stable),
            wanted_panic: go::truncate_to_i32(wanted_panic),
            panicking: self.panic.since.is_some(),
            max_panic_instances: self.panic.max_instances,
        }
    }
}

/// Keeps what the load wants within what one decision may change.
fn limit(wanted: f64, down: f64, up: f64, activation_scale: i32) -> (i32, Cause) {
    let limited = go::truncate_to_i32(go::min(go::max(wanted, down), up));
    if activation_scale > 1 && wanted > 0.0 && activation_scale > limited {
        return (activation_scale, Cause::ActivationScale);
    }
    let cause = if wanted > up {
        Cause::ScaleUpLimit
    } else if wanted < down {
        Cause::ScaleDownLimit
    } else {
        Cause::Load
    };
    (limited, cause)
}

/// By the panic value, for the activator must not come and go with every change of the load.
fn excess_burst_capacity(spec: &DeciderSpec, ready: u32, panic: f64) -> i32 {
    let burst = spec.target_burst_capacity;
    let excess = if burst == 0.0 {
        0.0
    } else if burst > 0.0 {
        (f64::from(ready) * spec.total_value - burst - panic).floor()
    } else {
        -1.0
    };
    go::truncate_to_i32(excess)
}

/// Whether two numbers are both negative or both not.
pub fn same_sign(a: i32, b: i32) -> bool {
    (a < 0) == (b < 0)
}

#[cfg(test)]
mod tests;
