//! What every handler shares.

use std::{ops::Deref, sync::Arc};

use api::backbone::{BuiltIn, Installed};
use ingest::{FunctionClient, Ingest, Limits};
use store::Volumes;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    engine::Engine,
    error::{Result, WebError},
    functions::Functions,
    inference::Inference,
    launcher::Launcher,
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
    pub launcher: Arc<dyn Launcher>,
    /// Makes datasets.
    pub ingest: Ingest<FunctionClient>,
    /// Uploads that are becoming datasets, and what became of the last ones.
    pub uploads: Uploads,
    /// The inference function.
    pub inference: Inference,
    /// Calls functions where nothing but their URLs is needed.
    pub http: reqwest::Client,
    /// What runs the functions.
    pub functions: Arc<dyn Functions>,
    /// Cancelled when the service begins to stop.
    pub stopping: CancellationToken,
}

impl AppState {
    /// Builds the clients of both functions; asks none.
    ///
    /// # Errors
    /// If a function's URL cannot be used.
    pub fn new(config: Config, engine: Engine, http: reqwest::Client) -> anyhow::Result<Self> {
        let preprocess = FunctionClient::new(config.preprocess_url.as_str(), http.clone())?;
        let mut ingest = Ingest::new(config.volumes.clone(), preprocess);
        ingest.limits = Limits {
            archive_bytes: config.upload_limit_bytes,
            unpacked_bytes: ingest.limits.unpacked_bytes.max(config.upload_limit_bytes),
            ..ingest.limits
        };
        let inference = Inference::new(config.inference_url.clone(), http.clone());
        let Engine { launcher, functions } = engine;
        let stopping = CancellationToken::new();
        let uploads = Uploads::new(stopping.clone());
        Ok(Self(Arc::new(Shared { config, launcher, ingest, uploads, inference, http, functions, stopping })))
    }

    /// The backbones that a run may name: those that come with the trainer, and those that people added.
    pub async fn backbones(&self) -> Result<Vec<Installed>> {
        let named = self.config.backbones.iter().filter_map(|name| BuiltIn::named(name));
        let mut all: Vec<_> = named.map(Installed::from).collect();
        let own = self.on_volumes(|volumes| Ok(volumes.backbones()?)).await?;
        all.extend(own.iter().map(|own| Installed::from(&own.manifest)));
        Ok(all)
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
