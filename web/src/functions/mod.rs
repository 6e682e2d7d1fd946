//! The one seam through which functions are looked at, their traffic is shared out and versions are published to them:
//! what is above it knows no engine.
//!
//! [`Runtime`] is the embedded runtime of this machine, [`ClusterFunctions`] Knative in a Kubernetes cluster.

mod knative;
mod runtime;
mod usage;

use api::functions::{ServiceStatus, Status, TrafficTarget};
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::error::Result;

pub use knative::ClusterFunctions;
pub use runtime::Runtime;
pub use usage::Usage;

/// The functions, whatever runs them.
pub trait Functions: Send + Sync {
    /// Whether there is anybody to ask.
    fn is_known(&self) -> bool;

    /// What the functions do at this moment.
    ///
    /// # Errors
    /// `Unavailable` if nobody can be asked, `BadGateway` or `Timeout` if there is no sensible answer.
    fn status(&self) -> BoxFuture<'_, Result<Status>>;

    /// Wishes for the traffic of a function; returns what comes of them.
    ///
    /// # Errors
    /// As [`Functions::status`]; what the engine refuses keeps its words.
    fn set_traffic<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        targets: &'a [TrafficTarget],
    ) -> BoxFuture<'a, Result<ServiceStatus>>;

    /// Gives a version this part of the requests, 1 to 100, and those that serve now the rest in their proportion to each
    /// other. Does not wait until the version is ready: until then, nothing changes for whoever asks for predictions.
    ///
    /// # Errors
    /// `NotFound` if there is no such version, `Conflict` if it has everything and nobody is there to get the rest.
    fn publish<'a>(&'a self, model: &'a str, version: u32, percent: u32) -> BoxFuture<'a, Result<()>>;

    /// Carries on what takes longer than a request, until told to stop.
    fn keep(&self, _stopping: CancellationToken) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
