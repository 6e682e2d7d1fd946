//! `/api/predict`.

use std::time::Duration;

use api::{ErrorBody, ErrorCode, ErrorDetail, predict::Prediction};
use axum::{
    Json,
    body::to_bytes,
    extract::{FromRequest, Multipart, Query, Request, State, multipart::Field},
};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::{Result, WebError},
    inference::{PictureFile, Wanted},
    receive::media_type,
    state::AppState,
};

/// Largest picture file; a larger one is an error in its own place.
const PICTURE_BYTES: usize = 32 << 20;

/// How long pictures wait for a model that is published and not served yet: the first one is being baked.
const MODEL_PATIENCE: Duration = Duration::from_secs(60);

/// How often the function is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// What answers should hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Answering {
    /// Whether each answer repeats its picture as a `data:` URL; it does when absent.
    include_images: Option<bool>,
    /// How many labels to rank; 5 when absent.
    top_k: Option<usize>,
}

impl From<Answering> for Wanted {
    fn from(answering: Answering) -> Self {
        Self { include_images: answering.include_images.unwrap_or(true), top_k: answering.top_k }
    }
}

/// A form of picture files; the fields' names do not matter.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form; read field by field")]
pub struct PicturesForm {
    /// Picture files.
    #[schema(value_type = Vec<String>, format = Binary)]
    pictures: Vec<Vec<u8>>,
}

/// Classifies pictures.
///
/// A form of picture files under any names, or one picture as the body. One entry per picture, in order; what is wrong
/// with a picture is told in its entry. Of a single picture as the body, it is the error of the request.
#[utoipa::path(post, path = "/api/predict", tag = "predict",
    params(Answering),
    request_body(description = "A form, or one picture", content(
        (PicturesForm = "multipart/form-data"),
        (Vec<u8> = "image/*"),
        (Vec<u8> = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "One entry per picture", body = Vec<Prediction>),
        (status = 413, description = "The request is larger than the limit", body = ErrorBody),
        (status = 502, description = "The inference function does not answer as it should", body = ErrorBody),
        (status = 503, description = "The inference function is away or has no model", body = ErrorBody),
        (status = "default", description = "Anything else", body = ErrorBody),
    )
)]
pub async fn predict(
    State(state): State<AppState>,
    Query(answering): Query<Answering>,
    request: Request,
) -> Result<Json<Vec<Prediction>>> {
    let kind = media_type(&request);
    if kind == "multipart/form-data" {
        return Ok(Json(predict_form(&state, request, answering.into()).await?));
    }
    if !kind.is_empty() && !kind.starts_with("image/") && kind != "application/octet-stream" {
        let message = format!("the body is {kind:?}; expected multipart/form-data with files, or a picture");
        return Err(WebError::refused(ErrorCode::UnsupportedFormat, message));
    }
    let bytes = to_bytes(request.into_body(), PICTURE_BYTES).await.map_err(|_| WebError::Refused(too_large()))?;
    if bytes.is_empty() {
        return Err(WebError::refused(ErrorCode::Empty, "the body is empty; send a picture"));
    }
    let predictions = classify(&state, vec![PictureFile { name: None, bytes: Ok(bytes) }], answering.into()).await?;
    match predictions.first().and_then(|only| only.error.clone()) {
        Some(error) => Err(WebError::Refused(error)),
        None => Ok(Json(predictions)),
    }
}

/// Classifies every file of a form.
pub async fn predict_form(state: &AppState, request: Request, wanted: Wanted) -> Result<Vec<Prediction>> {
    let mut form = Multipart::from_request(request, state)
        .await
        .map_err(|e| WebError::refused(ErrorCode::BadRequest, e.body_text()))?;
    let mut pictures = vec![];
    while let Some(field) = form.next_field().await? {
        // A field without a file name is no file; an empty one is a file input in which nothing was chosen.
        let Some(name) = field.file_name().filter(|name| !name.is_empty()).map(str::to_owned) else { continue };
        let bytes = picture(field).await?;
        pictures.push(PictureFile { name: Some(name), bytes });
    }
    if pictures.is_empty() {
        return Err(WebError::refused(ErrorCode::BadRequest, "the form brings no picture; choose one or more"));
    }
    classify(state, pictures, wanted).await
}

/// Asks the function; again and again while it has no model although one is in use.
async fn classify(state: &AppState, pictures: Vec<PictureFile>, wanted: Wanted) -> Result<Vec<Prediction>> {
    let deadline = Instant::now() + MODEL_PATIENCE;
    loop {
        let outcome = state.inference.predict(pictures.clone(), wanted).await;
        let is_early = matches!(&outcome, Err(error) if error.detail().code == ErrorCode::Unavailable)
            && Instant::now() < deadline
            && state.inference.is_without_model().await
            && has_version(state).await?;
        if !is_early {
            return outcome;
        }
        sleep(ASK_EVERY).await;
    }
}

/// Whether a version of the model is in use.
async fn has_version(state: &AppState) -> Result<bool> {
    let (volumes, model) = (state.config.volumes.clone(), state.config.model.clone());
    Ok(tokio::task::spawn_blocking(move || volumes.current(&model)).await??.is_some())
}

async fn picture(mut field: Field<'_>) -> Result<Result<Bytes, ErrorDetail>> {
    let mut bytes = BytesMut::new();
    let mut fits = true;
    while let Some(chunk) = field.chunk().await? {
        fits &= bytes.len() + chunk.len() <= PICTURE_BYTES;
        if fits {
            bytes.extend_from_slice(&chunk);
        }
    }
    Ok(if fits { Ok(bytes.freeze()) } else { Err(too_large()) })
}

fn too_large() -> ErrorDetail {
    let limit = bytesize::ByteSize(PICTURE_BYTES as u64);
    ErrorDetail::new(ErrorCode::TooLarge, format!("the picture is larger than {limit}"))
}
