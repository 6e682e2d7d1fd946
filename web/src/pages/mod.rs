//! The pages: what each template is given. They hold no decisions beyond wording and layout.

mod card;
mod compare;
mod dataset;
mod disk;
mod functions;
mod models;
mod pictures;
mod run;
mod runs;

use api::{
    dataset::{ClassCount, DatasetManifest},
    model::ModelManifest,
    predict::Prediction,
};
use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;

pub use self::{
    card::Card,
    compare::Compare,
    dataset::{Dataset, Doubted, Lookalike, Lookalikes, Rejects, Sample},
    disk::Disk,
    functions::{FunctionView, Functions, FunctionsLive},
    models::{ListedVersion, Models, ModelsLive, NamedModel},
    pictures::Pictures,
    run::{Outcome, Run, RunLive, ShownPicture, ShownSuspect, settings, title},
    runs::{ListedRun, Runs},
};
use crate::{error::Result, runs::RunView, uploads::UploadView};

/// Where the charts of a page are saved from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charts {
    /// Path in front of a chart's name.
    pub folder: String,
    /// What follows its ending.
    pub query: String,
}

impl Charts {
    /// Those below `path`.
    pub fn below(path: &str) -> Self {
        Self { folder: format!("{path}/charts"), query: String::new() }
    }

    /// Address of a chart.
    fn of(&self, id: &str, ending: &str) -> String {
        format!("{}/{id}.{ending}{}", self.folder, self.query)
    }
}

/// Renders a page.
pub fn page(template: &impl Template) -> Result<Html<String>> {
    Ok(Html(template.render()?))
}

/// Renders the page of a failure.
pub fn error(status: StatusCode, message: &str, request_id: &str) -> Response {
    let heading = match status.as_u16() {
        404 => "Not here",
        403 => "Not allowed",
        400..500 => "That did not work",
        502..=504 => "A part of Fovea does not answer",
        _ => "Something went wrong",
    };
    let message = sentence(message);
    let page = ErrorPage { nav: "", status: status.as_u16(), heading, message: &message, id: request_id };
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_) => (status, message).into_response(),
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    nav: &'a str,
    status: u16,
    heading: &'a str,
    message: &'a str,
    id: &'a str,
}

/// `/`.
#[derive(Template)]
#[template(path = "home.html")]
pub struct Home {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// The model in use, or its name where it cannot be read.
    pub model: Option<Result<ModelManifest, String>>,
    /// The newest run.
    pub run: Option<RunView>,
    /// Newest first.
    pub datasets: Vec<DatasetManifest>,
}

/// `/training_page`.
#[derive(Template)]
#[template(path = "train.html")]
pub struct Train {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// Newest first.
    pub datasets: Vec<DatasetManifest>,
    /// Ids of those that cannot be read.
    pub unreadable: Vec<String>,
}

/// `/uploads/{id}`.
#[derive(Template)]
#[template(path = "upload.html")]
pub struct Upload {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// The upload.
    pub view: UploadView,
}

/// The part of `/uploads/{id}` that changes.
#[derive(Template)]
#[template(path = "upload_live.html")]
pub struct UploadLive {
    /// The upload.
    pub view: UploadView,
}

/// `/inference_page` and `/inference_page_2`.
#[derive(Template)]
#[template(path = "classify.html")]
pub struct Classify {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// The model in use, or its name where it cannot be read.
    pub model: Option<Result<ModelManifest, String>>,
    /// Answers, in the order of the pictures.
    pub predictions: Vec<Prediction>,
    /// Why there are no answers.
    pub problem: Option<String>,
}

/// The classes' names, a few of them.
fn names(classes: &[ClassCount]) -> String {
    const SHOWN: usize = 6;
    let mut names = classes.iter().take(SHOWN).map(|class| class.name.as_str()).collect::<Vec<_>>().join(", ");
    if classes.len() > SHOWN {
        names.push_str(&format!(" and {} more", classes.len() - SHOWN));
    }
    names
}

fn stage(stage: &ingest::Stage) -> &'static str {
    match stage {
        ingest::Stage::Unpack => "Reading the files",
        ingest::Stage::Measure => "Looking at picture sizes",
        ingest::Stage::Process => "Processing pictures",
        ingest::Stage::Compare => "Looking for near duplicates",
        ingest::Stage::Publish => "Writing the dataset",
    }
}

fn name(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or("picture")
}

/// With a capital and a full stop, as prose wants it.
fn sentence(message: &str) -> String {
    let stop = if message.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{stop}", capital(message))
}

/// With a capital.
fn capital(text: impl AsRef<str>) -> String {
    let mut letters = text.as_ref().chars();
    let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{capital}{}", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_sentences_once() {
        assert_eq!(sentence("there is no run \"x\""), "There is no run \"x\".");
        assert_eq!(sentence("Is it running?"), "Is it running?");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn many_classes_are_shortened() {
        let classes: Vec<_> =
            (0..8).map(|n| ClassCount { name: n.to_string(), train: 1, validation: 0, test: 0 }).collect();
        assert_eq!(names(&classes), "0, 1, 2, 3, 4, 5 and 2 more");
        assert_eq!(names(&classes[..2]), "0, 1");
    }
}
