//! Handlers of the pages: gather what a template shows, translate forms.

use std::time::Duration;

use api::{dataset::Split, functions::Status, model::ModelManifest, train::RunState};
use axum::{
    Form,
    extract::{Path, Request, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use http::StatusCode;
use store::{Dataset, Run, Volumes};
use tokio::time;

use super::{predict::predict_form, runs as run_routes};
use crate::{
    chart,
    error::Result,
    form::{self, Typed},
    functions::Usage,
    inference::Wanted,
    pages::{self, page},
    receive,
    runs::{self, Asked, Live, RunView},
    state::AppState,
    uploads::UploadState,
};

/// Sample pictures shown of each class.
const SAMPLES: usize = 8;

/// Classes of which samples are shown.
const SAMPLED_CLASSES: usize = 40;

/// Bytes of the trainer's log on the page of a run that did not succeed.
const LOG_BYTES: u64 = 4 << 10;

/// How long a page waits for what it can do without.
const QUICK: Duration = Duration::from_secs(2);

type Page = Result<Html<String>>;

/// `GET /`.
pub async fn home(State(state): State<AppState>) -> Page {
    let name = state.config.model.clone();
    let status = quick_status(&state).await;
    let home = state.on_volumes(move |volumes| {
        Ok(pages::Home {
            nav: "",
            model: model_in_use(volumes, status.as_ref(), &name)?,
            run: volumes.runs()?.first().map(RunView::of).transpose()?,
            datasets: volumes.datasets()?.into_iter().map(|dataset| dataset.manifest).collect(),
        })
    });
    page(&home.await?)
}

/// What the engine tells, or nothing where that takes too long for a page that is about something else.
async fn quick_status(state: &AppState) -> Option<Status> {
    if !state.functions.is_known() {
        return None;
    }
    time::timeout(QUICK, state.functions.status()).await.ok()?.ok()
}

/// A version's part of the requests in percent; by the registry's own pointer where no engine tells.
fn part_of(volumes: &Volumes, status: Option<&Status>, model: &str, version: u32) -> Result<u32> {
    match status.and_then(|status| Usage::of(status, model, version)) {
        Some(usage) => Ok(usage.percent),
        None => Ok(if volumes.current(model)? == Some(version) { 100 } else { 0 }),
    }
}

/// The version that gets most of the requests; the registry's own pointer where no engine tells.
fn model_in_use(volumes: &Volumes, status: Option<&Status>, name: &str) -> Result<Option<ModelManifest>> {
    let used = status.and_then(|status| Usage::most_used(status, name));
    let version = match used {
        Some(version) => Some(version),
        None => volumes.current(name)?,
    };
    match version {
        Some(version) => Ok(Some(volumes.version(name, version)?.manifest)),
        None => Ok(None),
    }
}

/// `GET /training_page`.
pub async fn train(State(state): State<AppState>) -> Page {
    let datasets = state.on_volumes(|volumes| Ok(volumes.datasets()?)).await?;
    let datasets = datasets.into_iter().map(|dataset| dataset.manifest).collect();
    page(&pages::Train { nav: "train", datasets })
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

/// `GET /datasets/{id}`.
pub async fn dataset(State(state): State<AppState>, Path(id): Path<String>) -> Page {
    page(&dataset_page(&state, id, Typed::new(), vec![]).await?)
}

async fn dataset_page(state: &AppState, id: String, typed: Typed, wrong: Vec<String>) -> Result<pages::Dataset> {
    let (backbones, model) = (state.config.backbones.clone(), state.config.model.clone());
    state
        .on_volumes(move |volumes| {
            let dataset = volumes.dataset(&id)?;
            Ok(pages::Dataset {
                nav: "train",
                samples: samples(&dataset)?,
                rejects: pages::Rejects::by_reason(&dataset.manifest.rejected),
                form: form::Form::new(&backbones, runs::picture_side(&dataset), &model, &typed, &wrong),
                form_open: !wrong.is_empty(),
                m: dataset.manifest,
            })
        })
        .await
}

/// The first pictures of each class.
fn samples(dataset: &Dataset) -> Result<Vec<pages::Sample>> {
    let labels = dataset.labels();
    let mut samples: Vec<_> = labels.into_iter().map(|label| pages::Sample { label, rows: vec![] }).collect();
    let mut first_row = 0;
    for split in Split::ALL {
        let pixels = dataset.pixels(split)?;
        for (row, label) in (first_row..).zip(pixels.labels()) {
            let sample = &mut samples[*label as usize];
            if sample.rows.len() < SAMPLES {
                sample.rows.push(row);
            }
        }
        first_row += pixels.len() as u64;
    }
    samples.truncate(SAMPLED_CLASSES);
    Ok(samples)
}

/// `POST /datasets/{id}/train`: starts a run, or shows the form again with what is wrong.
pub async fn start_run(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let backbones = state.config.backbones.clone();
    let dataset = id.clone();
    let side = state.on_volumes(move |volumes| Ok(runs::picture_side(&volumes.dataset(&dataset)?))).await?;
    let model = typed.get("model").map(|model| model.trim().to_owned()).filter(|model| !model.is_empty());
    let mut wrong = vec![];
    if let Some(Err(e)) = model.as_deref().map(|model| store::check_name("model", model)) {
        wrong.push(e.to_string());
    }
    let (hyperparameters, unreadable) = form::parse(&typed);
    wrong.extend(unreadable);
    wrong.extend(hyperparameters.resolve(&backbones, side).err().into_iter().flatten());
    if wrong.is_empty() {
        let run = runs::create(&state, Asked { dataset: Some(id), hyperparameters, model }).await?;
        return Ok(Redirect::to(&format!("/runs/{}", run.id())).into_response());
    }
    let html = page(&dataset_page(&state, id, typed, wrong).await?)?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, html).into_response())
}

/// `GET /runs`.
pub async fn runs(State(state): State<AppState>) -> Page {
    let runs = state.on_volumes(|volumes| {
        let view = |run: &Run| {
            let view = RunView::of(run)?;
            let succeeded = view.status.state == RunState::Succeeded;
            let results = if succeeded { run.results()? } else { None };
            Ok((view, results.and_then(|results| results.test_accuracy)))
        };
        volumes.runs()?.iter().map(view).collect()
    });
    page(&pages::Runs { nav: "runs", runs: runs.await? })
}

/// `GET /runs/{id}`: live progress, then the results.
pub async fn run(State(state): State<AppState>, Path(id): Path<String>) -> Page {
    let hindrance = state.launcher.hindrance(&id);
    let status = quick_status(&state).await;
    let page_of_run = state.on_volumes(move |volumes| {
        let run = volumes.run(&id)?;
        let view = RunView::of(&run)?;
        let live = Live::of(&run, hindrance)?;
        let succeeded = view.status.state == RunState::Succeeded;
        let results = if succeeded { run.results()? } else { None };
        let curves = results.as_ref().map_or(&live.curves, |results| &results.curves);
        Ok(pages::Run {
            nav: "runs",
            accuracy_chart: chart::accuracy(curves),
            loss_chart: chart::loss(curves),
            is_current: match view.status.version {
                Some(version) => part_of(volumes, status.as_ref(), &view.model, version)? > 0,
                None => false,
            },
            log: if succeeded { String::new() } else { run.log_tail(LOG_BYTES) },
            dataset_name: volumes.dataset(&view.dataset).map_or(view.dataset.clone(), |dataset| dataset.manifest.name),
            run: view,
            live,
            results,
        })
    });
    page(&page_of_run.await?)
}

/// `GET /runs/{id}/live`: the part of the page that changes.
pub async fn run_live(State(state): State<AppState>, Path(id): Path<String>) -> Page {
    let hindrance = state.launcher.hindrance(&id);
    let live = state.on_volumes(move |volumes| Live::of(&volumes.run(&id)?, hindrance)).await?;
    page(&pages::RunLive { accuracy_chart: chart::accuracy(&live.curves), loss_chart: chart::loss(&live.curves), live })
}

/// `POST /runs/{id}/cancel`.
pub async fn cancel_run(State(state): State<AppState>, Path(id): Path<String>) -> Result<Redirect> {
    let run = run_routes::stop(&state, id).await?;
    Ok(Redirect::to(&format!("/runs/{}", run.id())))
}

/// `GET /results_page`: the newest run.
pub async fn newest_run(State(state): State<AppState>) -> Result<Redirect> {
    let run = state.on_volumes(|volumes| Ok(volumes.runs()?.into_iter().next())).await?;
    Ok(Redirect::to(&run.map_or_else(|| "/runs".to_owned(), |run| format!("/runs/{}", run.id()))))
}

/// `GET /inference_page`.
pub async fn classify(State(state): State<AppState>) -> Page {
    page(&classify_page(&state).await?)
}

async fn classify_page(state: &AppState) -> Result<pages::Classify> {
    let name = state.config.model.clone();
    let status = quick_status(state).await;
    let model = state.on_volumes(move |volumes| model_in_use(volumes, status.as_ref(), &name)).await?;
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
            tracing::warn!(error = crate::error::chain(&error), "pictures were not classified");
            shown.problem = Some(detail.message);
            StatusCode::from_u16(detail.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    Ok((status, page(&shown)?).into_response())
}
