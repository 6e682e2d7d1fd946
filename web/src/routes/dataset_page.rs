//! Handlers of a dataset's page: gather what its template shows, translate its forms.

use std::collections::{BTreeSet, HashMap};

use api::{
    dataset::{DatasetManifest, NearDuplicates, Split},
    train::RunState,
};
use axum::{
    Form,
    extract::{Path, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use serde::Deserialize;
use store::{Dataset, Volumes};

use super::{charts, pages::Page, run_page};
use crate::{
    chart,
    error::{Result, WebError},
    form::{self, Typed},
    pages::{self, Charts, Doubted, Lookalike, Lookalikes, page},
    runs::{self, Asked},
    state::AppState,
};

/// Sample pictures shown of each class.
const SAMPLES: usize = 8;

/// Classes of which samples are shown.
const SAMPLED_CLASSES: usize = 40;

/// Groups of lookalikes that are shown; all are in the manifest.
const GROUPS: usize = 60;

/// Runs that are looked at for suspects, newest first.
const RUNS_FOR_SUSPECTS: usize = 20;

/// What the form is filled in from.
#[derive(Deserialize)]
pub struct Filled {
    /// Id of a run.
    run: Option<String>,
}

/// `GET /datasets/{id}`, the form filled in as a run was asked for if one is named.
pub async fn show(State(state): State<AppState>, Path(id): Path<String>, Query(filled): Query<Filled>) -> Page {
    let typed = match filled.run {
        None => Typed::new(),
        Some(run) => {
            let spec = state.on_volumes(move |volumes| Ok(volumes.run(&run)?.spec)).await?;
            form::typed(&spec.hyperparameters, &spec.model)
        }
    };
    page(&dataset_page(&state, id, typed, vec![]).await?)
}

async fn dataset_page(state: &AppState, id: String, typed: Typed, wrong: Vec<String>) -> Result<pages::Dataset> {
    let (backbones, model) = (state.backbones().await?, state.config.model.clone());
    state
        .on_volumes(move |volumes| {
            let dataset = volumes.dataset(&id)?;
            let origin = dataset.manifest.provenance.derived_from.as_ref();
            let origin = origin.and_then(|origin| volumes.dataset(&origin.dataset).ok());
            Ok(pages::Dataset {
                nav: "train",
                samples: samples(&dataset)?,
                rejects: pages::Rejects::by_reason(&dataset.manifest.rejected),
                balance: chart::classes(&dataset.manifest.classes),
                imbalance: chart::imbalance(&dataset.manifest.classes),
                charts: Charts::below(&format!("/datasets/{id}")),
                lookalikes: lookalikes(&dataset)?,
                doubted: doubted(volumes, &dataset)?,
                origin_name: origin.map(|origin| origin.manifest.name),
                children: children(volumes, &id)?,
                in_use: in_use(volumes, &id)?,
                bytes: dataset.bytes(),
                form: form::Form::new(&backbones, runs::picture_side(&dataset), &model, &typed, &wrong),
                form_open: !wrong.is_empty() || form::has_settings(&typed),
                m: dataset.manifest,
            })
        })
        .await
}

/// Datasets that were made of this one, newest first.
fn children(volumes: &Volumes, id: &str) -> Result<Vec<(String, String)>> {
    let is_child = |manifest: &DatasetManifest| {
        manifest.provenance.derived_from.as_ref().is_some_and(|origin| origin.dataset == id)
    };
    let manifests = volumes.datasets()?.into_iter().map(|dataset| dataset.manifest);
    Ok(manifests.filter(is_child).map(|child| (child.id, child.name)).collect())
}

/// The first pictures of each class.
fn samples(dataset: &Dataset) -> Result<Vec<pages::Sample>> {
    let labels = dataset.labels();
    let mut samples: Vec<_> = labels.into_iter().map(|label| pages::Sample { label, rows: vec![] }).collect();
    let mut first_row = 0;
    for split in Split::ALL {
        let pixels = dataset.pixels(split)?;
        for (row, label) in (first_row..).zip(pixels.labels()) {
            let sample = &mut samples[*label as usize];
            if sample.rows.len() < SAMPLES {
                sample.rows.push(row);
            }
        }
        first_row += pixels.len() as u64;
    }
    samples.truncate(SAMPLED_CLASSES);
    Ok(samples)
}

/// Groups of lookalikes with their pixels, those under several labels first.
fn lookalikes(dataset: &Dataset) -> Result<Vec<Lookalikes>> {
    let mut groups: Vec<&NearDuplicates> = dataset.manifest.near_duplicates.iter().collect();
    groups.sort_by_key(|group| !group.several_labels);
    groups.truncate(GROUPS);
    if groups.is_empty() {
        return Ok(vec![]);
    }
    let wanted: BTreeSet<&str> = groups.iter().flat_map(|group| &group.names).map(String::as_str).collect();
    let labels = dataset.labels();
    let mut found = HashMap::new();
    for (row, record) in dataset.pictures()?.into_iter().enumerate() {
        if wanted.contains(record.name.as_str()) {
            let url = format!("/api/datasets/{}/pictures/{row}.png", dataset.manifest.id);
            let label = labels.get(record.label as usize).cloned().unwrap_or_default();
            found.insert(record.name.clone(), Lookalike { url, name: record.name, label });
        }
    }
    let shown = groups.into_iter().map(|group| Lookalikes {
        several_labels: group.several_labels,
        pictures: group.names.iter().filter_map(|name| found.get(name).cloned()).collect(),
    });
    Ok(shown.collect())
}

/// The newest run on this dataset, if its models doubt labels, and which.
fn doubted(volumes: &Volumes, dataset: &Dataset) -> Result<Option<Doubted>> {
    let runs = volumes.runs()?.into_iter().filter(|run| run.spec.dataset == dataset.manifest.id);
    for run in runs.take(RUNS_FOR_SUSPECTS) {
        // One that is gone meanwhile, or cannot be read, has nothing to say here.
        if !run.status().is_ok_and(|status| status.state == RunState::Succeeded) {
            continue;
        }
        let Ok(Some(results)) = run.results() else { continue };
        let suspects = run_page::suspects(Some(dataset), &results);
        let doubted = Doubted { suspects, total: results.suspects.len(), by: run.spec.run };
        return Ok((doubted.total > 0).then_some(doubted));
    }
    Ok(None)
}

/// Versions in use that were made from this dataset: without its records nobody knows any more what they were fitted on.
fn in_use(volumes: &Volumes, dataset: &str) -> Result<Vec<String>> {
    let mut found = vec![];
    for name in volumes.model_names()? {
        let Some(version) = volumes.current(&name)? else { continue };
        if volumes.version(&name, version).is_ok_and(|version| version.manifest.dataset == dataset) {
            found.push(format!("{name} v{version}"));
        }
    }
    Ok(found)
}

/// `GET /datasets/{id}/charts/{file}`: a chart as a file.
pub async fn chart(State(state): State<AppState>, Path((id, file)): Path<(String, String)>) -> Result<Response> {
    let name = id.clone();
    let figure = state.on_volumes(move |volumes| Ok(chart::classes(&volumes.dataset(&id)?.manifest.classes)));
    charts::file(&[figure.await?], &name, &file)
}

/// `POST /datasets/{id}/train`: starts a run, or shows the form again with what is wrong.
pub async fn train(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let backbones = state.backbones().await?;
    let dataset = id.clone();
    let side = state.on_volumes(move |volumes| Ok(runs::picture_side(&volumes.dataset(&dataset)?))).await?;
    let model = typed.get("model").map(|model| model.trim().to_owned()).filter(|model| !model.is_empty());
    let mut wrong = vec![];
    if let Some(Err(e)) = model.as_deref().map(|model| store::check_name("model", model)) {
        wrong.push(e.to_string());
    }
    let (hyperparameters, unreadable) = form::parse(&typed);
    wrong.extend(unreadable);
    wrong.extend(hyperparameters.resolve(&backbones, side).err().into_iter().flatten());
    if wrong.is_empty() {
        let run = runs::create(&state, Asked { dataset: Some(id), hyperparameters, model }).await?;
        return Ok(Redirect::to(&format!("/runs/{}", run.id())).into_response());
    }
    let html = page(&dataset_page(&state, id, typed, wrong).await?)?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, html).into_response())
}

/// `POST /datasets/{id}/derive`: a dataset without the pictures that are ticked.
pub async fn derive(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Form(typed): Form<Vec<(String, String)>>,
) -> Result<Redirect> {
    let removed: BTreeSet<_> = typed.into_iter().filter(|(field, _)| field == "remove").map(|(_, name)| name).collect();
    if removed.is_empty() {
        let message = "no picture is ticked; tick those that are to be left out";
        return Err(WebError::refused(api::ErrorCode::Unprocessable, message));
    }
    let made_by = concat!("fovea-web ", env!("CARGO_PKG_VERSION"));
    let derived = state.on_volumes(move |volumes| {
        Ok(volumes.derive_dataset(&volumes.dataset(&id)?, &removed, made_by)?.dataset.manifest.id)
    });
    Ok(Redirect::to(&format!("/datasets/{}", derived.await?)))
}

/// `POST /datasets/{id}/delete`.
pub async fn delete(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Form(typed): Form<Typed>,
) -> Result<Redirect> {
    form::confirmed(&typed)?;
    state.on_volumes(move |volumes| Ok(volumes.delete_dataset(&id)?)).await?;
    Ok(Redirect::to("/training_page#datasets"))
}
