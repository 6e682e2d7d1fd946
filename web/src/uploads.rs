//! Uploads on their way to becoming datasets: what each is doing, and what became of the last ones.
//!
//! The bytes are received by the request that brings them; what follows outlives that request. Nothing of this survives
//! a restart: a dataset that was not published by then has to be uploaded again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::{ErrorDetail, dataset::Rejected};
use ingest::{IngestError, Options, Outcome, Progress, Source, Upload};
use serde::Serialize;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa::ToSchema;

use crate::{
    error::{Result, WebError, chain},
    random_hex,
    state::AppState,
};

/// Uploads that become datasets at the same time; further ones wait.
const AT_ONCE: usize = 2;

/// Finished uploads that are remembered.
const REMEMBERED: usize = 200;

/// Rejected files that a failed upload tells of.
const REJECTS_TOLD: usize = 200;

/// What an upload is doing, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct UploadView {
    /// Id of the upload.
    pub id: String,
    /// Where it stands.
    pub state: UploadState,
    /// What is being done: `unpack`, `measure`, `process`, `compare` or `publish`.
    #[schema(value_type = String)]
    pub stage: ingest::Stage,
    /// Units of the stage done.
    pub done: u64,
    /// Units of the stage in all; 0 while that is not known.
    pub total: u64,
    /// Id of the dataset that came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Whether the very same dataset was there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existed: Option<bool>,
    /// Why no dataset came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
    /// Files that were left out, told where nothing was left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
    /// Where to look next.
    pub links: UploadLinks,
}

/// Where an upload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// The pictures are being processed.
    Working,
    /// A dataset is published.
    Succeeded,
    /// No dataset came out.
    Failed,
}

/// Where to look next.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct UploadLinks {
    /// This upload.
    #[serde(rename = "self")]
    pub this: String,
    /// Its server-sent events.
    pub events: String,
    /// Its page.
    pub page: String,
    /// The dataset that came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
}

impl UploadView {
    fn new(id: String) -> Self {
        let links = UploadLinks {
            this: format!("/api/uploads/{id}"),
            events: format!("/api/uploads/{id}/events"),
            page: format!("/uploads/{id}"),
            dataset: None,
        };
        let progress = Progress::default();
        Self {
            id,
            state: UploadState::Working,
            stage: progress.stage,
            done: progress.done,
            total: progress.total,
            dataset: None,
            existed: None,
            error: None,
            rejected: vec![],
            links,
        }
    }

    fn progressed(&mut self, progress: Progress) {
        (self.stage, self.done, self.total) = (progress.stage, progress.done, progress.total);
    }

    fn succeeded(&mut self, outcome: &Outcome) {
        let id = outcome.published.dataset.manifest.id.clone();
        self.state = UploadState::Succeeded;
        self.existed = Some(outcome.published.existed);
        self.links.dataset = Some(format!("/api/datasets/{id}"));
        self.dataset = Some(id);
    }

    fn failed(&mut self, error: &WebError) {
        self.state = UploadState::Failed;
        self.error = Some(error.detail());
        if let WebError::Ingest(IngestError::NothingLeft { rejected, .. }) = error {
            self.rejected = rejected.iter().take(REJECTS_TOLD).cloned().collect();
        }
    }
}

/// All uploads of this service's life, the oldest finished ones forgotten.
#[derive(Clone, Debug)]
pub struct Uploads {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    known: Mutex<VecDeque<(String, watch::Receiver<UploadView>)>>,
    slots: Semaphore,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Uploads {
    /// None yet. They end when `stopping` is cancelled.
    pub fn new(stopping: CancellationToken) -> Self {
        let inner =
            Inner { known: Mutex::default(), slots: Semaphore::new(AT_ONCE), tasks: TaskTracker::new(), stopping };
        Self { inner: Arc::new(inner) }
    }

    /// Makes a dataset of what has arrived, in the background.
    pub fn begin(&self, state: &AppState, upload: Upload, options: Options) -> Result<watch::Receiver<UploadView>> {
        let (sender, receiver) = watch::channel(UploadView::new(format!("up-{}", random_hex()?)));
        self.remember(receiver.clone());
        let (inner, state) = (self.inner.clone(), state.clone());
        self.inner.tasks.spawn(async move {
            let result = make_dataset(&inner, state, upload, options, sender.clone()).await;
            sender.send_modify(|view| match &result {
                Ok(outcome) => view.succeeded(outcome),
                Err(error) => {
                    tracing::warn!(upload = view.id, error = chain(error), "no dataset came of an upload");
                    view.failed(error);
                }
            });
        });
        Ok(receiver)
    }

    /// One upload.
    pub fn find(&self, id: &str) -> Result<watch::Receiver<UploadView>> {
        let known = self.known();
        let found = known.iter().find(|(known, _)| known == id).map(|(_, receiver)| receiver.clone());
        found.ok_or_else(|| {
            WebError::not_found(format!("there is no upload {id:?}; uploads are forgotten when the service restarts"))
        })
    }

    /// Waits until none is left; new ones are not expected any more.
    pub async fn drained(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<(String, watch::Receiver<UploadView>)>> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, receiver: watch::Receiver<UploadView>) {
        let mut known = self.known();
        if known.len() >= REMEMBERED
            && let Some(oldest) = known.iter().position(|(_, view)| view.borrow().state != UploadState::Working)
        {
            known.remove(oldest);
        }
        let id = receiver.borrow().id.clone();
        known.push_back((id, receiver));
    }
}

async fn make_dataset(
    inner: &Inner,
    state: AppState,
    upload: Upload,
    options: Options,
    view: watch::Sender<UploadView>,
) -> Result<Outcome> {
    let stopped = || {
        let message = "the service stopped before the upload became a dataset; upload it again";
        WebError::refused(api::ErrorCode::Unavailable, message)
    };
    let _slot = inner.stopping.run_until_cancelled(inner.slots.acquire()).await.ok_or_else(stopped)?;
    let stopping = inner.stopping.clone();
    // On a thread of its own: between its waits an ingest hashes, compares and writes.
    let work = tokio::task::spawn_blocking(move || {
        Handle::current().block_on(stopping.run_until_cancelled(ingest(&state, upload, options, &view)))
    });
    work.await?.unwrap_or_else(|| Err(stopped()))
}

async fn ingest(
    state: &AppState,
    upload: Upload,
    options: Options,
    view: &watch::Sender<UploadView>,
) -> Result<Outcome> {
    let (sender, mut progress) = watch::channel(Progress::default());
    let forward = async {
        while progress.changed().await.is_ok() {
            let now = *progress.borrow_and_update();
            view.send_modify(|view| view.progressed(now));
        }
    };
    let (outcome, ()) = tokio::join!(state.ingest.run(Source::Upload(upload), options, sender), forward);
    Ok(outcome?)
}

/// Waits for the end of an upload.
pub async fn finished(mut receiver: watch::Receiver<UploadView>) -> Result<UploadView> {
    let ended = receiver.wait_for(|view| view.state != UploadState::Working).await;
    let ended = ended.map(|view| view.clone());
    ended.map_err(|_| WebError::refused(api::ErrorCode::Internal, "the upload's task ended without a result"))
}
