//! What is deleted by itself, where somebody asked for that: old runs and versions that nobody uses.
//!
//! Nothing is deleted that somebody may still need: no run without an end, no version that is in use, gets requests or is
//! about to, none that was in use before the present one, and none that a run without an end has made.

use std::collections::BTreeSet;

use api::functions::Status;
use store::{StoreError, Volumes};

use crate::{
    error::{Result, chain},
    functions::Usage,
    state::AppState,
};

/// How much is kept; all where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Runs that have ended, the newest.
    pub runs: Option<usize>,
    /// Versions of each model, the newest.
    pub versions: Option<usize>,
}

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Ids of runs.
    pub runs: Vec<String>,
    /// Registry names and versions.
    pub versions: Vec<(String, u32)>,
}

/// Deletes what is too old, at once and whenever a run has ended, until the service stops.
pub async fn keep_tidy(state: AppState) {
    if state.config.keep == Keep::default() {
        return;
    }
    let mut ended = state.launcher.ended();
    loop {
        if let Err(error) = tidy(&state).await {
            tracing::warn!(error = chain(&error), "what is old is not deleted; trying again when a run has ended");
        }
        tokio::select! {
            changed = ended.changed() => if changed.is_err() { return },
            () = state.stopping.cancelled() => return,
        }
    }
}

/// Deletes what is too old. Versions only where the engine tells who gets requests.
///
/// # Errors
/// If the volumes or the engine fail; what was deleted by then stays deleted.
pub async fn tidy(state: &AppState) -> Result<Deleted> {
    let keep = state.config.keep;
    let mut deleted = Deleted::default();
    if let Some(versions) = keep.versions {
        let status = if state.functions.is_known() { state.functions.status().await? } else { Status::default() };
        deleted.versions = state.on_volumes(move |volumes| delete_versions(volumes, versions, &status)).await?;
    }
    if let Some(runs) = keep.runs {
        deleted.runs = state.on_volumes(move |volumes| delete_runs(volumes, runs)).await?;
    }
    Ok(deleted)
}

fn delete_versions(volumes: &Volumes, kept: usize, status: &Status) -> Result<Vec<(String, u32)>> {
    let mut unended = BTreeSet::new();
    for run in volumes.runs()? {
        if !run.status().is_ok_and(|status| status.state.is_final()) {
            unended.insert(run.spec.run);
        }
    }
    let mut deleted = vec![];
    for name in volumes.model_names()? {
        let pointers = [volumes.current(&name)?, volumes.previous(&name)?];
        for version in volumes.versions(&name)?.into_iter().skip(kept) {
            let number = version.manifest.version;
            let is_wanted = Usage::of(status, &name, number).is_some_and(|usage| usage.is_wanted());
            if is_wanted || pointers.contains(&Some(number)) || unended.contains(&version.manifest.run) {
                continue;
            }
            if is_gone(volumes.delete_version(&name, number))? {
                tracing::info!(model = name, version = number, kept, "deleted an old version");
                deleted.push((name.clone(), number));
            }
        }
    }
    Ok(deleted)
}

fn delete_runs(volumes: &Volumes, kept: usize) -> Result<Vec<String>> {
    let mut needed = BTreeSet::new();
    for name in volumes.model_names()? {
        for version in [volumes.current(&name)?, volumes.previous(&name)?].into_iter().flatten() {
            needed.extend(volumes.version(&name, version).map(|version| version.manifest.run));
        }
    }
    let ended = volumes.runs()?.into_iter();
    let ended = ended.filter(|run| run.status().is_ok_and(|status| status.state.is_final()));
    let mut deleted = vec![];
    for run in ended.skip(kept).filter(|run| !needed.contains(run.id())) {
        if is_gone(volumes.delete_run(run.id()))? {
            tracing::info!(run = run.id(), kept, "deleted an old run");
            deleted.push(run.spec.run);
        }
    }
    Ok(deleted)
}

/// Whether this service deleted it: another replica may have been first, or somebody may have begun to use it just now.
fn is_gone(outcome: store::Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(StoreError::NotFound { .. } | StoreError::InUse { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
