//! The page of the models: the registry, the live split read back from the engine, and the form that publishes.

use api::{card, functions::Status, train::Results};
use axum::{
    Form,
    extract::{Path, State},
    response::{Html, Redirect, Response},
};
use store::{StoreError, Volumes};

use super::{
    charts,
    models::{self, Chosen},
    pages::{Page, pointer, quick_status, usage_of},
};
use crate::{
    chart::{self, Figure},
    error::{Result, chain},
    form::{self, Typed},
    functions::Usage,
    pages::{self, Charts, ListedVersion, NamedModel, page},
    runs,
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
        let models = models::each(volumes, |name| named(volumes, name, status.as_ref()))?;
        Ok(models.into_iter().filter(|model| !(model.versions.is_empty() && model.unreadable.is_empty())).collect())
    });
    Ok((models.await?, problem))
}

fn named(volumes: &Volumes, name: String, status: Option<&Status>) -> Result<NamedModel> {
    let current = pointer(volumes.current(&name));
    let mut is_served = false;
    let (mut versions, mut unreadable) = (vec![], vec![]);
    for number in volumes.version_numbers(&name)? {
        let version = match volumes.version(&name, number) {
            Ok(version) => version,
            Err(StoreError::NotFound { .. }) => continue,
            Err(error) => {
                tracing::warn!(model = name, number, error = chain(&error), "a version cannot be read");
                unreadable.push(format!("v{number}"));
                continue;
            }
        };
        let (results, bytes) = (version.results().ok(), version.bytes());
        let manifest = version.manifest;
        let told = status.and_then(|status| Usage::of(status, &name, manifest.version));
        is_served |= told.is_some();
        versions.push(ListedVersion {
            has_run: runs::is_there(volumes, &manifest.run),
            usage: told.unwrap_or_else(|| Usage::pointed(current == Some(manifest.version))),
            manifest,
            gate: results.as_ref().and_then(|results| results.promotion.clone()),
            input_size: results.as_ref().map(|results| results.settings.input_size),
            milliseconds_per_picture: results.and_then(|results| results.milliseconds_per_picture),
            bytes,
        });
    }
    Ok(NamedModel { name, versions, unreadable, is_served })
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

/// `GET /models/{name}/{version}`: the card of a version.
pub async fn card(State(state): State<AppState>, Path((name, version)): Path<(String, u32)>) -> Page {
    let status = quick_status(&state).await;
    let card = state.on_volumes(move |volumes| {
        let found = volumes.version(&name, version)?;
        let results = found.results()?;
        let dataset = volumes.dataset(&found.manifest.dataset).ok().map(|dataset| dataset.manifest);
        let card = card::Card::of(&found.manifest, &results, dataset.as_ref());
        let origin = card.data.derived_from.as_ref();
        Ok(pages::Card {
            nav: "models",
            has_run: runs::is_there(volumes, &found.manifest.run),
            has_origin: origin.is_some_and(|origin| volumes.datasets_dir().join(&origin.dataset).is_dir()),
            percent: usage_of(volumes, status.as_ref(), &name, version).percent,
            bytes: found.bytes(),
            balance: (!card.data.classes.is_empty()).then(|| chart::classes(&card.data.classes)),
            confusion: chart::confusion(&results),
            per_class: chart::per_class(&results.per_class),
            reliability: results.calibration.as_ref().and_then(chart::reliability),
            settings: pages::settings(&results),
            charts: Charts::below(&format!("/models/{name}/{version}")),
            card,
        })
    });
    page(&card.await?)
}

/// `POST /models/{name}/{version}/delete`.
pub async fn delete(
    State(state): State<AppState>,
    Path((name, version)): Path<(String, u32)>,
    Form(typed): Form<Typed>,
) -> Result<Redirect> {
    form::confirmed(&typed)?;
    models::remove(&state, name, version).await?;
    Ok(Redirect::to("/models"))
}

/// `GET /models/{name}/{version}/charts/{file}`: a chart or table of its card as a file.
pub async fn chart(
    State(state): State<AppState>,
    Path((name, version, file)): Path<(String, u32, String)>,
) -> Result<Response> {
    let of = format!("{name}-v{version}");
    let figures = state.on_volumes(move |volumes| {
        let found = volumes.version(&name, version)?;
        let dataset = volumes.dataset(&found.manifest.dataset).ok().map(|dataset| dataset.manifest);
        let results = found.results()?;
        let card = card::Card::of(&found.manifest, &results, dataset.as_ref());
        let mut figures = figures(&results);
        figures.push(chart::classes(&card.data.classes));
        Ok(figures)
    });
    charts::file(&figures.await?, &of, &file)
}

fn figures(results: &Results) -> Vec<Figure> {
    let reliability = results.calibration.as_ref().and_then(chart::reliability);
    [Some(chart::per_class(&results.per_class)), chart::confusion(results), reliability].into_iter().flatten().collect()
}
