//! Whether an object may be taken, in the words of Knative's webhook: all errors at once.
//!
//! Warnings are left out: they refuse nothing. What only an API server can know, such as owners of objects, is too.
//!
//! # Source
//! `pkg/apis/serving` of Knative Serving.

mod container;
mod image;
mod mask;
mod metadata;
mod pod;
mod probe;
mod revision;
mod route;
mod service;
#[cfg(test)]
mod tests;
mod volume;

pub use revision::{validate_revision_name, validate_timeout_seconds};
pub use route::{TargetContext, validate_route, validate_traffic_target};
pub use service::{validate_service, validate_service_update};
