//! `/api/datasets` and `/api/uploads`.

use std::collections::BTreeSet;

use api::{
    ErrorBody,
    dataset::{DatasetManifest, PictureRecord, Split},
};
use axum::{
    Json,
    extract::{Path, Query, Request, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::{Result, WebError},
    events,
    receive::{self, Choices, UploadForm},
    state::AppState,
    uploads::{self, UploadState, UploadView},
};

/// Pictures told at once unless asked otherwise.
const DEFAULT_LIMIT: usize = 100;

/// Most pictures told at once.
const MAX_LIMIT: usize = 1000;

/// Datasets are immutable, so what is read of one never changes.
const FOREVER: (header::HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=31536000, immutable");

/// Whether to wait for the end.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Waiting {
    /// Answer when the dataset is there (or has failed), not when the upload has arrived.
    #[serde(default)]
    wait: bool,
}

/// Uploads pictures with their labels.
///
/// Either a form (an archive, or files for each class) or an archive as the body. The upload is received, then becomes
/// a dataset in the background; `wait=true` answers when it has.
#[utoipa::path(post, path = "/api/datasets", operation_id = "upload_dataset", tag = "datasets",
    params(Waiting, Choices),
    request_body(description = "A form, or a ZIP or tar file", content(
        (UploadForm = "multipart/form-data"),
        (Vec<u8> = "application/zip"),
        (Vec<u8> = "application/x-tar"),
        (Vec<u8> = "application/gzip"),
    )),
    responses(
        (status = 200, description = "With `wait`: the very same dataset was there before", body = DatasetManifest),
        (status = 201, description = "With `wait`: a new dataset", body = DatasetManifest),
        (status = 202, description = "Received; the dataset is being made", body = UploadView),
        (status = 413, description = "The upload is larger than the limit", body = ErrorBody),
        (status = 422, description = "The upload cannot become a dataset", body = ErrorBody),
        (status = "default", description = "Anything else", body = ErrorBody),
    )
)]
pub async fn upload(State(state): State<AppState>, request: Request) -> Result<Response> {
    let (waiting, request) = take_waiting(request)?;
    let received = receive::receive(&state, request).await?;
    let view = state.uploads.begin(&state, received.upload, received.options)?;
    if !waiting.wait {
        let view = view.borrow().clone();
        let location = [(header::LOCATION, view.links.this.clone())];
        return Ok((StatusCode::ACCEPTED, location, Json(view)).into_response());
    }
    let (manifest, existed) = published(&state, uploads::finished(view).await?).await?;
    let status = if existed { StatusCode::OK } else { StatusCode::CREATED };
    let location = [(header::LOCATION, format!("/api/datasets/{}", manifest.id))];
    Ok((status, location, Json(manifest)).into_response())
}

/// Takes `wait` off the query, whose other fields concern the dataset.
fn take_waiting(mut request: Request) -> Result<(Waiting, Request)> {
    let query = request.uri().query().unwrap_or_default();
    let (waits, others): (Vec<_>, Vec<_>) =
        query.split('&').filter(|pair| !pair.is_empty()).partition(|pair| pair.split('=').next() == Some("wait"));
    let wait = match waits.last().map(|pair| pair.split_once('=').map_or("", |(_, value)| value)) {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(other) => {
            let message = format!("wait is {other:?}; expected true or false");
            return Err(WebError::refused(api::ErrorCode::BadRequest, message));
        }
    };
    let rest = format!("{}?{}", request.uri().path(), others.join("&"));
    if let Ok(uri) = rest.parse() {
        *request.uri_mut() = uri;
    }
    Ok((Waiting { wait }, request))
}

/// The dataset that came of an upload, and whether it was there before.
///
/// # Errors
/// What the upload failed for.
pub async fn published(state: &AppState, view: UploadView) -> Result<(DatasetManifest, bool)> {
    match (view.state, view.dataset, view.error) {
        (UploadState::Succeeded, Some(id), _) => {
            let manifest = state.on_volumes(move |volumes| Ok(volumes.dataset(&id)?.manifest)).await?;
            Ok((manifest, view.existed.unwrap_or(false)))
        }
        (_, _, Some(error)) => Err(WebError::Refused(error)),
        _ => Err(WebError::refused(api::ErrorCode::Internal, "the upload ended without a result")),
    }
}

/// What an upload is doing, and what became of it.
#[utoipa::path(get, path = "/api/uploads/{id}", operation_id = "get_upload", tag = "datasets", params(("id" = String, Path, description = "Id of the upload")), responses(
    (status = 200, description = "The upload", body = UploadView),
    (status = 404, description = "No such upload", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn upload_state(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<UploadView>> {
    let view = state.uploads.find(&id)?.borrow().clone();
    Ok(Json(view))
}

/// The same as server-sent events, whenever it changes.
#[utoipa::path(get, path = "/api/uploads/{id}/events", operation_id = "follow_upload", tag = "datasets", params(("id" = String, Path, description = "Id of the upload")), responses(
    (status = 200, description = "One event per change, its data the JSON of an `UploadView`", content_type = "text/event-stream", body = String),
    (status = 404, description = "No such upload", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn upload_events(State(state): State<AppState>, Path(id): Path<String>) -> Result<impl IntoResponse> {
    Ok(events::of_upload(&state, state.uploads.find(&id)?))
}

/// All datasets, newest first.
#[utoipa::path(get, path = "/api/datasets", operation_id = "list_datasets", tag = "datasets", responses(
    (status = 200, description = "Their manifests", body = Vec<DatasetManifest>),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn list(State(state): State<AppState>) -> Result<Json<Vec<DatasetManifest>>> {
    let datasets = state.on_volumes(|volumes| Ok(volumes.datasets()?)).await?;
    Ok(Json(datasets.into_iter().map(|dataset| dataset.manifest).collect()))
}

/// One dataset.
#[utoipa::path(get, path = "/api/datasets/{id}", operation_id = "get_dataset", tag = "datasets", params(("id" = String, Path, description = "Id of the dataset")), responses(
    (status = 200, description = "Its manifest", body = DatasetManifest),
    (status = 404, description = "No such dataset", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn show(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<DatasetManifest>> {
    Ok(Json(state.on_volumes(move |volumes| Ok(volumes.dataset(&id)?.manifest)).await?))
}

/// Deletes a dataset. Models that were made from it stay.
#[utoipa::path(delete, path = "/api/datasets/{id}", operation_id = "delete_dataset", tag = "datasets", params(("id" = String, Path, description = "Id of the dataset")), responses(
    (status = 204, description = "It is gone"),
    (status = 404, description = "No such dataset", body = ErrorBody),
    (status = 409, description = "A run that has not ended uses it", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn delete(State(state): State<AppState>, Path(id): Path<String>) -> Result<StatusCode> {
    state.on_volumes(move |volumes| Ok(volumes.delete_dataset(&id)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What to leave out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Paths of pictures, as the dataset names them.
    remove: BTreeSet<String>,
}

/// Makes a dataset without some pictures of this one, which stays as it is. What stays keeps its split.
#[utoipa::path(post, path = "/api/datasets/{id}/derive", operation_id = "derive_dataset", tag = "datasets", request_body = LeftOut, params(("id" = String, Path, description = "Id of the dataset")), responses(
    (status = 200, description = "The very same dataset was there before", body = DatasetManifest),
    (status = 201, description = "A new dataset", body = DatasetManifest),
    (status = 404, description = "No such dataset", body = ErrorBody),
    (status = 422, description = "A path is of no picture, or a class or split would be too small", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn derive(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(LeftOut { remove }): Json<LeftOut>,
) -> Result<Response> {
    let made_by = concat!("fovea-web ", env!("CARGO_PKG_VERSION"));
    let derived =
        state.on_volumes(move |volumes| Ok(volumes.derive_dataset(&volumes.dataset(&id)?, &remove, made_by)?)).await?;
    let manifest = derived.dataset.manifest;
    let status = if derived.existed { StatusCode::OK } else { StatusCode::CREATED };
    let location = [(header::LOCATION, format!("/api/datasets/{}", manifest.id))];
    Ok((status, location, Json(manifest)).into_response())
}

/// Which pictures to tell.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Selection {
    /// Only of this split.
    split: Option<Split>,
    /// Only of this class.
    class: Option<String>,
    /// How many to pass over.
    #[serde(default)]
    offset: usize,
    /// How many to tell, at most 1000; 100 when absent.
    limit: Option<usize>,
}

/// Some pictures of a dataset.
#[derive(Serialize, ToSchema)]
pub struct PicturePage {
    /// How many there are in the selection.
    total: usize,
    /// These.
    pictures: Vec<RowView>,
}

/// A picture of a dataset.
#[derive(Serialize, ToSchema)]
pub struct RowView {
    /// Its row over all splits: train first, then validation, then test.
    row: usize,
    /// Where its pixels are, as PNG.
    url: String,
    /// What is known of it.
    #[serde(flatten)]
    record: PictureRecord,
}

/// Pictures of a dataset, in the order of rows.
#[utoipa::path(get, path = "/api/datasets/{id}/pictures", operation_id = "list_pictures", tag = "datasets", params(("id" = String, Path, description = "Id of the dataset"), Selection), responses(
    (status = 200, description = "The selection", body = PicturePage),
    (status = 404, description = "No such dataset or class", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn pictures(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(selection): Query<Selection>,
) -> Result<Json<PicturePage>> {
    let page = state.on_volumes(move |volumes| {
        let dataset = volumes.dataset(&id)?;
        let class = match &selection.class {
            None => None,
            Some(name) => {
                let index = dataset.manifest.classes.iter().position(|class| class.name == *name);
                let missing = || WebError::not_found(format!("dataset {id:?} has no class {name:?}"));
                Some(index.ok_or_else(missing)? as u32)
            }
        };
        let records = dataset.pictures()?.into_iter().enumerate();
        let selected: Vec<_> = records
            .filter(|(_, record)| selection.split.is_none_or(|split| record.split == split))
            .filter(|(_, record)| class.is_none_or(|class| record.label == class))
            .collect();
        let total = selected.len();
        let limit = selection.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
        let view = |(row, record)| RowView { row, url: format!("/api/datasets/{id}/pictures/{row}.png"), record };
        Ok(PicturePage { total, pictures: selected.into_iter().skip(selection.offset).take(limit).map(view).collect() })
    });
    Ok(Json(page.await?))
}

/// One picture of a dataset, as the network sees it.
#[utoipa::path(get, path = "/api/datasets/{id}/pictures/{file}", operation_id = "get_picture", tag = "datasets",
    params(("id" = String, Path, description = "Id of the dataset"), ("file" = String, Path, description = "The picture's row and `.png`")), responses(
    (status = 200, description = "The picture", content_type = "image/png", body = Vec<u8>),
    (status = 404, description = "No such dataset or row", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn picture(State(state): State<AppState>, Path((id, file)): Path<(String, String)>) -> Result<Response> {
    let missing = move |id: &str, file: &str| WebError::not_found(format!("dataset {id:?} has no picture {file:?}"));
    let png = state.on_volumes(move |volumes| {
        let dataset = volumes.dataset(&id)?;
        let row = file.strip_suffix(".png").and_then(|row| row.parse::<u64>().ok());
        let mut row = row.ok_or_else(|| missing(&id, &file))?;
        for split in Split::ALL {
            let n_rows: u64 = dataset.manifest.classes.iter().map(|class| class.of(split)).sum();
            if row < n_rows {
                let pixels = dataset.pixels(split)?;
                return Ok(imaging::encode_png(pixels.image(row as usize), &dataset.manifest.preprocess));
            }
            row -= n_rows;
        }
        Err(missing(&id, &file))
    });
    Ok(([(header::CONTENT_TYPE, "image/png"), FOREVER], png.await?).into_response())
}
