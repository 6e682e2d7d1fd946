//! The pages: what each template is given. They hold no decisions beyond wording and layout.

use api::{
    dataset::{ClassCount, DatasetManifest, RejectReason, Rejected},
    functions::{Decision, RevisionStatus, ServiceStatus, TrafficShare},
    model::ModelManifest,
    predict::Prediction,
    train::Results,
};
use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;

use crate::{
    chart::Chart,
    error::Result,
    form::Form,
    functions::Usage,
    runs::{Live, RunView},
    split::Split,
    uploads::UploadView,
};

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
    /// The model in use.
    pub model: Option<ModelManifest>,
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

/// `/datasets/{id}`.
#[derive(Template)]
#[template(path = "dataset.html")]
pub struct Dataset {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// The manifest.
    pub m: DatasetManifest,
    /// A few pictures of each class.
    pub samples: Vec<Sample>,
    /// Rejected files by reason.
    pub rejects: Vec<Rejects>,
    /// Settings of a run.
    pub form: Form,
    /// Whether the settings are shown from the start.
    pub form_open: bool,
}

/// Rows of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its label.
    pub label: String,
    /// Rows over all splits.
    pub rows: Vec<u64>,
}

/// Files rejected for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejects {
    /// Why.
    pub reason: RejectReason,
    /// Which.
    pub files: Vec<Rejected>,
}

impl Rejects {
    /// Rejected files by reason.
    pub fn by_reason(rejected: &[Rejected]) -> Vec<Self> {
        let mut groups = std::collections::BTreeMap::<_, Vec<_>>::new();
        for file in rejected {
            groups.entry(file.reason).or_default().push(file.clone());
        }
        groups.into_iter().map(|(reason, files)| Self { reason, files }).collect()
    }
}

impl Dataset {
    /// Widths of the bar's parts, of which the largest class' fill 100 together.
    fn bar(&self, class: &ClassCount) -> [f64; 3] {
        let largest = self.m.classes.iter().map(ClassCount::total).max().unwrap_or(0).max(1);
        [class.train, class.validation, class.test].map(|n| 100.0 * n as f64 / largest as f64)
    }
}

/// `/runs`.
#[derive(Template)]
#[template(path = "runs.html")]
pub struct Runs {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// Newest first, with the accuracy on the test split where there is one.
    pub runs: Vec<(RunView, Option<f64>)>,
}

/// `/runs/{id}`.
#[derive(Template)]
#[template(path = "run.html")]
pub struct Run {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// The run.
    pub run: RunView,
    /// Name of its dataset, or the id where the dataset is gone.
    pub dataset_name: String,
    /// How far it is.
    pub live: Live,
    /// What came out.
    pub results: Option<Results>,
    /// Whether what came out is in use.
    pub is_current: bool,
    /// Last lines of the trainer's log, where the run did not succeed.
    pub log: String,
    /// Accuracies over epochs.
    pub accuracy_chart: Option<Chart>,
    /// Losses over epochs.
    pub loss_chart: Option<Chart>,
}

/// The part of `/runs/{id}` that changes.
#[derive(Template)]
#[template(path = "run_live.html")]
pub struct RunLive {
    /// How far it is.
    pub live: Live,
    /// Accuracies over epochs.
    pub accuracy_chart: Option<Chart>,
    /// Losses over epochs.
    pub loss_chart: Option<Chart>,
}

/// `/inference_page` and `/inference_page_2`.
#[derive(Template)]
#[template(path = "classify.html")]
pub struct Classify {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// The model in use.
    pub model: Option<ModelManifest>,
    /// Answers, in the order of the pictures.
    pub predictions: Vec<Prediction>,
    /// Why there are no answers.
    pub problem: Option<String>,
}

/// `/models`.
#[derive(Template)]
#[template(path = "models.html")]
pub struct Models {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// Whether there is an engine to follow.
    pub is_live: bool,
    /// By name.
    pub models: Vec<NamedModel>,
    /// Why it is not known who serves.
    pub problem: Option<String>,
}

/// The part of `/models` that changes.
#[derive(Template)]
#[template(path = "models_live.html")]
pub struct ModelsLive {
    /// By name.
    pub models: Vec<NamedModel>,
    /// Why it is not known who serves.
    pub problem: Option<String>,
}

/// All versions of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedModel {
    /// Registry name.
    pub name: String,
    /// Newest first, with what each is used for.
    pub versions: Vec<(ModelManifest, Usage)>,
    /// Whether requests can be shared out among versions: whether any function serves one.
    pub is_served: bool,
}

/// Decisions shown of each function.
const DECISIONS: usize = 6;

/// `/functions`.
#[derive(Template)]
#[template(path = "functions.html")]
pub struct Functions {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// Whether there is a runtime to follow.
    pub is_live: bool,
    /// By namespace and name.
    pub functions: Vec<FunctionView>,
    /// Why there are none.
    pub problem: Option<String>,
}

/// The part of `/functions` that changes.
#[derive(Template)]
#[template(path = "functions_live.html")]
pub struct FunctionsLive {
    /// By namespace and name.
    pub functions: Vec<FunctionView>,
    /// Why there are none.
    pub problem: Option<String>,
}

/// A function and the form of its traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionView {
    /// The function.
    pub service: ServiceStatus,
    /// The latest decisions and the revisions they concern, newest first.
    pub decisions: Vec<(String, Decision)>,
    /// The form.
    pub split: Split,
}

impl FunctionView {
    /// With the form as it is before anybody types.
    pub fn of(service: ServiceStatus) -> Self {
        let of_revision =
            |r: &RevisionStatus| r.decisions.iter().map(|d| (r.name.clone(), d.clone())).collect::<Vec<_>>();
        let mut decisions: Vec<_> = service.revisions.iter().flat_map(of_revision).collect();
        decisions.sort_by_key(|(_, decision)| std::cmp::Reverse(decision.at_unix_ms));
        decisions.truncate(DECISIONS);
        Self { decisions, split: Split::of(&service), service }
    }

    /// Id of its place on the page.
    pub fn id(&self) -> String {
        format!("{}.{}", self.service.namespace, self.service.name)
    }

    fn shares<'a>(&'a self, revision: &'a RevisionStatus) -> impl Iterator<Item = &'a TrafficShare> {
        self.service.traffic.iter().filter(|share| share.revision == revision.name)
    }
}

/// Percentage of what its instances should have in flight that a revision has, at most 100.
fn load(revision: &RevisionStatus) -> f64 {
    let wanted = revision.target_concurrency * f64::from(revision.ready.max(1));
    if wanted > 0.0 { (100.0 * revision.stable_concurrency / wanted).clamp(0.0, 100.0) } else { 0.0 }
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

fn label(labels: &[String], index: &usize) -> String {
    labels.get(*index).cloned().unwrap_or_default()
}

fn sum(row: &[u64]) -> u64 {
    row.iter().sum()
}

fn name(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or("picture")
}

/// With a capital and a full stop, as prose wants it.
fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if message.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{capital}{}{stop}", letters.as_str())
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
    fn a_load_is_a_share_of_what_all_ready_instances_should_have() {
        let revision = |ready, stable_concurrency, target_concurrency| RevisionStatus {
            ready,
            stable_concurrency,
            target_concurrency,
            ..RevisionStatus::default()
        };
        let loads = [revision(2, 0.5, 1.0), revision(0, 0.5, 1.0), revision(1, 9.0, 1.0), revision(1, 1.0, 0.0)];
        assert_eq!(loads.map(|revision| load(&revision)), [25.0, 50.0, 100.0, 0.0]);
    }

    #[test]
    fn many_classes_are_shortened() {
        let classes: Vec<_> =
            (0..8).map(|n| ClassCount { name: n.to_string(), train: 1, validation: 0, test: 0 }).collect();
        assert_eq!(names(&classes), "0, 1, 2, 3, 4, 5 and 2 more");
        assert_eq!(names(&classes[..2]), "0, 1");
    }
}
