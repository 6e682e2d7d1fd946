//! Knative's autoscaling as pure arithmetic.

pub mod annotations;
pub mod config;
pub mod field_error;
pub mod go;

pub use config::AutoscalerConfig;
pub use field_error::{FieldError, FieldErrors};
