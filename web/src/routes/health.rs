//! Probes.

use api::{ErrorBody, ErrorCode};
use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{Result, WebError},
    state::AppState,
};

/// Answer of a probe.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    status: &'static str,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/health/live", tag = "health", responses(
    (status = 200, description = "It lives", body = Health),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn live() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the service can take requests: its volumes are there and it is not stopping.
#[utoipa::path(get, path = "/health/ready", tag = "health", responses(
    (status = 200, description = "It can", body = Health),
    (status = 503, description = "It cannot; the message says why", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn ready(State(state): State<AppState>) -> Result<Json<Health>> {
    let unavailable = |message: String| WebError::refused(ErrorCode::Unavailable, message);
    if state.stopping.is_cancelled() {
        return Err(unavailable("the service is stopping".into()));
    }
    state
        .on_volumes(move |volumes| {
            for (what, dir) in [
                ("volume 1", volumes.datasets_dir()),
                ("volume 2", volumes.runs_dir()),
                ("volume 2", volumes.models_dir()),
            ] {
                if !dir.is_dir() {
                    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    return Err(unavailable(format!("{what} has no folder {name}; is it mounted?")));
                }
            }
            Ok(())
        })
        .await?;
    Ok(Json(Health { status: "ok" }))
}
