//! `/api/compare`: two runs side by side.

use api::{ErrorBody, compare::Comparison};
use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::compare_page::Known;
use crate::{error::Result, state::AppState};

/// Which runs.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Id of the first.
    a: String,
    /// Id of the second.
    b: String,
}

/// Two runs side by side, with what differs and which is the better one.
#[utoipa::path(get, path = "/api/compare", operation_id = "compare_runs", tag = "runs", params(Pair), responses(
    (status = 200, description = "Row by row", body = Comparison),
    (status = 400, description = "A run is not named", body = ErrorBody),
    (status = 404, description = "No such run", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn compare(State(state): State<AppState>, Query(pair): Query<Pair>) -> Result<Json<Comparison>> {
    let comparison = state.on_volumes(move |volumes| {
        let (a, b) = (Known::of(volumes, &pair.a)?, Known::of(volumes, &pair.b)?);
        Ok(api::compare::compare(a.compared(), b.compared()))
    });
    Ok(Json(comparison.await?))
}
