//! The page of the models.

use api::model::ModelManifest;
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
