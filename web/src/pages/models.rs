//! The page of the models.

use api::{model::ModelManifest, train::Promotion};
use askama::Template;

use crate::functions::Usage;

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

/// A version in the list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedVersion {
    /// What it is.
    pub manifest: ModelManifest,
    /// Whether the run that it came of is still there.
    pub has_run: bool,
    /// What it is used for.
    pub usage: Usage,
    /// How it compared with the version that was in use.
    pub gate: Option<Promotion>,
    /// Side that the network sees, in pixels.
    pub input_size: Option<u32>,
    /// Of the network alone on one thread.
    pub milliseconds_per_picture: Option<f64>,
    /// What its files take on the disk.
    pub bytes: u64,
}

/// All versions of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedModel {
    /// Registry name.
    pub name: String,
    /// Newest first.
    pub versions: Vec<ListedVersion>,
    /// Those that cannot be read, newest first.
    pub unreadable: Vec<String>,
    /// Whether requests can be shared out among versions: whether any function serves one.
    pub is_served: bool,
}
