//! `/api/models`.

use api::{ErrorBody, model::ModelManifest};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::header;
use serde::{Deserialize, Serialize};
use store::{StoreError, Volumes};
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;

use crate::{
    error::{Result, WebError},
    state::AppState,
};

/// All versions of one registry name.
#[derive(Serialize, ToSchema)]
pub struct ModelView {
    /// Registry name.
    name: String,
    /// The version in use.
    current: Option<u32>,
    /// Newest first.
    versions: Vec<ModelManifest>,
}

impl ModelView {
    fn of(volumes: &Volumes, name: String) -> Result<Self> {
        let versions = volumes.versions(&name)?.into_iter().map(|version| version.manifest).collect();
        Ok(Self { current: volumes.current(&name)?, versions, name })
    }
}

/// All models.
#[utoipa::path(get, path = "/api/models", operation_id = "list_models", tag = "models", responses(
    (status = 200, description = "By name", body = Vec<ModelView>),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn list(State(state): State<AppState>) -> Result<Json<Vec<ModelView>>> {
    let models = state
        .on_volumes(|volumes| volumes.model_names()?.into_iter().map(|name| ModelView::of(volumes, name)).collect());
    Ok(Json(models.await?))
}

/// One model.
#[utoipa::path(get, path = "/api/models/{name}", operation_id = "get_model", tag = "models", params(("name" = String, Path, description = "Registry name")), responses(
    (status = 200, description = "Its versions", body = ModelView),
    (status = 404, description = "No such model", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn show(State(state): State<AppState>, Path(name): Path<String>) -> Result<Json<ModelView>> {
    let model = state.on_volumes(move |volumes| {
        let model = ModelView::of(volumes, name)?;
        match model.versions.is_empty() {
            true => Err(StoreError::NotFound { what: "model", name: model.name }.into()),
            false => Ok(model),
        }
    });
    Ok(Json(model.await?))
}

/// One version.
#[utoipa::path(get, path = "/api/models/{name}/{version}", operation_id = "get_version", tag = "models",
    params(("name" = String, Path, description = "Registry name"), ("version" = u32, Path, description = "Version, from 1")), responses(
    (status = 200, description = "Its manifest", body = ModelManifest),
    (status = 404, description = "No such version", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn version(
    State(state): State<AppState>,
    Path((name, version)): Path<(String, u32)>,
) -> Result<Json<ModelManifest>> {
    Ok(Json(state.on_volumes(move |volumes| Ok(volumes.version(&name, version)?.manifest)).await?))
}

/// A version's network.
#[utoipa::path(get, path = "/api/models/{name}/{version}/model.onnx", operation_id = "download_model", tag = "models",
    params(("name" = String, Path, description = "Registry name"), ("version" = u32, Path, description = "Version, from 1")), responses(
    (status = 200, description = "The ONNX file", content_type = "application/octet-stream", body = Vec<u8>),
    (status = 404, description = "No such version", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn download(State(state): State<AppState>, Path((name, version)): Path<(String, u32)>) -> Result<Response> {
    let disposition = format!("attachment; filename=\"{name}-v{version}.onnx\"");
    let path = state.on_volumes(move |volumes| Ok(volumes.version(&name, version)?.onnx())).await?;
    let file = tokio::fs::File::open(&path).await;
    let file = file.map_err(|source| WebError::Store(StoreError::Read { path, source }))?;
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}

/// Which version to put into use.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Version, from 1.
    version: u32,
}

/// The version in use.
#[derive(Serialize, ToSchema)]
pub struct Current {
    /// Registry name.
    name: String,
    /// Version.
    version: u32,
}

/// Puts a version into use.
#[utoipa::path(put, path = "/api/models/{name}/current", tag = "models", request_body = Chosen,
    params(("name" = String, Path, description = "Registry name")), responses(
    (status = 200, description = "It is in use", body = Current),
    (status = 404, description = "No such version", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn set_current(
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json(Chosen { version }): Json<Chosen>,
) -> Result<Json<Current>> {
    let current = state.on_volumes(move |volumes| {
        volumes.set_current(&name, version)?;
        Ok(Current { name, version })
    });
    Ok(Json(current.await?))
}
