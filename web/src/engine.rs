//! What is beneath the two seams: this machine or a cluster.

use std::sync::Arc;

use cluster::{Cluster, trainers::Trainers};

use crate::{
    config::Config,
    functions::{ClusterFunctions, Functions, Runtime},
    launcher::{ClusterJobs, Launcher, LocalProcess},
};

/// The function that prepares pictures, as the manifests name it.
const PREPROCESS: &str = "preprocess";

/// Starts training, and runs the functions.
#[derive(Clone)]
pub struct Engine {
    /// Starts training.
    pub launcher: Arc<dyn Launcher>,
    /// Runs the functions.
    pub functions: Arc<dyn Functions>,
}

impl Engine {
    /// This machine: trainers as processes, functions in the embedded runtime.
    pub fn local(config: &Config, http: reqwest::Client) -> Self {
        let launcher = LocalProcess::new(config.trainer.clone(), config.volumes.clone(), config.trainers);
        let functions = Runtime::new(config.admin_url.clone(), http, config.volumes.clone());
        Self { launcher: Arc::new(launcher), functions: Arc::new(functions) }
    }

    /// A cluster: trainers as Jobs, functions in Knative.
    pub fn kubernetes(config: &Config, cluster: Cluster) -> Self {
        let launcher = ClusterJobs::new(Trainers::new(cluster.clone()), config.volumes.clone());
        let (function, model) = (&config.inference_function, config.model.clone());
        let functions = ClusterFunctions::new(cluster, function, PREPROCESS, config.volumes.clone(), model);
        Self { launcher: Arc::new(launcher), functions: Arc::new(functions) }
    }
}
