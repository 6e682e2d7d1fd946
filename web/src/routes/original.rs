//! The routes of the system that this one succeeds, answering as it meant to.

use api::{
    ErrorBody, ErrorCode,
    dataset::DatasetManifest,
    predict::Prediction,
    train::{Hyperparameters, Results},
};
use axum::{
    Json,
    body::to_bytes,
    extract::{Request, State},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{
    datasets,
    predict::{PicturesForm, predict_form},
};
use crate::{
    error::{Result, WebError},
    inference::Wanted,
    receive::{self, UploadForm, media_type},
    runs::{self, Asked},
    state::AppState,
    uploads, words,
};

/// Largest JSON body.
const JSON_BYTES: usize = 64 << 10;

/// A dataset that is already here.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Uploaded {
    /// Its id; the newest when absent.
    dataset: Option<String>,
}

/// What processing came to.
#[derive(Serialize, ToSchema)]
pub struct ProcessAnswer {
    /// For people.
    message: String,
    /// Id of the dataset.
    dataset: String,
    /// Whether the very same dataset was there before.
    existed: bool,
    /// All about it.
    manifest: DatasetManifest,
}

/// Processes an upload and answers when its dataset is there; or looks an earlier one up.
#[utoipa::path(post, path = "/process", tag = "original",
    request_body(description = "A form or archive as for `POST /api/datasets`; or which earlier dataset is meant", content(
        (UploadForm = "multipart/form-data"),
        (Vec<u8> = "application/zip"),
        (Uploaded = "application/json"),
    )),
    responses(
        (status = 200, description = "The dataset", body = ProcessAnswer),
        (status = 404, description = "No such dataset", body = ErrorBody),
        (status = "default", description = "Anything else", body = ErrorBody),
    )
)]
pub async fn process(State(state): State<AppState>, request: Request) -> Result<Json<ProcessAnswer>> {
    let (manifest, existed) = if matches!(media_type(&request).as_str(), "" | "application/json") {
        let Uploaded { dataset } = body_or_default(request).await?;
        let found = state.on_volumes(move |volumes| Ok(runs::dataset_or_newest(volumes, dataset.as_deref())?.manifest));
        (found.await?, true)
    } else {
        let received = receive::receive(&state, request).await?;
        let view = state.uploads.begin(&state, received.upload, received.options)?;
        datasets::published(&state, uploads::finished(view).await?).await?
    };
    let message = format!(
        "{} of {} classes are processed",
        words::count(manifest.pictures, "picture", "pictures"),
        manifest.classes.len()
    );
    Ok(Json(ProcessAnswer { message, dataset: manifest.id.clone(), existed, manifest }))
}

/// What to train.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToTrain {
    /// Id of the dataset; the newest when absent.
    dataset: Option<String>,
    /// Settings; an absent one takes the family's default.
    hyperparameters: Hyperparameters,
    /// Registry name to publish under; the service's default when absent.
    model: Option<String>,
}

/// A training that has begun.
#[derive(Serialize, ToSchema)]
pub struct TrainAnswer {
    /// For people.
    message: String,
    /// Id of the run.
    run: String,
    /// Id of the dataset.
    dataset: String,
}

/// Starts training and answers at once.
#[utoipa::path(post, path = "/process_model", tag = "original", request_body = Option<ToTrain>, responses(
    (status = 200, description = "Training begins", body = TrainAnswer),
    (status = 404, description = "No such dataset", body = ErrorBody),
    (status = 422, description = "A setting is out of its range", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn process_model(State(state): State<AppState>, request: Request) -> Result<Json<TrainAnswer>> {
    let ToTrain { dataset, hyperparameters, model } = body_or_default(request).await?;
    let run = runs::create(&state, Asked { dataset, hyperparameters, model }).await?;
    let message = "training has begun; POST /training_finished with this run's id tells when it has ended".into();
    Ok(Json(TrainAnswer { message, run: run.spec.run, dataset: run.spec.dataset }))
}

/// Whose results.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Trained {
    /// Id of the run; the newest when absent.
    run: Option<String>,
}

/// The results of a run. Never those of another: while the run goes on, and if it failed, that is what is told.
#[utoipa::path(post, path = "/training_finished", tag = "original", request_body = Option<Trained>, responses(
    (status = 200, description = "The results", body = Results),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = 409, description = "The run has not ended, was cancelled, or failed; the message says why", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn training_finished(State(state): State<AppState>, request: Request) -> Result<Json<Results>> {
    let Trained { run } = body_or_default(request).await?;
    let results = state.on_volumes(move |volumes| runs::results(&runs::run_or_newest(volumes, run.as_deref())?));
    Ok(Json(results.await?))
}

/// Classifies the files of a form, whatever their fields are called.
#[utoipa::path(post, path = "/inference", tag = "original",
    request_body(content = PicturesForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "One entry per file, in order", body = Vec<Prediction>),
        (status = 503, description = "The inference function is away or has no model", body = ErrorBody),
        (status = "default", description = "Anything else", body = ErrorBody),
    )
)]
pub async fn inference(State(state): State<AppState>, request: Request) -> Result<Json<Vec<Prediction>>> {
    let wanted = Wanted { include_images: true, top_k: None };
    Ok(Json(predict_form(&state, request, wanted).await?))
}

/// The JSON of a body; the default of an empty one and of `null`, because the original's page sends none.
async fn body_or_default<T: DeserializeOwned + Default>(request: Request) -> Result<T> {
    let body = to_bytes(request.into_body(), JSON_BYTES).await;
    let body = body.map_err(|_| WebError::refused(ErrorCode::TooLarge, "the JSON body is larger than 64 KiB"))?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let wrong = |e| WebError::refused(ErrorCode::BadRequest, format!("the body is not what this address expects: {e}"));
    Ok(serde_json::from_slice::<Option<T>>(&body).map_err(wrong)?.unwrap_or_default())
}
