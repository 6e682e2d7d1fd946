//! `/api/runs`.

use api::{
    ErrorBody,
    train::{Hyperparameters, Results, RunState},
};
use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use store::Run;
use utoipa::ToSchema;

use crate::{
    error::Result,
    events,
    live::Live,
    runs::{self, Asked, LabelChange, RunView},
    state::AppState,
};

/// Most of a log that is told.
const LOG_BYTES: u64 = 64 << 10;

/// What to train.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// Id of the dataset.
    dataset: String,
    /// Settings; an absent one takes the family's default.
    #[serde(default)]
    hyperparameters: Hyperparameters,
    /// Registry name to publish under; the service's default when absent.
    model: Option<String>,
}

/// Starts training.
#[utoipa::path(post, path = "/api/runs", operation_id = "create_run", tag = "runs", request_body = NewRun, responses(
    (status = 201, description = "The run; training begins", body = RunView),
    (status = 404, description = "No such dataset", body = ErrorBody),
    (status = 422, description = "A setting is out of its range; the message names it and the range", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn create(State(state): State<AppState>, Json(new): Json<NewRun>) -> Result<Response> {
    let asked = Asked { dataset: Some(new.dataset), hyperparameters: new.hyperparameters, model: new.model };
    let run = runs::create(&state, asked).await?;
    created(&state, run).await
}

async fn created(state: &AppState, run: Run) -> Result<Response> {
    let launcher = state.launcher.clone();
    let view = state.on_volumes(move |_| Ok(RunView::of(&run)?.queued(&*launcher))).await?;
    let location = [(header::LOCATION, view.links.this.clone())];
    Ok((StatusCode::CREATED, location, Json(view)).into_response())
}

/// All runs that can be read, newest first.
#[utoipa::path(get, path = "/api/runs", operation_id = "list_runs", tag = "runs", responses(
    (status = 200, description = "The runs", body = Vec<RunView>),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn list(State(state): State<AppState>) -> Result<Json<Vec<RunView>>> {
    let launcher = state.launcher.clone();
    let views =
        state.on_volumes(move |volumes| Ok(runs::each(volumes, |run| Ok(RunView::of(&run)?.queued(&*launcher)))?.told));
    Ok(Json(views.await?))
}

/// One run and its last epoch.
#[utoipa::path(get, path = "/api/runs/{id}", operation_id = "get_run", tag = "runs", params(("id" = String, Path, description = "Id of the run")), responses(
    (status = 200, description = "The run", body = RunView),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn show(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<RunView>> {
    let (launcher, hindrance) = (state.launcher.clone(), state.launcher.hindrance(&id));
    let view = state.on_volumes(move |volumes| {
        let run = volumes.run(&id)?;
        let view = RunView { epoch: Live::of(&run, None)?.curves.pop(), ..RunView::of(&run)?.queued(&*launcher) };
        let hindrance = hindrance.filter(|_| view.status.state == RunState::Queued);
        Ok(RunView { hindrance, ..view })
    });
    Ok(Json(view.await?))
}

/// A run's progress as server-sent events, from its beginning to its end.
///
/// Each event's id is its number, so a client that comes back with `Last-Event-ID` misses nothing and gets nothing
/// twice. A client that has seen the end is told to stay away with 204.
#[utoipa::path(get, path = "/api/runs/{id}/events", operation_id = "follow_run", tag = "runs",
    params(("id" = String, Path, description = "Id of the run"), ("Last-Event-ID" = Option<u64>, Header, description = "Number of the last event that was seen")), responses(
    (status = 200, description = "One event per line of progress, its data the JSON of a `Progress`", content_type = "text/event-stream", body = String),
    (status = 204, description = "The run has ended and every event was seen"),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn events(State(state): State<AppState>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response> {
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok()).unwrap_or(0);
    let (run, all_seen) = state
        .on_volumes(move |volumes| {
            let run = volumes.run(&id)?;
            let all_seen = seen > 0 && events::all_seen(&run, seen)?;
            Ok((run, all_seen))
        })
        .await?;
    if all_seen {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(events::of_run(&state, run, seen).into_response())
}

/// What came out of a run.
#[utoipa::path(get, path = "/api/runs/{id}/results", operation_id = "get_results", tag = "runs", params(("id" = String, Path, description = "Id of the run")), responses(
    (status = 200, description = "The results", body = Results),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = 409, description = "The run has not ended, was cancelled, or failed; the message says why", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn results(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<Results>> {
    Ok(Json(state.on_volumes(move |volumes| runs::results(&volumes.run(&id)?)).await?))
}

/// Gives a run a name or notes.
#[utoipa::path(patch, path = "/api/runs/{id}", operation_id = "label_run", tag = "runs", request_body = LabelChange, params(("id" = String, Path, description = "Id of the run")), responses(
    (status = 200, description = "The run", body = RunView),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = 422, description = "Too long, or nothing is said", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn label(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(change): Json<LabelChange>,
) -> Result<Json<RunView>> {
    let launcher = state.launcher.clone();
    let view = state.on_volumes(move |volumes| {
        let run = volumes.run(&id)?;
        change.apply(&run)?;
        Ok(RunView::of(&run)?.queued(&*launcher))
    });
    Ok(Json(view.await?))
}

/// Deletes a run that has ended, with its curves, log and predictions. A version that came of it stays.
#[utoipa::path(delete, path = "/api/runs/{id}", operation_id = "delete_run", tag = "runs", params(("id" = String, Path, description = "Id of the run")), responses(
    (status = 204, description = "It is gone"),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = 409, description = "It has not ended", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn delete(State(state): State<AppState>, Path(id): Path<String>) -> Result<StatusCode> {
    state.on_volumes(move |volumes| Ok(volumes.delete_run(&id)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks for the same again: a new run.
#[utoipa::path(post, path = "/api/runs/{id}/retry", operation_id = "retry_run", tag = "runs", params(("id" = String, Path, description = "Id of the run that has ended")), responses(
    (status = 201, description = "The new run", body = RunView),
    (status = 404, description = "No such run, or its dataset is gone", body = ErrorBody),
    (status = 409, description = "It has not ended", body = ErrorBody),
    (status = 422, description = "What it asks for cannot be had any more, such as a backbone", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn retry(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response> {
    let run = runs::retry(&state, id).await?;
    created(&state, run).await
}

/// Asks a run to stop. What has ended stays as it is.
#[utoipa::path(post, path = "/api/runs/{id}/cancel", operation_id = "cancel_run", tag = "runs", params(("id" = String, Path, description = "Id of the run")), responses(
    (status = 202, description = "Asked; the run ends soon", body = RunView),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn cancel(State(state): State<AppState>, Path(id): Path<String>) -> Result<impl IntoResponse> {
    let run = stop(&state, id).await?;
    let view = state.on_volumes(move |_| RunView::of(&run)).await?;
    Ok((StatusCode::ACCEPTED, Json(view)))
}

/// Stops a run unless it has ended.
pub async fn stop(state: &AppState, id: String) -> Result<Run> {
    let (run, ended) = state
        .on_volumes(move |volumes| {
            let run = volumes.run(&id)?;
            let ended = run.status()?.state.is_final();
            Ok((run, ended))
        })
        .await?;
    if !ended {
        state.launcher.stop(&run).await?;
    }
    Ok(run)
}

/// The last lines of a run's log.
#[utoipa::path(get, path = "/api/runs/{id}/log", operation_id = "get_log", tag = "runs", params(("id" = String, Path, description = "Id of the run")), responses(
    (status = 200, description = "At most 64 KiB of text", content_type = "text/plain", body = String),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn log(State(state): State<AppState>, Path(id): Path<String>) -> Result<String> {
    let run = state.on_volumes(move |volumes| Ok(volumes.run(&id)?)).await?;
    Ok(state.launcher.log(&run, LOG_BYTES).await?)
}
