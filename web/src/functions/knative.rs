//! The functions of a Kubernetes cluster with Knative.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::functions::{ServiceStatus, Stage, Status, TrafficTarget};
use cluster::{
    Cluster,
    functions::{Functions as Services, now_unix_ms},
    image::ImageBaker,
    publish::Publisher,
};
use futures_util::future::BoxFuture;
use store::Volumes;
use tokio::{
    sync,
    time::{self, Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::Functions;
use crate::error::{Result, WebError, chain};

/// How often bake Jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How many looks there are from one at whether the function has a version to the next.
const LOOKS_PER_PIN: u64 = 5;

/// How long what the cluster told is told on, for any number of followers ask for it.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// The functions of a cluster, and the publisher of one of them.
#[derive(Clone, Debug)]
pub struct ClusterFunctions {
    services: Services,
    publisher: Publisher,
    /// For the function that serves no model.
    image_baker: Arc<ImageBaker>,
    volumes: Volumes,
    /// Registry name of the model that the function serves unless it is told otherwise.
    model: String,
    told: Arc<sync::Mutex<Option<(Instant, Status)>>>,
    /// Why publications do not go on, as this replica sees it.
    problem: Arc<Mutex<Option<String>>>,
}

impl ClusterFunctions {
    /// Publishes to the function `inference`, and has the images of `preprocess` baked; asks the cluster nothing yet.
    pub fn new(cluster: Cluster, inference: &str, preprocess: &str, volumes: Volumes, model: String) -> Self {
        let publisher = Publisher::new(cluster.clone(), inference);
        let image_baker = Arc::new(ImageBaker::new(cluster.clone(), preprocess));
        Self {
            services: Services::new(cluster),
            publisher,
            image_baker,
            volumes,
            model,
            told: Arc::default(),
            problem: Arc::default(),
        }
    }

    fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn told(&self) -> Result<Status> {
        let mut told = self.told.lock().await;
        if let Some((_, status)) = told.as_ref().filter(|(at, _)| at.elapsed() < FRESH_FOR) {
            return Ok(status.clone());
        }
        let status = self.ask().await?;
        *told = Some((Instant::now(), status.clone()));
        Ok(status)
    }

    async fn ask(&self) -> Result<Status> {
        let services = self.services.services().await?;
        let mut publications = self.publisher.publications().await?;
        for publication in publications.iter_mut().filter(|publication| publication.stage == Stage::Baking) {
            publication.reason = publication.reason.take().or_else(|| self.problem());
        }
        Ok(Status { at_unix_ms: now_unix_ms(), resident_bytes: 0, services, publications })
    }

    /// One look: what is baked is published, and now and then, a function that follows a link is given a version.
    async fn step(&self, n: u64) -> Result<()> {
        self.publisher.step().await?;
        if !n.is_multiple_of(LOOKS_PER_PIN) {
            return Ok(());
        }
        match self.image_baker.step().await {
            Ok(true) => tracing::info!("baking the image of the function without a model"),
            Ok(false) => {}
            // Its pods compile for themselves meanwhile; nothing else waits for it.
            Err(error) => tracing::debug!(error = chain(&error), "an image is not baked; trying again"),
        }
        let (volumes, model) = (self.volumes.clone(), self.model.clone());
        let current = tokio::task::spawn_blocking(move || volumes.current(&model)).await??;
        if let Some(version) = current
            && self.publisher.pin(&self.model, version).await?
        {
            tracing::info!(model = self.model, version, "publishing, for the function has no version yet");
        }
        Ok(())
    }
}

impl Functions for ClusterFunctions {
    fn is_known(&self) -> bool {
        true
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        Box::pin(self.told())
    }

    fn set_traffic<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        targets: &'a [TrafficTarget],
    ) -> BoxFuture<'a, Result<ServiceStatus>> {
        Box::pin(async move {
            let service = self.services.set_traffic(namespace, name, targets).await?;
            *self.told.lock().await = None;
            Ok(service)
        })
    }

    fn publish<'a>(&'a self, model: &'a str, version: u32, percent: u32) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (volumes, name) = (self.volumes.clone(), model.to_owned());
            tokio::task::spawn_blocking(move || volumes.version(&name, version)).await??;
            self.publisher.publish(model, version, percent).await?;
            *self.told.lock().await = None;
            if percent == 100 {
                // What a function without a version of its own falls back to.
                let (volumes, name) = (self.volumes.clone(), model.to_owned());
                tokio::task::spawn_blocking(move || volumes.set_current(&name, version)).await??;
            }
            Ok(())
        })
    }

    fn keep(&self, stopping: CancellationToken) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut looks = time::interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for n in 0.. {
                let looked = tokio::select! {
                    looked = async { looks.tick().await; self.step(n).await } => looked,
                    () = stopping.cancelled() => return,
                };
                let problem = looked.err().map(|error: WebError| {
                    let told = error.detail().message;
                    if self.problem().as_ref() != Some(&told) {
                        tracing::warn!(error = chain(&error), "publishing does not go on; trying again");
                    }
                    told
                });
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
            }
        })
    }
}
