//! `/api/diagnosis`: what the service finds when it looks at what surrounds it.

use std::time::{Duration, Instant};

use api::{
    ErrorBody,
    diagnosis::{Answering, Diagnosis, InUse},
};
use axum::{Json, extract::State};
use reqwest::Url;
use store::Volumes;

use crate::{
    config::EngineKind,
    error::{Result, chain},
    routes::health,
    state::AppState,
};

/// How long a function may take to wake up and answer.
const TIMEOUT: Duration = Duration::from_secs(25);

/// What surrounds the service: both functions, called where it calls them, the models in use, read and compared with their
/// manifests, and the cluster's API, if training and functions are a cluster's.
#[utoipa::path(get, path = "/api/diagnosis", operation_id = "diagnose", tag = "health", responses(
    (status = 200, description = "What was found; what does not work is part of it", body = Diagnosis),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn diagnose(State(state): State<AppState>) -> Result<Json<Diagnosis>> {
    let config = &state.config;
    let (preprocess, inference, cluster) = tokio::join!(
        call(&state, "preprocess", &config.preprocess_url),
        call(&state, "inference", &config.inference_url),
        ask_cluster(&state)
    );
    let models = state.on_volumes(|volumes| Ok(models(volumes)?)).await?;
    let volumes = health::ready(State(state.clone())).await.err().map(|error| error.detail().message);
    Ok(Json(Diagnosis {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at_unix_ms: cluster::functions::now_unix_ms(),
        functions: vec![preprocess, inference],
        models,
        volumes,
        cluster,
    }))
}

/// Why the cluster's API does not answer.
async fn ask_cluster(state: &AppState) -> Option<String> {
    if state.config.engine != EngineKind::Kubernetes {
        return None;
    }
    match tokio::time::timeout(TIMEOUT, state.functions.status()).await {
        Ok(told) => told.err().map(|error| error.detail().message),
        Err(_) => Some(format!("the Kubernetes API server has not answered within {} s", TIMEOUT.as_secs())),
    }
}

async fn call(state: &AppState, name: &str, base: &Url) -> Answering {
    let began = Instant::now();
    let problem = match base.join("health/live") {
        Ok(url) => match state.http.get(url).timeout(TIMEOUT).send().await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) => Some(chain(&error.without_url())),
        },
        Err(error) => Some(error.to_string()),
    };
    let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
    Answering { name: name.to_owned(), url: base.to_string(), milliseconds, problem }
}

/// Blocks on the disk.
fn models(volumes: &Volumes) -> store::Result<Vec<InUse>> {
    let mut models = vec![];
    for name in volumes.model_names()? {
        let Some(version) = volumes.current(&name)? else { continue };
        let verified = volumes.version(&name, version).and_then(|version| version.verify());
        models.push(InUse { name, version, problem: verified.err().map(|error| chain(&error)) });
    }
    Ok(models)
}
