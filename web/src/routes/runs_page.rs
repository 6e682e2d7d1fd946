//! Handlers of the list of runs.

use std::collections::HashMap;

use axum::{extract::State, response::Redirect};

use super::{pages::Page, run_page::results_of};
use crate::{
    error::Result,
    pages::{self, ListedRun, page},
    runs::{self, Listing, RunView},
    state::AppState,
};

/// `GET /runs`.
pub async fn list(State(state): State<AppState>) -> Page {
    let launcher = state.launcher.clone();
    let runs = state.on_volumes(move |volumes| {
        let names: HashMap<_, _> =
            volumes.datasets()?.into_iter().map(|dataset| (dataset.manifest.id, dataset.manifest.name)).collect();
        runs::each(volumes, |run| {
            let view = RunView::of(&run)?.queued(&*launcher);
            Ok(ListedRun { results: results_of(&run, &view)?, dataset_name: names.get(&view.dataset).cloned(), view })
        })
    });
    let Listing { told: runs, unreadable } = runs.await?;
    page(&pages::Runs { nav: "runs", bytes: runs.iter().map(|run| run.view.bytes).sum(), runs, unreadable })
}

/// `GET /results_page`: the newest run.
pub async fn newest(State(state): State<AppState>) -> Result<Redirect> {
    let run = state.on_volumes(|volumes| Ok(volumes.runs()?.into_iter().next())).await?;
    Ok(Redirect::to(&run.map_or_else(|| "/runs".to_owned(), |run| format!("/runs/{}", run.id()))))
}
