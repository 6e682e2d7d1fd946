//! The admin port: what the functions do, as JSON and as Prometheus reads it, and changes to them. For this machine
//! only: whoever reaches it may do everything.

use api::{
    ErrorBody, ErrorCode, ErrorDetail,
    functions::{ServiceStatus, Status, TrafficTarget},
};
use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serving::Manifests;
use tokio::net::TcpListener;

use crate::{Control, ControlError};

/// Content type of Prometheus' text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the admin port until `shutdown` is ready.
///
/// # Errors
/// If the listener fails
pub async fn serve(
    control: Control,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(control)).with_graceful_shutdown(shutdown).await
}

fn router(control: Control) -> Router {
    Router::new()
        .route("/health/live", get(async || "live"))
        .route("/metrics", get(metrics))
        .route("/admin/status", get(status))
        .route("/admin/apply", post(apply))
        .route("/admin/services/{namespace}/{name}", delete(remove))
        .route("/admin/services/{namespace}/{name}/traffic", put(set_traffic))
        .with_state(control)
}

async fn status(State(control): State<Control>) -> Result<Json<Status>, Refusal> {
    Ok(Json(control.scrape().await?.status))
}

async fn metrics(State(control): State<Control>) -> Result<impl IntoResponse, Refusal> {
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], control.scrape().await?.text()))
}

async fn apply(State(control): State<Control>, manifests: String) -> Result<Json<Vec<ServiceStatus>>, Refusal> {
    let manifests = Manifests::parse("the request", &manifests)
        .map_err(|error| Refusal(ErrorDetail::new(ErrorCode::BadRequest, error.to_string())))?;
    Ok(Json(control.apply(manifests).await?))
}

async fn set_traffic(
    State(control): State<Control>,
    Path((namespace, name)): Path<(String, String)>,
    targets: Result<Json<Vec<TrafficTarget>>, JsonRejection>,
) -> Result<Json<ServiceStatus>, Refusal> {
    let Json(targets) = targets.map_err(|error| Refusal(ErrorDetail::new(ErrorCode::BadRequest, error.body_text())))?;
    Ok(Json(control.set_traffic(&namespace, &name, targets).await?))
}

async fn remove(
    State(control): State<Control>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    control.delete(&namespace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

struct Refusal(ErrorDetail);

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let code = match error {
            ControlError::Refused(_) => ErrorCode::BadRequest,
            ControlError::NotFound { .. } => ErrorCode::NotFound,
            ControlError::Stopping => ErrorCode::Unavailable,
        };
        Self(ErrorDetail::new(code, error.to_string()))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(ErrorBody::from(self.0))).into_response()
    }
}
