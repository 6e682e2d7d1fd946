//! Handlers of the comparison of two runs.

use api::{
    compare::{Compared, Comparison, compare},
    dataset::ClassCount,
    train::{EpochMetrics, Results, RunLabel, RunSpec, RunState},
};
use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use store::Volumes;

use super::{charts, pages::Page, run_page::results_of};
use crate::{
    chart::{self, Figure},
    error::Result,
    pages::{self, Charts, page},
    runs::RunView,
    state::AppState,
};

/// Runs that can be chosen, newest first.
const OFFERED: usize = 200;

type Pairs = Vec<(String, String)>;

/// What was chosen: `a` and `b`, or those ticked in the list of runs.
fn chosen(typed: &Pairs) -> (Vec<&str>, [String; 2]) {
    let of = |name: &str| typed.iter().find(|(field, value)| field == name && !value.is_empty()).map(|(_, id)| id);
    let ticked: Vec<&str> = typed.iter().filter(|(field, _)| field == "run").map(|(_, id)| id.as_str()).collect();
    let side = |name: &str, n: usize| {
        let ticked = || ticked.get(n).map(|id| (*id).to_owned());
        of(name).cloned().or_else(ticked).unwrap_or_default()
    };
    let sides = [side("a", 0), side("b", 1)];
    (ticked, sides)
}

/// `GET /compare`: two runs side by side, or a choice of them.
pub async fn show(State(state): State<AppState>, Query(typed): Query<Pairs>) -> Page {
    let shown = state.on_volumes(move |volumes| {
        let (ticked, sides) = chosen(&typed);
        let runs = volumes.runs()?.into_iter().take(OFFERED).map(|run| {
            let name = run.label().unwrap_or_default().name;
            let title = if name.is_empty() { run.id().to_owned() } else { format!("{name} ({})", run.id()) };
            (run.spec.run, title)
        });
        let runs = runs.collect();
        let problem = match ticked.len() {
            0 | 2 => None,
            n => Some(format!(
                "{} ticked; expected two",
                if n == 1 { "1 run is".into() } else { format!("{n} runs are") }
            )),
        };
        let can = problem.is_none() && sides.iter().all(|id| !id.is_empty());
        let both = if can { Some(both(volumes, &sides)?) } else { None };
        let (comparison, curves) = both.map_or((None, vec![]), |(comparison, curves)| (Some(comparison), curves));
        let charts = Charts { folder: "/compare/charts".into(), query: format!("?a={}&b={}", sides[0], sides[1]) };
        Ok(pages::Compare { nav: "runs", runs, chosen: sides, problem, comparison, curves, charts })
    });
    page(&shown.await?)
}

/// `GET /compare/charts/{file}`: a chart or the comparison as a file.
pub async fn chart(
    State(state): State<AppState>,
    Path(file): Path<String>,
    Query(typed): Query<Pairs>,
) -> Result<Response> {
    let figures = state.on_volumes(move |volumes| {
        let (comparison, mut figures) = both(volumes, &chosen(&typed).1)?;
        figures.push(chart::side_by_side(&comparison));
        Ok(figures)
    });
    charts::file(&figures.await?, "comparison", &file)
}

/// What is known of a run.
pub(super) struct Known {
    spec: RunSpec,
    label: RunLabel,
    state: RunState,
    results: Option<Results>,
    classes: Option<Vec<ClassCount>>,
}

impl Known {
    pub(super) fn of(volumes: &Volumes, id: &str) -> Result<Self> {
        let run = volumes.run(id)?;
        let view = RunView::of(&run)?;
        Ok(Self {
            label: run.label()?,
            state: view.status.state,
            results: results_of(&run, &view)?,
            classes: volumes.dataset(&view.dataset).ok().map(|dataset| dataset.manifest.classes),
            spec: run.spec,
        })
    }

    pub(super) fn compared(&self) -> Compared<'_> {
        Compared {
            spec: &self.spec,
            name: &self.label.name,
            state: self.state,
            results: self.results.as_ref(),
            classes: self.classes.as_deref(),
        }
    }

    fn curves(&self) -> &[EpochMetrics] {
        self.results.as_ref().map_or(&[], |results| &results.curves)
    }
}

fn both(volumes: &Volumes, [a, b]: &[String; 2]) -> Result<(Comparison, Vec<Figure>)> {
    let (a, b) = (Known::of(volumes, a)?, Known::of(volumes, b)?);
    Ok((compare(a.compared(), b.compared()), chart::compared(a.curves(), b.curves())))
}
