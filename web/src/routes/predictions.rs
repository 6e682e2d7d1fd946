//! `/api/runs/{id}/predictions` and `/api/runs/{id}/suspects`: the pictures behind a run's numbers.

use api::{
    ErrorBody, ErrorCode,
    dataset::Split,
    train::{PicturePrediction, Suspect},
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::{Result, WebError},
    predictions::{self, Order, Wanted},
    runs,
    state::AppState,
};

/// Predictions told at once unless asked otherwise.
const DEFAULT_LIMIT: usize = 100;

/// Most predictions told at once.
const MAX_LIMIT: usize = 1000;

/// Most predictions passed over, for they are held in memory.
const MAX_OFFSET: usize = 100_000;

/// Which predictions to tell.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Only of this part of the dataset.
    split: Option<Split>,
    /// Only of pictures with this label.
    label: Option<String>,
    /// Only of pictures that were taken for this.
    predicted: Option<String>,
    /// Only of pictures that were taken for something else than their label says.
    #[serde(default)]
    wrong: bool,
    /// Only of pictures that the model is unsure about.
    #[serde(default)]
    unsure: bool,
    /// `worst` (those first whose own label is least probable) when absent, or `row`.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// How many to pass over, at most 100000.
    #[serde(default)]
    offset: usize,
    /// How many to tell, at most 1000; 100 when absent.
    limit: Option<usize>,
}

/// Some predictions of a run.
#[derive(Serialize, ToSchema)]
pub struct PredictionPage {
    /// How many there are in the selection.
    total: usize,
    /// Labels in class-index order.
    labels: Vec<String>,
    /// These.
    predictions: Vec<PredictionView>,
}

/// A prediction and where its picture is.
#[derive(Serialize, ToSchema)]
pub struct PredictionView {
    /// Where its pixels are, as PNG; absent where the dataset is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// What the network says.
    #[serde(flatten)]
    prediction: PicturePrediction,
}

/// What a run's network says about the pictures of its dataset.
#[utoipa::path(get, path = "/api/runs/{id}/predictions", operation_id = "list_predictions", tag = "runs", params(("id" = String, Path, description = "Id of the run"), Selection), responses(
    (status = 200, description = "The selection", body = PredictionPage),
    (status = 404, description = "No such run or class, or the run is from before predictions were kept", body = ErrorBody),
    (status = 409, description = "The run has not ended, was cancelled, or failed; the message says why", body = ErrorBody),
    (status = 422, description = "The offset is too large", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn list(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(selection): Query<Selection>,
) -> Result<Json<PredictionPage>> {
    let Selection { split, label, predicted, wrong, unsure, order, offset, limit } = selection;
    if offset > MAX_OFFSET {
        let message = format!("offset is {offset}; expected 0 to {MAX_OFFSET}");
        return Err(WebError::refused(ErrorCode::Unprocessable, message));
    }
    let limit = limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    let wanted = Wanted { split, label, predicted, wrong, unsure, order, offset, limit };
    let page = state.on_volumes(move |volumes| {
        let run = volumes.run(&id)?;
        let labels = runs::results(&run)?.labels;
        let selected = predictions::select(&run, &labels, &wanted)?;
        let dataset = volumes.dataset(&run.spec.dataset).ok();
        let view = |prediction: PicturePrediction| {
            let url = dataset.as_ref();
            let url = url.map(|dataset| predictions::picture_url(dataset, prediction.split, prediction.row));
            PredictionView { url, prediction }
        };
        let predictions = selected.predictions.into_iter().map(view).collect();
        Ok(PredictionPage { total: selected.total, labels, predictions })
    });
    Ok(Json(page.await?))
}

/// A picture whose label is probably wrong, and where it is.
#[derive(Serialize, ToSchema)]
pub struct SuspectView {
    /// Where its pixels are, as PNG; absent where the dataset is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// What is suspected.
    #[serde(flatten)]
    suspect: Suspect,
}

/// Pictures of a run's dataset whose label is probably wrong, the surest first.
#[utoipa::path(get, path = "/api/runs/{id}/suspects", operation_id = "list_suspects", tag = "runs", params(("id" = String, Path, description = "Id of the run")), responses(
    (status = 200, description = "All of them", body = Vec<SuspectView>),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = 409, description = "The run has not ended, was cancelled, or failed; the message says why", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn suspects(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<Vec<SuspectView>>> {
    let suspects = state.on_volumes(move |volumes| {
        let run = volumes.run(&id)?;
        let suspects = runs::results(&run)?.suspects;
        let dataset = volumes.dataset(&run.spec.dataset).ok();
        let view = |suspect: Suspect| SuspectView {
            url: dataset.as_ref().map(|dataset| predictions::picture_url(dataset, suspect.split, suspect.row)),
            suspect,
        };
        Ok(suspects.into_iter().map(view).collect())
    });
    Ok(Json(suspects.await?))
}
