//! The one seam through which training is started and stopped: what is above it knows no engine.
//!
//! [`LocalProcess`] runs trainers as processes of this machine, [`ClusterJobs`] as Jobs of a Kubernetes cluster.

mod jobs;
mod local;
mod places;

use std::time::Duration;

use api::train::RunState;
use cluster::ClusterError;
use futures_util::future::BoxFuture;
use store::{Run, StoreError};
use tokio::sync::watch;

use crate::error::chain;

pub use jobs::ClusterJobs;
pub use local::LocalProcess;

/// Why training could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The service is about to end.
    #[error("the service is stopping; the run begins when it is back")]
    Stopping,
    /// The volumes failed.
    #[error("the run's folder cannot be read or written")]
    Store(#[from] StoreError),
    /// The cluster failed or refused.
    #[error("the cluster failed")]
    Cluster(#[from] ClusterError),
    /// A background task died.
    #[error("a background task died")]
    Task(#[from] tokio::task::JoinError),
}

/// Starts and stops the work on runs.
pub trait Launcher: Send + Sync {
    /// Begins to work on a queued run, now or when there is room; does not wait for it.
    ///
    /// # Errors
    /// Only if the run could not be taken on. What goes wrong later becomes the run's status.
    fn start<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), LaunchError>>;

    /// Asks for the end of a run; does not wait for it. Stopping twice, or what has ended, is no error.
    fn stop<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), LaunchError>>;

    /// Takes care of every run that an earlier service left without an end: a living trainer is looked after, a queued
    /// run is started, one whose trainer died is taken up by another, or marked failed if too many have died.
    fn recover(&self) -> BoxFuture<'_, Result<(), LaunchError>>;

    /// What a run that has not begun waits for, in a sentence, if that is known.
    fn hindrance(&self, run: &str) -> Option<String>;

    /// How many runs begin before this one; `None` if it does not wait, or waits where somebody else decides.
    fn ahead(&self, _run: &str) -> Option<usize> {
        None
    }

    /// Changes whenever a run has ended that was looked after here.
    fn ended(&self) -> watch::Receiver<u64>;

    /// The last lines of what a run's trainer printed, at most so many bytes.
    fn log<'a>(&'a self, run: &'a Run, bytes: u64) -> BoxFuture<'a, Result<String, LaunchError>>;

    /// Stops looking after runs, and cancels those that end with this service; waits at most `deadline`, and what still
    /// runs then is killed.
    fn shutdown(&self, deadline: Duration) -> BoxFuture<'_, ()>;
}

/// Sees to it that a run that nothing works on says how it ended. Whether it says so now.
fn bury(run: &Run, state: RunState, reason: &str) -> bool {
    match run.bury(state, reason) {
        Ok(status) => {
            tracing::info!(run = run.id(), state = ?status.state, reason, "run ended");
            true
        }
        Err(StoreError::Busy(_)) => {
            tracing::info!(run = run.id(), "another process has the run");
            false
        }
        Err(e) => {
            tracing::error!(run = run.id(), error = chain(&e), "cannot mark the run as ended");
            false
        }
    }
}
