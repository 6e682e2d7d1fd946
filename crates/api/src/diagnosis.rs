//! What the web service finds when it looks at what surrounds it: `GET /api/diagnosis`.

use serde::{Deserialize, Serialize};

/// Everything it looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diagnosis {
    /// The service's version.
    pub version: String,
    /// When, by its clock, in milliseconds since the Unix epoch.
    pub at_unix_ms: i64,
    /// Both functions, called where the service calls them.
    pub functions: Vec<Answering>,
    /// Versions that are in use.
    pub models: Vec<InUse>,
    /// What is wrong with the volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<String>,
    /// Why the cluster's API does not answer the service, where training and functions are a cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// Whether a function answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Answering {
    /// Its name.
    pub name: String,
    /// Where it was called.
    pub url: String,
    /// How long it took, waking up included.
    pub milliseconds: f64,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A version that is in use, read and compared with its manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InUse {
    /// Registry name.
    pub name: String,
    /// Version.
    pub version: u32,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
