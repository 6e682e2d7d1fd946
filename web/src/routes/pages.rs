//! Handlers of the start page, of uploads and of classification: gather what a template shows, translate forms.

use std::time::Duration;

use api::{functions::Status, model::ModelManifest};
use axum::{
    extract::{Path, Request, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use http::StatusCode;
use store::{StoreError, Volumes};
use tokio::time;

use super::predict::predict_form;
use crate::{
    error::{Result, chain},
    functions::Usage,
    inference::Wanted,
    pages::{self, page},
    receive,
    runs::RunView,
    state::AppState,
    uploads::UploadState,
};

/// How long a page waits for what it can do without.
const QUICK: Duration = Duration::from_secs(2);

pub(super) type Page = Result<Html<String>>;

/// `GET /`.
pub async fn home(State(state): State<AppState>) -> Page {
    let name = state.config.model.clone();
    let status = quick_status(&state).await;
    let home = state.on_volumes(move |volumes| {
        Ok(pages::Home {
            nav: "",
            model: model_in_use(volumes, status.as_ref(), &name),
            run: volumes.runs()?.iter().find_map(|run| RunView::of(run).ok()),
            datasets: volumes.datasets()?.into_iter().map(|dataset| dataset.manifest).collect(),
        })
    });
    page(&home.await?)
}

/// What the engine tells, or nothing where that takes too long for a page that is about something else.
pub(super) async fn quick_status(state: &AppState) -> Option<Status> {
    if !state.functions.is_known() {
        return None;
    }
    time::timeout(QUICK, state.functions.status()).await.ok()?.ok()
}

/// What a version is used for; by the registry's own pointer where no engine tells.
pub(super) fn usage_of(volumes: &Volumes, status: Option<&Status>, model: &str, version: u32) -> Usage {
    let told = status.and_then(|status| Usage::of(status, model, version));
    told.unwrap_or_else(|| Usage::pointed(pointer(volumes.current(model)) == Some(version)))
}

/// Where a registry's pointer leads; nowhere if it is damaged.
pub(super) fn pointer(read: store::Result<Option<u32>>) -> Option<u32> {
    read.unwrap_or_else(|error| {
        tracing::warn!(error = chain(&error), "a pointer of the registry cannot be read");
        None
    })
}

/// The version that gets most of the requests; the registry's own pointer where no engine tells. Its name where it cannot
/// be read.
fn model_in_use(volumes: &Volumes, status: Option<&Status>, name: &str) -> Option<Result<ModelManifest, String>> {
    let used = status.and_then(|status| Usage::most_used(status, name));
    let version = used.or_else(|| pointer(volumes.current(name)))?;
    let read = volumes.version(name, version).map_err(|error| {
        tracing::warn!(error = chain(&error), "the version in use cannot be read");
        format!("{name} v{version}")
    });
    Some(read.map(|version| version.manifest))
}

/// `GET /training_page`.
pub async fn train(State(state): State<AppState>) -> Page {
    let train = state.on_volumes(|volumes| {
        let datasets: Vec<_> = volumes.datasets()?.into_iter().map(|dataset| dataset.manifest).collect();
        let is_damaged = |id: &String| match volumes.dataset(id) {
            Ok(_) | Err(StoreError::NotFound { .. }) => false,
            Err(error) => {
                tracing::warn!(dataset = id, error = chain(&error), "a dataset cannot be read");
                true
            }
        };
        let is_missing = |id: &String| datasets.iter().all(|dataset| dataset.id != *id);
        let unreadable = volumes.dataset_ids()?.into_iter().filter(is_missing).filter(is_damaged).collect();
        Ok(pages::Train { nav: "train", datasets, unreadable })
    });
    page(&train.await?)
}

/// `POST /datasets`: the upload of a browser without scripts.
pub async fn upload(State(state): State<AppState>, request: Request) -> Result<Redirect> {
    let received = receive::receive(&state, request).await?;
    let view = state.uploads.begin(&state, received.upload, received.options)?;
    let page = view.borrow().links.page.clone();
    Ok(Redirect::to(&page))
}

/// `GET /uploads/{id}`: how far it is, then the dataset's page or why there is none.
pub async fn upload_state(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response> {
    let view = state.uploads.find(&id)?.borrow().clone();
    match (view.state, &view.dataset) {
        (UploadState::Succeeded, Some(dataset)) => Ok(Redirect::to(&format!("/datasets/{dataset}")).into_response()),
        _ => Ok(page(&pages::Upload { nav: "train", view })?.into_response()),
    }
}

/// `GET /uploads/{id}/live`: the part of the page that changes.
pub async fn upload_live(State(state): State<AppState>, Path(id): Path<String>) -> Page {
    let view = state.uploads.find(&id)?.borrow().clone();
    page(&pages::UploadLive { view })
}

/// `GET /inference_page`.
pub async fn classify(State(state): State<AppState>) -> Page {
    page(&classify_page(&state).await?)
}

async fn classify_page(state: &AppState) -> Result<pages::Classify> {
    let name = state.config.model.clone();
    let status = quick_status(state).await;
    let model = state.on_volumes(move |volumes| Ok(model_in_use(volumes, status.as_ref(), &name))).await?;
    Ok(pages::Classify { nav: "classify", model, predictions: vec![], problem: None })
}

/// `POST /inference_page_2`: the form's pictures and their answers.
pub async fn classify_form(State(state): State<AppState>, request: Request) -> Result<Response> {
    let mut shown = classify_page(&state).await?;
    let wanted = Wanted { include_images: true, top_k: None };
    let status = match predict_form(&state, request, wanted).await {
        Ok(predictions) => {
            shown.predictions = predictions;
            StatusCode::OK
        }
        Err(error) => {
            let detail = error.detail();
            tracing::warn!(error = chain(&error), "pictures were not classified");
            shown.problem = Some(detail.message);
            StatusCode::from_u16(detail.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    Ok((status, page(&shown)?).into_response())
}
