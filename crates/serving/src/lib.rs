//! Knative Serving's objects as pure data: a Service, the revisions it makes and how traffic finds them.
//!
//! For a runtime that takes the manifests a cluster takes and must do with them what the cluster does. There is no
//! clock, no thread and no randomness in here: the time and the dice are arguments. The only I/O is reading manifests.
//!
//! | to … | see |
//! |---|---|
//! | read YAML | [`Manifests::read`], [`Manifests::parse`] |
//! | follow one Service through its life | [`ServiceState`] |
//! | find a revision for a request | [`Routing::find`], [`Rule::path`], [`Path::choose`] |
//! | tell whether a revision is reachable | [`Revision::reachability`] |
//! | show how it stands | [`ServiceState::status`] |
//! | check a Service alone | [`admission`], [`validation`] |
//!
//! Left out: Configurations, Routes and Revisions that belong to no Service; certificates; the warnings of the webhook;
//! what the API server checks by itself, but for unknown fields and wrong types.
//!
//! # What the replay covers
//!
//! `tests/knative_vectors` compares all of this with recordings of Knative's own code, of these kinds:
//!
//! | kind | compared |
//! |---|---|
//! | `service_admission`, `service_update` | [`admission`], [`validation`] |
//! | `validate_route`, `validate_traffic_target`, `validate_revision_name`, `validate_timeout_seconds` | [`validation`] |
//! | `config_defaults` | [`config::DefaultsConfig`] |
//! | `child_name` | [`name::child_name`] |
//! | `traffic` | [`traffic::Traffic`], [`Routing`] |
//! | `rollout_step`, `rollout_observe_ready` | [`rollout::Rollout`] |
//!
//! and leaves the others to the crates whose matter they are: scaling, and the path of a request.

pub mod admission;
mod apply;
pub mod config;
mod defaulting;
pub mod gc;
pub mod host;
pub mod manifest;
pub mod name;
pub mod resource;
pub mod revision;
pub mod rollout;
pub mod routing;
pub mod state;
pub mod status;
pub mod traffic;
pub mod validation;

pub use config::Config;
pub use manifest::{ManifestError, Manifests, ServiceManifest};
pub use resource::Service;
pub use revision::{Readiness, Revision, RoutingState};
pub use routing::{Path, Routing, Rule, Split};
pub use state::{Changes, Context, ServiceState};
pub use status::ServiceStatus;
