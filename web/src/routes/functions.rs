//! `/api/functions`: what the runtime tells of its functions, passed on.

use api::{
    ErrorBody,
    functions::{ServiceStatus, Status, TrafficTarget},
};
use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};

use crate::{error::Result, events, state::AppState};

/// The functions as they are: traffic, revisions, instances and the autoscaler's latest decisions.
#[utoipa::path(get, path = "/api/functions", operation_id = "list_functions", tag = "functions", responses(
    (status = 200, description = "What the runtime tells at this moment, by namespace and name", body = Status),
    (status = 503, description = "There is no runtime, or it does not answer", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn list(State(state): State<AppState>) -> Result<Json<Status>> {
    Ok(Json(state.functions.status().await?))
}

/// The functions as server-sent events, one whenever something has changed.
///
/// An event's data is the JSON of `GET /api/functions`, or an `ErrorBody` while the runtime does not answer.
#[utoipa::path(get, path = "/api/functions/events", operation_id = "follow_functions", tag = "functions", responses(
    (status = 200, description = "Events until the client goes away", content_type = "text/event-stream", body = String),
    (status = 503, description = "There is no runtime", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn events(State(state): State<AppState>) -> Result<Response> {
    if !state.functions.is_known() {
        state.functions.status().await?;
    }
    Ok(events::of_functions(&state).into_response())
}

/// Shares a function's requests out among its revisions.
#[utoipa::path(put, path = "/api/functions/{namespace}/{name}/traffic", operation_id = "set_traffic", tag = "functions",
    params(("namespace" = String, Path, description = "Namespace of the function"), ("name" = String, Path, description = "Name of the function")),
    request_body(content = Vec<TrafficTarget>, description = "Every part, as Knative's manifests spell them; all percentages are 100 together",
        example = json!([{"latestRevision": true, "percent": 10}, {"revisionName": "inference-00002", "percent": 90, "tag": "stable"}])), responses(
    (status = 200, description = "The function, as in `GET /api/functions`", body = ServiceStatus),
    (status = 404, description = "No such function", body = ErrorBody),
    (status = 400, description = "The parts cannot be; the message is the runtime's", body = ErrorBody),
    (status = 503, description = "There is no runtime, or it does not answer", body = ErrorBody),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn set_traffic(
    State(state): State<AppState>,
    Path((namespace, name)): Path<(String, String)>,
    Json(targets): Json<Vec<TrafficTarget>>,
) -> Result<Json<ServiceStatus>> {
    Ok(Json(state.functions.set_traffic(&namespace, &name, &targets).await?))
}
