//! The list of runs.

use api::train::{Results, RunState};
use askama::Template;
use jiff::Timestamp;

use crate::{runs::RunView, words};

/// `/runs`.
#[derive(Template)]
#[template(path = "runs.html")]
pub struct Runs {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// Newest first.
    pub runs: Vec<ListedRun>,
    /// Ids of those that cannot be read.
    pub unreadable: Vec<String>,
    /// What all of them take on the disk.
    pub bytes: u64,
}

/// A run in the list.
pub struct ListedRun {
    /// The run.
    pub view: RunView,
    /// What came out.
    pub results: Option<Results>,
    /// Name of its dataset, where that is still there.
    pub dataset_name: Option<String>,
}

impl ListedRun {
    fn is_comparable(&self) -> bool {
        self.view.status.state == RunState::Succeeded && self.results.is_some()
    }

    /// From its begin to its end, if both are known.
    fn duration(&self) -> Option<String> {
        let time = |text: &Option<String>| text.as_deref()?.parse::<Timestamp>().ok();
        let (started, ended) = (time(&self.view.status.started)?, time(&self.view.status.ended)?);
        Some(words::seconds(ended.duration_since(started).as_secs_f64()))
    }
}
