//! `/disk` and `/api/disk`.

use api::{ErrorBody, disk::DiskUse};
use axum::{Json, extract::State};

use super::pages::Page;
use crate::{error::Result, pages, state::AppState};

/// What everything on the volumes takes, and what room is left.
#[utoipa::path(get, path = "/api/disk", operation_id = "get_disk_use", tag = "disk", responses(
    (status = 200, description = "In bytes", body = DiskUse),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn show(State(state): State<AppState>) -> Result<Json<DiskUse>> {
    Ok(Json(state.on_volumes(|volumes| Ok(volumes.disk_use()?)).await?))
}

/// `GET /disk`: the same as a page.
pub async fn page(State(state): State<AppState>) -> Page {
    let used = state.on_volumes(|volumes| Ok(volumes.disk_use()?)).await?;
    pages::page(&pages::Disk { nav: "", used })
}
