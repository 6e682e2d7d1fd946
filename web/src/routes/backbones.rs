//! `/api/backbones`.

use api::{
    ErrorBody,
    backbone::{BUILT_IN, BackboneManifest},
};
use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{error::Result, state::AppState};

/// A pretrained network that a run may name.
#[derive(Serialize, ToSchema)]
pub struct BackboneView {
    /// Its name.
    name: String,
    /// SPDX identifier of the weights' licence.
    licence: String,
    /// SHA-256 of the weights, 64 hex digits.
    sha256: String,
    /// What else is known of one that a person added; absent from those that come with the trainer.
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<BackboneManifest>,
}

/// Pretrained networks that are installed: those that come with the trainer, and those that people added.
#[utoipa::path(get, path = "/api/backbones", operation_id = "list_backbones", tag = "runs", responses(
    (status = 200, description = "By name, those that people added last", body = Vec<BackboneView>),
    (status = "default", description = "Anything else", body = ErrorBody),
))]
pub async fn list(State(state): State<AppState>) -> Result<Json<Vec<BackboneView>>> {
    let installed = BUILT_IN.iter().filter(|known| state.config.backbones.iter().any(|name| name == known.name));
    let mut views: Vec<_> = installed
        .map(|known| BackboneView {
            name: known.name.to_owned(),
            licence: known.licence.to_owned(),
            sha256: known.sha256.to_owned(),
            own: None,
        })
        .collect();
    let own = state.on_volumes(|volumes| Ok(volumes.backbones()?)).await?;
    views.extend(own.into_iter().map(|own| BackboneView {
        name: own.manifest.name.clone(),
        licence: own.manifest.licence.clone(),
        sha256: own.manifest.sha256.clone(),
        own: Some(own.manifest),
    }));
    Ok(Json(views))
}
