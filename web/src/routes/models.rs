//! `/api/models`.

use api::{
    ErrorBody, ErrorCode,
    card::Card,
    functions::{Publication, Status},
    model::ModelManifest,
    train::Promotion,
};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use store::{StoreError, Volumes};
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;

use super::pages::pointer;
use crate::{
    error::{Result, WebError, chain},
    functions::Usage,
    state::AppState,
};

/// All versions of one registry name.
#[derive(Serialize, ToSchema)]
pub struct ModelView {
    /// Registry name.
    name: String,
    /// The version that functions open unless they are told another.
    current: Option<u32>,
    /// The version that was it before, to go back to.
    previous: Option<u32>,
    /// Who gets which part of the requests, as the engine tells it; absent where no engine tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<Vec<Share>>,
    /// Versions on their way to a part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    publications: Vec<Publication>,
    /// Newest first.
    versions: Vec<ModelManifest>,
}

/// A version's part of the requests.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub struct Share {
    /// Version, from 1.
    version: u32,
    /// 1 to 100.
    percent: u32,
}

impl ModelView {
    fn of(volumes: &Volumes, name: String) -> Result<Self> {
        let versions = volumes.versions(&name)?.into_iter().map(|version| version.manifest).collect();
        let (current, previous) = (pointer(volumes.current(&name)), pointer(volumes.previous(&name)));
        Ok(Self { current, previous, shares: None, publications: vec![], versions, name })
    }

    /// With what the engine tells of it.
    fn used(mut self, status: &Status) -> Self {
        for ModelManifest { version, .. } in &self.versions {
            let Some(Usage { percent, publication }) = Usage::of(status, &self.name, *version) else { continue };
            let shares = self.shares.get_or_insert_default();
            shares.extend((percent > 0).then_some(Share { version: *version, percent }));
            self.publications.extend(publication);
        }
        self
    }
}

/// Asks about every model. One that cannot be read spoils no other.
pub(super) fn each<T>(volumes: &Volumes, tell: impl Fn(String) -> Result<T>) -> Result<Vec<T>> {
    let told = volumes.model_names()?.into_iter().filter_map(|name| {
        let told = tell(name.clone());
        told.inspect_err(|error| tracing::warn!(model = name, error = chain(error), "a model cannot be read")).ok()
    });
    Ok(told.collect())
}

/// All models.
#[utoipa::path(get, path = "/api/models", operation_id = "list_models", tag = "models", responses(
    (status = 200, description = "By name", body = Vec<ModelView>),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn list(State(state): State<AppState>) -> Result<Json<Vec<ModelView>>> {
    let models = state.on_volumes(|volumes| each(volumes, |name| ModelView::of(volumes, name)));
    let (models, status): (Vec<ModelView>, _) = (models.await?, status(&state).await);
    Ok(Json(match status {
        Some(status) => models.into_iter().map(|model| model.used(&status)).collect(),
        None => models,
    }))
}

/// What the engine tells, if it does.
async fn status(state: &AppState) -> Option<Status> {
    if !state.functions.is_known() {
        return None;
    }
    let told = state.functions.status().await;
    told.inspect_err(|error| tracing::warn!(error = chain(error), "the engine does not tell who serves what")).ok()
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
    let (model, status) = (model.await?, status(&state).await);
    Ok(Json(match status {
        Some(status) => model.used(&status),
        None => model,
    }))
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

/// What a version is made from, how good it is, and what it cannot do.
#[utoipa::path(get, path = "/api/models/{name}/{version}/card", operation_id = "get_card", tag = "models",
    params(("name" = String, Path, description = "Registry name"), ("version" = u32, Path, description = "Version, from 1")), responses(
    (status = 200, description = "Its card", body = Card),
    (status = 404, description = "No such version", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn card(State(state): State<AppState>, Path((name, version)): Path<(String, u32)>) -> Result<Json<Card>> {
    let card = state.on_volumes(move |volumes| {
        let version = volumes.version(&name, version)?;
        let dataset = volumes.dataset(&version.manifest.dataset).ok();
        Ok(Card::of(&version.manifest, &version.results()?, dataset.as_ref().map(|dataset| &dataset.manifest)))
    });
    Ok(Json(card.await?))
}

/// Deletes a version. Its number is not given again.
#[utoipa::path(delete, path = "/api/models/{name}/{version}", operation_id = "delete_version", tag = "models",
    params(("name" = String, Path, description = "Registry name"), ("version" = u32, Path, description = "Version, from 1")), responses(
    (status = 204, description = "It is gone"),
    (status = 404, description = "No such version", body = ErrorBody),
    (status = 409, description = "It is in use, gets requests, or is about to", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn delete(State(state): State<AppState>, Path((name, version)): Path<(String, u32)>) -> Result<StatusCode> {
    remove(&state, name, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a version that nobody uses.
///
/// # Errors
/// `Conflict` if it is in use, gets requests, or is about to; the engine's error if it does not tell.
pub(super) async fn remove(state: &AppState, name: String, version: u32) -> Result<()> {
    let told = name.clone();
    state.on_volumes(move |volumes| Ok(volumes.version(&told, version)?)).await?;
    if state.functions.is_known() {
        let status = state.functions.status().await?;
        if Usage::of(&status, &name, version).is_some_and(|usage| usage.is_wanted()) {
            let message = format!(
                "model version {name} v{version} gets requests, or is about to; give its part to another version first"
            );
            return Err(WebError::refused(ErrorCode::Conflict, message));
        }
    }
    state.on_volumes(move |volumes| Ok(volumes.delete_version(&name, version)?)).await
}

/// Which version to put into use.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Version, from 1.
    pub(super) version: u32,
    /// Its part of the requests, 1 to 100; those that serve now keep the rest. All when absent.
    #[serde(default = "all")]
    pub(super) percent: u32,
}

fn all() -> u32 {
    100
}

/// What was wished for.
#[derive(Serialize, ToSchema)]
pub struct Published {
    /// Registry name.
    name: String,
    /// Version.
    version: u32,
    /// Its part of the requests.
    percent: u32,
}

/// Puts a version into use, wholly or with a part of the requests.
///
/// Nothing changes for whoever asks for predictions until the version is ready.
#[utoipa::path(put, path = "/api/models/{name}/current", tag = "models", request_body = Chosen,
    params(("name" = String, Path, description = "Registry name")), responses(
    (status = 200, description = "It has this part", body = Published),
    (status = 202, description = "It is being made ready; `publications` of `GET /api/models/{name}` tells how far it is", body = Published),
    (status = 404, description = "No such version", body = ErrorBody),
    (status = 409, description = "It has every request already, and nothing else serves", body = ErrorBody),
    (status = 422, description = "No percentage from 1 to 100", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn set_current(
    State(state): State<AppState>,
    Path(name): Path<String>,
    Json(Chosen { version, percent }): Json<Chosen>,
) -> Result<Response> {
    publish(&state, &name, version, percent).await?;
    let has_it = match status(&state).await.and_then(|status| Usage::of(&status, &name, version)) {
        Some(usage) => usage.percent == percent && usage.publication.is_none(),
        None => true,
    };
    let code = if has_it { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((code, Json(Published { name, version, percent })).into_response())
}

/// Gives a version this part of the requests.
///
/// # Errors
/// As [`crate::functions::Functions::publish`]; `Unprocessable` if the part is none.
pub(super) async fn publish(state: &AppState, name: &str, version: u32, percent: u32) -> Result<()> {
    if !(1..=100).contains(&percent) {
        let message = format!("percent is {percent}; expected 1 to 100");
        return Err(WebError::refused(ErrorCode::Unprocessable, message));
    }
    store::check_name("model", name)?;
    let known = known_before(state, name, version).await;
    match state.functions.publish(name, version, percent).await {
        Err(WebError::Store(StoreError::NotFound { .. })) => {
            Err(WebError::not_found(format!("model {name} has no version {version}")))
        }
        Err(other) => Err(other),
        Ok(()) => {
            log_choice(name, version, percent, known);
            Ok(())
        }
    }
}

/// The version in use, and what the run of another one decided about it.
async fn known_before(state: &AppState, name: &str, version: u32) -> Result<(Option<u32>, Option<Promotion>)> {
    let name = name.to_owned();
    let known = state.on_volumes(move |volumes| {
        Ok((volumes.current(&name)?, volumes.version(&name, version)?.results()?.promotion))
    });
    known.await
}

/// What a person chose can be read in the log, and whether a run had decided otherwise.
fn log_choice(model: &str, version: u32, percent: u32, known: Result<(Option<u32>, Option<Promotion>)>) {
    match known {
        Ok((before, Some(verdict))) if !verdict.has_passed() => {
            let gate = verdict.reason.as_str();
            tracing::warn!(
                model,
                version,
                percent,
                before,
                gate,
                "a person puts a version into use that its run held back"
            );
        }
        Ok((before, _)) => tracing::info!(model, version, percent, before, "a person puts a version into use"),
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(
                model,
                version,
                percent,
                error,
                "a person puts a version into use; its results cannot be read"
            );
        }
    }
}
