//! What every handler shares.

use std::{ops::Deref, sync::Arc};

use ingest::{FunctionClient, Ingest, Limits};
use store::Volumes;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    error::{Result, WebError},
    inference::Inference,
    launcher::Launcher,
    runtime::Runtime,
    uploads::Uploads,
};

/// A handle on what every handler shares.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// What every handler shares.
pub struct Shared {
    /// Every setting.
    pub config: Config,
    /// Where training is started.
    pub launcher: Box<dyn Launcher>,
    /// Makes datasets.
    pub ingest: Ingest<FunctionClient>,
    /// Uploads that are becoming datasets, and what became of the last ones.
    pub uploads: Uploads,
    /// The inference function.
    pub inference: Inference,
    /// What runs the functions.
    pub runtime: Runtime,
    /// Cancelled when the service begins to stop.
    pub stopping: CancellationToken,
}

impl AppState {
    /// Builds the clients of both functions and of their runtime; asks none.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(config: Config, launcher: impl Launcher + 'static) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().build()?;
        let preprocess = FunctionClient::new(config.preprocess_url.as_str(), http.clone())?;
        let mut ingest = Ingest::new(config.volumes.clone(), preprocess);
        ingest.limits = Limits {
            archive_bytes: config.upload_limit_bytes,
            unpacked_bytes: ingest.limits.unpacked_bytes.max(config.upload_limit_bytes),
            ..ingest.limits
        };
        let inference = Inference::new(config.inference_url.clone(), http.clone());
        let runtime = Runtime::new(config.admin_url.clone(), http);
        let stopping = CancellationToken::new();
        let uploads = Uploads::new(stopping.clone());
        Ok(Self(Arc::new(Shared {
            config,
            launcher: Box::new(launcher),
            ingest,
            uploads,
            inference,
            runtime,
            stopping,
        })))
    }

    /// Does something with the volumes on a thread that may block.
    pub async fn on_volumes<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Volumes) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let volumes = self.config.volumes.clone();
        tokio::task::spawn_blocking(move || work(&volumes)).await.map_err(WebError::Task)?
    }
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
