//! Handlers of the list of runs and of the comparison of two.

use std::collections::HashMap;

use api::train::RunState;
use axum::{extract::State, response::Redirect};

use super::{pages::Page, run_page::results_of};
use crate::{
    error::Result,
    pages::{self, ListedRun, page},
    runs::RunView,
    state::AppState,
};

/// `GET /runs`.
pub async fn list(State(state): State<AppState>) -> Page {
    let runs = state.on_volumes(|volumes| {
        let names: HashMap<_, _> =
            volumes.datasets()?.into_iter().map(|dataset| (dataset.manifest.id, dataset.manifest.name)).collect();
        let mut listed = vec![];
        for run in volumes.runs()? {
            let view = RunView::of(&run)?;
            listed.push(ListedRun {
                label: run.label()?,
                results: results_of(&run, &view)?,
                dataset_name: names.get(&view.dataset).unwrap_or(&view.dataset).clone(),
                bytes: run.bytes(),
                ahead: None,
                view,
            });
        }
        // The newest is first, and the oldest that waits begins next.
        let waiting = listed.iter_mut().rev().filter(|run| run.view.status.state == RunState::Queued);
        for (n, run) in (0..).zip(waiting) {
            run.ahead = Some(n);
        }
        Ok(listed)
    });
    let runs = runs.await?;
    page(&pages::Runs { nav: "runs", bytes: runs.iter().map(|run| run.bytes).sum(), runs })
}

/// `GET /results_page`: the newest run.
pub async fn newest(State(state): State<AppState>) -> Result<Redirect> {
    let run = state.on_volumes(|volumes| Ok(volumes.runs()?.into_iter().next())).await?;
    Ok(Redirect::to(&run.map_or_else(|| "/runs".to_owned(), |run| format!("/runs/{}", run.id()))))
}
