//! Runs as the interface tells them: created, listed, looked up. How far one is, [`crate::live`] reads.

use api::{
    ErrorCode,
    backbone::Installed,
    train::{EpochMetrics, Hyperparameters, Results, RunLabel, RunState, RunStatus},
};
use serde::{Deserialize, Serialize};
use store::{Dataset, Run, Volumes};
use utoipa::ToSchema;

use crate::{
    error::{Result, WebError, chain},
    launcher::Launcher,
    state::AppState,
};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RunView {
    /// Id of the run.
    pub id: String,
    /// Id of the dataset.
    pub dataset: String,
    /// Registry name it publishes under.
    pub model: String,
    /// As asked for.
    pub hyperparameters: Hyperparameters,
    /// RFC 3339, UTC.
    pub created: String,
    /// Id of the run that this one repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    /// What people call it.
    pub label: RunLabel,
    /// Where it stands.
    pub status: RunStatus,
    /// What its files take on the disk.
    pub bytes: u64,
    /// How many runs begin before this one; left out where it does not wait, or where the cluster decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
    /// What keeps it from beginning, if that is known; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hindrance: Option<String>,
    /// The last epoch that ended; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<EpochMetrics>,
    /// Where to look next.
    pub links: RunLinks,
}

/// Where to look next.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RunLinks {
    /// This run.
    #[serde(rename = "self")]
    pub this: String,
    /// Its server-sent events.
    pub events: String,
    /// Its results, once it has succeeded.
    pub results: String,
    /// Its trainer's log.
    pub log: String,
    /// What its network says about the pictures of its dataset, once it has succeeded.
    pub predictions: String,
    /// Its page.
    pub page: String,
}

impl RunView {
    /// Reads status and label; not the epochs. Where it is in the queue is the launcher's to know.
    pub fn of(run: &Run) -> Result<Self> {
        let id = run.id();
        let links = RunLinks {
            this: format!("/api/runs/{id}"),
            events: format!("/api/runs/{id}/events"),
            results: format!("/api/runs/{id}/results"),
            log: format!("/api/runs/{id}/log"),
            predictions: format!("/api/runs/{id}/predictions"),
            page: format!("/runs/{id}"),
        };
        Ok(Self {
            id: id.to_owned(),
            dataset: run.spec.dataset.clone(),
            model: run.spec.model.clone(),
            hyperparameters: run.spec.hyperparameters.clone(),
            created: run.spec.created.clone(),
            retry_of: run.spec.retry_of.clone(),
            label: run.label()?,
            status: run.status()?,
            bytes: run.bytes(),
            ahead: None,
            hindrance: None,
            epoch: None,
            links,
        })
    }

    /// With its place in the queue.
    pub fn queued(self, launcher: &dyn Launcher) -> Self {
        let waits = self.status.state == RunState::Queued;
        Self { ahead: launcher.ahead(&self.id).filter(|_| waits), ..self }
    }
}

/// What was told of each run, newest first, and the ids of those of which nothing can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing<T> {
    /// In the order of the runs.
    pub told: Vec<T>,
    /// Runs with a file that cannot be read, newest first.
    pub unreadable: Vec<String>,
}

/// Asks about every run. One that is deleted meanwhile is passed over, one that cannot be read spoils no other.
///
/// # Errors
/// If the folder of runs cannot be read.
pub fn each<T>(volumes: &Volumes, mut tell: impl FnMut(Run) -> Result<T>) -> Result<Listing<T>> {
    let mut listing = Listing { told: vec![], unreadable: vec![] };
    for id in volumes.run_ids()?.into_iter().rev() {
        match volumes.run(&id).map_err(WebError::from).and_then(&mut tell) {
            Ok(told) => listing.told.push(told),
            Err(_) if !volumes.runs_dir().join(&id).is_dir() => {}
            Err(error) => {
                tracing::warn!(run = id, error = chain(&error), "a run cannot be read");
                listing.unreadable.push(id);
            }
        }
    }
    Ok(listing)
}

/// What may be asked of a new run.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Id of the dataset; the newest when absent.
    pub dataset: Option<String>,
    /// Settings.
    pub hyperparameters: Hyperparameters,
    /// Registry name to publish under; the service's default when absent.
    pub model: Option<String>,
}

/// Checks what is asked, makes the run and starts its trainer.
///
/// # Errors
/// `Unprocessable` naming every value out of its range; `NotFound` without the dataset.
pub async fn create(state: &AppState, asked: Asked) -> Result<Run> {
    let backbones = state.backbones().await?;
    let model = asked.model.unwrap_or_else(|| state.config.model.clone());
    let run = state
        .on_volumes(move |volumes| {
            let dataset = dataset_or_newest(volumes, asked.dataset.as_deref())?;
            check(&asked.hyperparameters, &backbones, &dataset)?;
            Ok(volumes.create_run(&dataset.manifest.id, &model, asked.hyperparameters)?)
        })
        .await?;
    state.launcher.start(&run).await?;
    Ok(run)
}

/// Makes a run that asks for the same as one that has ended, and starts its trainer.
///
/// # Errors
/// `Conflict` if that one has not ended; otherwise as [`create`].
pub async fn retry(state: &AppState, id: String) -> Result<Run> {
    let backbones = state.backbones().await?;
    let run = state
        .on_volumes(move |volumes| {
            let run = volumes.run(&id)?;
            if !run.status()?.state.is_final() {
                let message = format!("run {id} has not ended; wait for its end, or cancel it first");
                return Err(WebError::refused(ErrorCode::Conflict, message));
            }
            check(&run.spec.hyperparameters, &backbones, &volumes.dataset(&run.spec.dataset)?)?;
            Ok(volumes.retry_run(&run)?)
        })
        .await?;
    state.launcher.start(&run).await?;
    Ok(run)
}

fn check(asked: &Hyperparameters, backbones: &[Installed], dataset: &Dataset) -> Result<()> {
    let resolved = asked.resolve(backbones, picture_side(dataset));
    resolved.map(drop).map_err(|wrong| WebError::refused(ErrorCode::Unprocessable, wrong.join("; ")))
}

/// What is said of a run's label; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelChange {
    /// One line, at most 100 characters; empty for none.
    pub name: Option<String>,
    /// At most 10,000 characters.
    pub notes: Option<String>,
}

impl LabelChange {
    /// Writes it down.
    ///
    /// # Errors
    /// `Unprocessable` if nothing is said, or too much.
    pub fn apply(self, run: &Run) -> Result<()> {
        if self.name.is_none() && self.notes.is_none() {
            let message = "nothing is to be changed; expected name, notes or both";
            return Err(WebError::refused(ErrorCode::Unprocessable, message));
        }
        let before = run.label()?;
        let label = RunLabel { name: self.name.unwrap_or(before.name), notes: self.notes.unwrap_or(before.notes) };
        Ok(run.write_label(&label)?)
    }
}

/// Whether a run has not been deleted.
pub fn is_there(volumes: &Volumes, run: &str) -> bool {
    volumes.runs_dir().join(run).is_dir()
}

/// The longer side of a dataset's pictures in pixels.
pub fn picture_side(dataset: &Dataset) -> u32 {
    let spec = &dataset.manifest.preprocess;
    spec.width.max(spec.height)
}

/// The dataset of this id, or the newest.
///
/// # Errors
/// `NotFound` if there is none.
pub fn dataset_or_newest(volumes: &Volumes, id: Option<&str>) -> Result<Dataset> {
    match id {
        Some(id) => Ok(volumes.dataset(id)?),
        None => {
            let newest = volumes.datasets()?.into_iter().next();
            newest.ok_or_else(|| WebError::not_found("there is no dataset yet; upload pictures first"))
        }
    }
}

/// The run of this id, or the newest.
///
/// # Errors
/// `NotFound` if there is none.
pub fn run_or_newest(volumes: &Volumes, id: Option<&str>) -> Result<Run> {
    match id {
        Some(id) => Ok(volumes.run(id)?),
        None => {
            let newest = volumes.runs()?.into_iter().next();
            newest.ok_or_else(|| WebError::not_found("there is no run yet; train a model first"))
        }
    }
}

/// The results of a run that has succeeded.
///
/// # Errors
/// `Conflict` in every other state, saying which: another run's figures are never shown in its place.
pub fn results(run: &Run) -> Result<Results> {
    let status = run.status()?;
    let because = || status.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let refused = |how: String| Err(WebError::refused(ErrorCode::Conflict, format!("run {} {how}", run.id())));
    match status.state {
        RunState::Succeeded => match run.results()? {
            Some(results) => Ok(results),
            None => refused("has succeeded, but its results are gone".into()),
        },
        RunState::Queued => refused("has not begun; its results will be here when it has ended".into()),
        RunState::Running => refused("is still training; its results will be here when it has ended".into()),
        RunState::Failed => refused(format!("failed{}", because())),
        RunState::Cancelled => refused("was cancelled, so it has no results".into()),
    }
}
