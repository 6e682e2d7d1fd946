//! A decision with what led to it, for whoever asks why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What determined the number of instances in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The load over the stable window.
    Load,
    /// The load over the panic window.
    PanicLoad,
    /// Panic, which never goes down.
    PanicHold,
    /// The load wants more than one decision may add.
    ScaleUpLimit,
    /// The load wants less than one decision may leave.
    ScaleDownLimit,
    /// Fewest instances while there are any.
    ActivationScale,
    /// More instances were wanted not long enough ago.
    ScaleDownDelay,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "the load of the stable window",
            Self::PanicLoad => "the load of the panic window",
            Self::PanicHold => "panic never scales down",
            Self::ScaleUpLimit => "limited by the scale-up rate",
            Self::ScaleDownLimit => "limited by the scale-down rate",
            Self::ActivationScale => "raised to the activation scale",
            Self::ScaleDownDelay => "scale-down is delayed",
        })
    }
}

/// One decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When it was made.
    pub at: Timestamp,
    /// Instances wanted.
    pub desired: i32,
    /// Requests that would find room beyond the burst capacity.
    pub excess_burst_capacity: i32,
    /// What determined `desired`.
    pub cause: Cause,
    /// Whether it calls for a reconciliation.
    pub notify: bool,
    /// Ready instances.
    pub ready: u32,
    /// The average of the stable window.
    pub stable: f64,
    /// The average of the panic window.
    pub panic: f64,
    /// Instances that the stable average alone asks for.
    pub wanted_stable: i32,
    /// Instances that the panic average alone asks for.
    pub wanted_panic: i32,
    /// Whether there is panic.
    pub panicking: bool,
    /// The most instances wanted in this panic.
    pub max_panic_instances: i32,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} wanted, {} ready: {}; stable {:.3} asks for {}, panic {:.3} for {}",
            self.desired, self.ready, self.cause, self.stable, self.wanted_stable, self.panic, self.wanted_panic
        )?;
        if self.panicking { f.write_str("; panicking") } else { Ok(()) }
    }
}
