//! Knative's autoscaling as pure arithmetic.

pub mod annotations;
pub mod config;
pub mod decider;
pub mod field_error;
pub mod go;
pub mod metrics;
pub mod reconcile;
pub mod resolve;
pub mod revision;
pub mod time;

pub use config::AutoscalerConfig;
pub use field_error::{FieldError, FieldErrors};
