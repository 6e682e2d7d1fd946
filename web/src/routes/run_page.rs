//! Handlers of a run's page: gather what its template shows, translate its forms.

use api::{
    dataset::Split,
    functions::Status,
    train::{Results, RunLabel, RunState},
};
use axum::{
    Form,
    extract::{Path, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use serde::Deserialize;
use store::{Dataset, Run, StoreError, Volumes};

use super::{
    charts,
    pages::{Page, quick_status, usage_of},
    runs as run_routes,
};
use crate::{
    chart,
    error::{Result, WebError},
    form::{self, Typed},
    live::Live,
    pages::{self, Charts, Outcome, ShownSuspect, page},
    predictions::{self, Wanted},
    runs::{self, RunView},
    state::AppState,
};

/// Bytes of the trainer's log on the page of a run that did not succeed.
const LOG_BYTES: u64 = 4 << 10;

/// Mistakes shown on the run's own page.
const MISTAKES: usize = 12;

/// Pictures on one page.
const PICTURES: usize = 60;

/// Suspects shown; all are in the results.
const SUSPECTS: usize = 100;

/// `GET /runs/{id}`: live progress, then the results.
pub async fn show(State(state): State<AppState>, Path(id): Path<String>) -> Page {
    page(&run_page(&state, id, None).await?)
}

/// With the label that was refused and why, if one was.
async fn run_page(state: &AppState, id: String, refused: Option<(RunLabel, String)>) -> Result<pages::Run> {
    let hindrance = state.launcher.hindrance(&id);
    let status = quick_status(state).await;
    let page_of_run = state.on_volumes(move |volumes| {
        let run = volumes.run(&id)?;
        let view = RunView::of(&run)?;
        let live = Live::of(&run, hindrance)?;
        let results = results_of(&run, &view)?;
        let dataset = volumes.dataset(&view.dataset).ok();
        let curves = results.as_ref().map_or(&live.curves, |results| &results.curves);
        let curves = chart::curves(curves, results.as_ref().map(|results| results.best_epoch));
        let candidates = match &results {
            Some(results) => results.leaderboard.clone(),
            None => live.leaderboard(),
        };
        let log = if results.is_some() { String::new() } else { run.log_tail(LOG_BYTES) };
        let (view, label_error) = match refused {
            Some((label, error)) => (RunView { label, ..view }, Some(error)),
            None => (view, None),
        };
        Ok(pages::Run {
            nav: "runs",
            label_error,
            dataset_name: dataset.as_ref().map(|dataset| dataset.manifest.name.clone()),
            has_original: view.retry_of.as_deref().is_some_and(|run| runs::is_there(volumes, run)),
            candidates,
            best: chart::best(&live.trials),
            curves,
            charts: Charts::below(&format!("/runs/{}", view.id)),
            outcome: match results {
                Some(results) => Some(outcome(volumes, &run, &view, dataset.as_ref(), status.as_ref(), results)?),
                None => None,
            },
            log,
            run: view,
            live,
        })
    });
    page_of_run.await
}

/// What came out of a run, if it has succeeded.
pub(super) fn results_of(run: &Run, view: &RunView) -> Result<Option<Results>> {
    Ok(if view.status.state == RunState::Succeeded { run.results()? } else { None })
}

fn outcome(
    volumes: &Volumes,
    run: &Run,
    view: &RunView,
    dataset: Option<&Dataset>,
    status: Option<&Status>,
    results: Results,
) -> Result<Outcome> {
    let labels = &results.labels;
    let has_predictions = run.predictions()?.is_some();
    let mistakes = if has_predictions {
        let wanted = Wanted { split: Some(Split::Test), wrong: true, limit: MISTAKES, ..Wanted::default() };
        let selected = predictions::select(run, labels, &wanted)?.predictions;
        selected.into_iter().map(|one| predictions::shown(one, labels, dataset)).collect()
    } else {
        vec![]
    };
    let usage = view.status.version.map(|version| usage_of(volumes, status, &view.model, version)).unwrap_or_default();
    let version_exists = view.status.version.is_some_and(|version| volumes.version(&view.model, version).is_ok());
    Ok(Outcome {
        usage,
        version_exists,
        search: chart::search(&results.leaderboard),
        confusion: chart::confusion(&results),
        per_class: chart::per_class(&results.per_class),
        reliability: results.calibration.as_ref().and_then(chart::reliability),
        has_predictions,
        mistakes,
        suspects: suspects(dataset, &results),
        settings: pages::settings(&results),
        results,
    })
}

/// The suspects of a run with their pixels, those that the dataset still has.
pub(super) fn suspects(dataset: Option<&Dataset>, results: &Results) -> Vec<ShownSuspect> {
    let shown = results.suspects.iter().take(SUSPECTS).map(|suspect| ShownSuspect {
        url: dataset.map(|dataset| predictions::picture_url(dataset, suspect.split, suspect.row)),
        suspect: suspect.clone(),
    });
    shown.collect()
}

/// `GET /runs/{id}/live`: the part of the page that changes.
pub async fn live(State(state): State<AppState>, Path(id): Path<String>) -> Page {
    let hindrance = state.launcher.hindrance(&id);
    let charts = Charts::below(&format!("/runs/{id}"));
    let live = state.on_volumes(move |volumes| Live::of(&volumes.run(&id)?, hindrance)).await?;
    let (candidates, curves) = (live.leaderboard(), chart::curves(&live.curves, None));
    page(&pages::RunLive { candidates, best: chart::best(&live.trials), curves, charts, live })
}

/// `GET /runs/{id}/pictures`: those behind a number.
pub async fn pictures(State(state): State<AppState>, Path(id): Path<String>, Query(typed): Query<Typed>) -> Page {
    let wanted = wanted(&typed)?;
    let shown = state.on_volumes(move |volumes| {
        let run = volumes.run(&id)?;
        let labels = runs::results(&run)?.labels;
        let selected = predictions::select(&run, &labels, &wanted)?;
        let dataset = volumes.dataset(&run.spec.dataset).ok();
        let shown = selected.predictions.into_iter().map(|one| predictions::shown(one, &labels, dataset.as_ref()));
        Ok(pages::Pictures {
            nav: "runs",
            total: selected.total,
            shown: shown.collect(),
            run: RunView::of(&run)?,
            labels,
            wanted,
        })
    });
    page(&shown.await?)
}

/// What the form above the pictures asks for; an empty field asks for nothing.
fn wanted(typed: &Typed) -> Result<Wanted> {
    let filled = |name: &str| typed.get(name).filter(|value| !value.is_empty());
    let refused = |message: String| WebError::refused(api::ErrorCode::BadRequest, message);
    let split = filled("split").map(|name| {
        let known = Split::ALL.into_iter().find(|split| split.name() == name);
        known.ok_or_else(|| refused(format!("split is {name:?}; expected train, validation or test")))
    });
    let offset = filled("offset")
        .map(|offset| offset.parse().map_err(|_| refused(format!("offset is {offset:?}; expected a whole number"))));
    Ok(Wanted {
        split: split.transpose()?,
        label: filled("label").cloned(),
        predicted: filled("predicted").cloned(),
        wrong: filled("wrong").is_some(),
        offset: offset.transpose()?.unwrap_or(0),
        limit: PICTURES,
        ..Wanted::default()
    })
}

/// `GET /runs/{id}/charts/{file}`: a chart or table as a file, as far as the run has come.
pub async fn chart(State(state): State<AppState>, Path((id, file)): Path<(String, String)>) -> Result<Response> {
    let name = id.clone();
    let figures = state.on_volumes(move |volumes| {
        let run = volumes.run(&id)?;
        let (view, live) = (RunView::of(&run)?, Live::of(&run, None)?);
        let Some(results) = results_of(&run, &view)? else {
            let mut figures = chart::curves(&live.curves, None);
            let board = live.leaderboard();
            figures.extend([chart::by_resolution(&board), chart::by_work(&board)]);
            figures.extend(chart::best(&live.trials));
            return Ok(figures);
        };
        let mut figures = chart::curves(&results.curves, Some(results.best_epoch));
        figures.extend(chart::best(&live.trials));
        figures.extend([chart::by_resolution(&results.leaderboard), chart::by_work(&results.leaderboard)]);
        figures.push(chart::per_class(&results.per_class));
        figures.extend(chart::confusion(&results));
        figures.extend(results.calibration.as_ref().and_then(chart::reliability));
        Ok(figures)
    });
    charts::file(&figures.await?, &name, &file)
}

/// `POST /runs/{id}/cancel`.
pub async fn cancel(State(state): State<AppState>, Path(id): Path<String>) -> Result<Redirect> {
    let run = run_routes::stop(&state, id).await?;
    Ok(Redirect::to(&format!("/runs/{}", run.id())))
}

/// `POST /runs/{id}/retry`: another run that asks for the same.
pub async fn retry(State(state): State<AppState>, Path(id): Path<String>) -> Result<Redirect> {
    let run = runs::retry(&state, id).await?;
    Ok(Redirect::to(&format!("/runs/{}", run.id())))
}

/// What was typed as name and notes.
#[derive(Deserialize)]
pub struct TypedLabel {
    #[serde(default)]
    name: String,
    #[serde(default)]
    notes: String,
}

/// `POST /runs/{id}/label`: what people call it, or the page again with what is wrong.
pub async fn set_label(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Form(typed): Form<TypedLabel>,
) -> Result<Response> {
    // Forms send line ends as CRLF.
    let label = RunLabel { name: typed.name.trim().to_owned(), notes: typed.notes.replace("\r\n", "\n") };
    let (run, written) = (id.clone(), label.clone());
    match state.on_volumes(move |volumes| Ok(volumes.run(&run)?.write_label(&written)?)).await {
        Ok(()) => Ok(Redirect::to(&format!("/runs/{id}#about")).into_response()),
        Err(WebError::Store(error @ StoreError::Label(_))) => {
            let shown = run_page(&state, id, Some((label, error.to_string()))).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page(&shown)?).into_response())
        }
        Err(other) => Err(other),
    }
}

/// `POST /runs/{id}/delete`.
pub async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Form(typed): Form<Typed>,
) -> Result<Redirect> {
    form::confirmed(&typed)?;
    state.on_volumes(move |volumes| Ok(volumes.delete_run(&id)?)).await?;
    Ok(Redirect::to("/runs"))
}
