//! `/api/disk`.

use api::{ErrorBody, disk::DiskUse};
use axum::{Json, extract::State};

use crate::{error::Result, state::AppState};

/// What everything on the volumes takes, and what room is left.
#[utoipa::path(get, path = "/api/disk", operation_id = "get_disk_use", tag = "disk", responses(
    (status = 200, description = "In bytes", body = DiskUse),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn show(State(state): State<AppState>) -> Result<Json<DiskUse>> {
    Ok(Json(state.on_volumes(|volumes| Ok(volumes.disk_use()?)).await?))
}
