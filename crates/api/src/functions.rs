//! What an engine tells of its functions, and what it can be asked. An engine is the embedded runtime or a cluster.
//!
//! At the runtime's admin port, `GET /admin/status` answers a [`Status`]; `PUT /admin/services/{namespace}/{name}/traffic` takes a list of
//! [`TrafficTarget`]s and answers the [`ServiceStatus`] that comes of it; `POST /admin/apply` takes Knative manifests
//! as YAML. Errors are an [`ErrorBody`](crate::ErrorBody).

use serde::{Deserialize, Serialize};

/// Everything an engine serves, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: i64,
    /// Resident memory of the runtime's process; 0 where the engine is no process of ours.
    pub resident_bytes: u64,
    /// The functions, by namespace and name.
    pub services: Vec<ServiceStatus>,
    /// Versions that are being prepared before any function is told of them, or that could not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publications: Vec<Publication>,
}

/// A version on its way to a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Publication {
    /// Registry name.
    pub model: String,
    /// Version, from 1.
    pub version: u32,
    /// The part of the requests it is to get, 1 to 100.
    pub percent: u32,
    /// How far it is.
    pub stage: Stage,
    /// What keeps it, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How far a publication is. One that has ended well is seen in the function's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The function is being baked with it.
    Baking,
    /// A revision with it is coming to life.
    Starting,
    /// It did not come to that.
    Failed,
}

/// A Knative Service: one function and all its revisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it is called.
    pub url: String,
    /// Whether its latest revision and its routing are as its manifest says.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The revision of the present template.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latest_created: Option<String>,
    /// The newest revision that has become ready.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latest_ready: Option<String>,
    /// Who gets which part of the requests now.
    pub traffic: Vec<TrafficShare>,
    /// Its revisions, newest first.
    pub revisions: Vec<RevisionStatus>,
}

impl ServiceStatus {
    /// What a person calls the function: its name, after its namespace where that is not the usual one.
    pub fn label(&self) -> String {
        match self.namespace.as_str() {
            "default" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }
}

/// A revision's part of a Service's requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrafficShare {
    /// The revision.
    pub revision: String,
    /// Its part of the requests at the Service's own URL, 0 to 100.
    pub percent: u32,
    /// Whether it gets this part for being the latest ready one.
    pub latest: bool,
    /// The tag that it is also reached by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tag: Option<String>,
    /// Where its tag is called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub url: Option<String>,
}

/// A wish for a Service's traffic, as Knative's manifests spell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficTarget {
    /// The revision; none stands for the latest ready one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision_name: Option<String>,
    /// Whether the latest ready revision is meant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latest_revision: Option<bool>,
    /// Its part, 0 to 100; all parts are 100 together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub percent: Option<i64>,
    /// A tag to reach it by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tag: Option<String>,
}

impl TrafficTarget {
    /// This part for a revision, or for the latest ready one if none is named.
    pub fn part(revision: Option<&str>, percent: i64, tag: Option<&str>) -> Self {
        Self {
            revision_name: revision.map(str::to_owned),
            latest_revision: Some(revision.is_none()),
            percent: Some(percent),
            tag: tag.map(str::to_owned),
        }
    }
}

/// How far a revision has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its artefact is being looked for, or baked.
    #[default]
    Preparing,
    /// It can serve.
    Ready,
    /// It cannot serve, and `reason` says why; it is tried again.
    Failed,
}

/// Whether a revision is there for requests, in Knative's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Instances are coming.
    #[default]
    Activating,
    /// It has the instances it should have.
    Active,
    /// It is scaled to zero.
    Inactive,
}

/// One revision and its autoscaling.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevisionStatus {
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub phase: Phase,
    /// Why it cannot serve.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Folders it was baked with.
    pub mounted: Vec<String>,
    /// Whether a route leads to it.
    pub reachable: bool,
    /// Whether it is there for requests.
    pub activity: Activity,
    /// `Proxy` if requests go through the activator, `Serve` if straight to the instances; empty where the engine does
    /// not tell, and then the figures of requests and of their concurrency are not known either.
    pub mode: String,
    /// Instances it is meant to have; -1 while nothing is known.
    pub desired: i32,
    /// Instances that take requests.
    pub ready: u32,
    /// Instances that finish their last requests.
    pub draining: u32,
    /// Requests that instances work on.
    pub running: u64,
    /// Requests that wait.
    pub waiting: u64,
    /// Mean requests in flight over the stable window.
    pub stable_concurrency: f64,
    /// The same over the panic window.
    pub panic_concurrency: f64,
    /// Requests in flight that one instance should have.
    pub target_concurrency: f64,
    /// Whether it is in panic mode, in which it never scales down.
    pub panicking: bool,
    /// Requests that would find room beyond the burst capacity; negative if the activator must stay in the path.
    pub excess_burst_capacity: i32,
    /// Requests answered so far.
    pub requests: u64,
    /// Of these, with a status of 500 and above.
    pub failures: u64,
    /// Requests that met zero instances.
    pub cold_starts: u64,
    /// How long the latest of these waited for its place, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_cold_start_ms: Option<f64>,
    /// Its latest decisions, newest first.
    pub decisions: Vec<Decision>,
}

impl RevisionStatus {
    /// Registry name and version of the model it was baked with: a folder `…/<name>/v<N>`.
    pub fn model(&self) -> Option<(&str, u32)> {
        self.mounted.iter().find_map(|folder| {
            let mut parts = folder.trim_end_matches('/').rsplit('/');
            let version = parts.next()?.strip_prefix('v')?.parse().ok().filter(|version| *version > 0)?;
            Some((parts.next().filter(|name| !name.is_empty())?, version))
        })
    }
}

/// A change of mind of the autoscaler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Decision {
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: i64,
    /// Instances wanted from then on.
    pub desired: i32,
    /// Instances there were.
    pub ready: u32,
    /// Why, in words.
    pub reason: String,
}
