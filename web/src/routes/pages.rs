//! Handlers of the pages: gather what a template shows, translate forms.

use api::{ErrorCode, dataset::Split, model::ModelManifest, train::RunState};
use axum::{
    Form,
    extract::{Path, Request, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use http::StatusCode;
use serde::Deserialize;
use store::{Dataset, Run, Volumes};

use super::{predict::predict_form, runs as run_routes};
use crate::{
    chart,
    error::{Result, WebError},
    form::{self, Typed},
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

type Page = Result<Html<String>>;

/// `GET /`.
pub async fn home(State(state): State<AppState>) -> Page {
    let name = state.config.model.clone();
    let home = state.on_volumes(move |volumes| {
        Ok(pages::Home {
            nav: "",
            model: current_model(volumes, &name)?,
            run: volumes.runs()?.first().map(RunView::of).transpose()?,
            datasets: volumes.datasets()?.into_iter().map(|dataset| dataset.manifest).collect(),
        })
    });
    page(&home.await?)
}

fn current_model(volumes: &Volumes, name: &str) -> Result<Option<ModelManifest>> {
    match volumes.current(name)? {
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
    let (backbone, model) = (state.config.backbone_installed, state.config.model.clone());
    state
        .on_volumes(move |volumes| {
            let dataset = volumes.dataset(&id)?;
            Ok(pages::Dataset {
                nav: "train",
                samples: samples(&dataset)?,
                rejects: pages::Rejects::by_reason(&dataset.manifest.rejected),
                form: form::Form::new(backbone, runs::picture_side(&dataset), &model, &typed, &wrong),
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
    let backbone = state.config.backbone_installed;
    let dataset = id.clone();
    let side = state.on_volumes(move |volumes| Ok(runs::picture_side(&volumes.dataset(&dataset)?))).await?;
    let model = typed.get("model").map(|model| model.trim().to_owned()).filter(|model| !model.is_empty());
    let mut wrong = vec![];
    if let Some(Err(e)) = model.as_deref().map(|model| store::check_name("model", model)) {
        wrong.push(e.to_string());
    }
    let (hyperparameters, unreadable) = form::parse(&typed);
    wrong.extend(unreadable);
    wrong.extend(hyperparameters.resolve(backbone, side).err().into_iter().flatten());
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
    let page_of_run = state.on_volumes(move |volumes| {
        let run = volumes.run(&id)?;
        let view = RunView::of(&run)?;
        let live = Live::of(&run)?;
        let succeeded = view.status.state == RunState::Succeeded;
        let results = if succeeded { run.results()? } else { None };
        let curves = results.as_ref().map_or(&live.curves, |results| &results.curves);
        Ok(pages::Run {
            nav: "runs",
            accuracy_chart: chart::accuracy(curves),
            loss_chart: chart::loss(curves),
            is_current: view.status.version.is_some() && volumes.current(&view.model)? == view.status.version,
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
    let live = state.on_volumes(move |volumes| Live::of(&volumes.run(&id)?)).await?;
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
    let model = state.on_volumes(move |volumes| current_model(volumes, &name)).await?;
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

/// `GET /models`.
pub async fn models(State(state): State<AppState>) -> Page {
    let models = state.on_volumes(|volumes| {
        let named = |name: String| {
            Ok(pages::NamedModel {
                current: volumes.current(&name)?,
                versions: volumes.versions(&name)?.into_iter().map(|version| version.manifest).collect(),
                name,
            })
        };
        let models: Vec<_> = volumes.model_names()?.into_iter().map(named).collect::<Result<_>>()?;
        Ok(models.into_iter().filter(|model| !model.versions.is_empty()).collect())
    });
    page(&pages::Models { nav: "models", models: models.await? })
}

/// Form of "Put into use".
#[derive(Deserialize)]
pub struct Chosen {
    version: u32,
}

/// `POST /models/{name}/current`.
pub async fn set_current(
    State(state): State<AppState>,
    Path(name): Path<String>,
    Form(Chosen { version }): Form<Chosen>,
) -> Result<Redirect> {
    state
        .on_volumes(move |volumes| match volumes.set_current(&name, version) {
            Err(store::StoreError::NotFound { .. }) => {
                Err(WebError::refused(ErrorCode::NotFound, format!("model {name} has no version {version}")))
            }
            other => Ok(other?),
        })
        .await?;
    Ok(Redirect::to("/models"))
}
