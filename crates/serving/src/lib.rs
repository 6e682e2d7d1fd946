//! Knative Serving's objects as pure data: a Service, the revisions it makes and how traffic finds them.

pub mod admission;
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
pub mod traffic;
pub mod validation;
