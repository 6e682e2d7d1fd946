//! The page of the models: the registry, the live split read back from the engine, and the form that publishes.

use api::functions::Status;
use axum::{
    Form,
    extract::{Path, State},
    response::{Html, Redirect},
};
use store::Volumes;

use super::models::{self, Chosen};
use crate::{
    error::{Result, chain},
    functions::Usage,
    pages::{self, NamedModel, page},
    state::AppState,
};

/// `GET /models`.
pub async fn models(State(state): State<AppState>) -> Result<Html<String>> {
    let (models, problem) = look(&state).await?;
    page(&pages::Models { nav: "models", is_live: state.functions.is_known(), models, problem })
}

/// `GET /models/live`: the part of the page that changes.
pub async fn live(State(state): State<AppState>) -> Result<Html<String>> {
    let (models, problem) = look(&state).await?;
    page(&pages::ModelsLive { models, problem })
}

async fn look(state: &AppState) -> Result<(Vec<NamedModel>, Option<String>)> {
    let (status, problem) = if state.functions.is_known() {
        match state.functions.status().await {
            Ok(status) => (Some(status), None),
            Err(error) => {
                tracing::warn!(error = chain(&error), "it is not known who serves");
                (None, Some(error.detail().message))
            }
        }
    } else {
        (None, None)
    };
    let models = state.on_volumes(move |volumes| {
        let named = |name: String| named(volumes, name, status.as_ref());
        let models: Vec<_> = volumes.model_names()?.into_iter().map(named).collect::<Result<_>>()?;
        Ok(models.into_iter().filter(|model| !model.versions.is_empty()).collect())
    });
    Ok((models.await?, problem))
}

fn named(volumes: &Volumes, name: String, status: Option<&Status>) -> Result<NamedModel> {
    let current = volumes.current(&name)?;
    let mut is_served = false;
    let mut versions = vec![];
    for manifest in volumes.versions(&name)?.into_iter().map(|version| version.manifest) {
        let told = status.and_then(|status| Usage::of(status, &name, manifest.version));
        is_served |= told.is_some();
        // Where nobody tells, the registry's own pointer is what functions follow.
        let pointed = Usage { percent: if current == Some(manifest.version) { 100 } else { 0 }, publication: None };
        versions.push((manifest, told.unwrap_or(pointed)));
    }
    Ok(NamedModel { name, versions, is_served })
}

/// `POST /models/{name}/current`: a version and its part of the requests, all of them where no part is told.
pub async fn publish(
    State(state): State<AppState>,
    Path(name): Path<String>,
    Form(Chosen { version, percent }): Form<Chosen>,
) -> Result<Redirect> {
    models::publish(&state, &name, version, percent).await?;
    Ok(Redirect::to("/models"))
}
