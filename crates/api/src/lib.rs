//! Wire types of the house: what travels over HTTP and what lies in JSON files on the volumes.
//!
//! No I/O, no clock, no engine. Everything here is data, its validation and its defaults.

pub mod address;
pub mod backbone;
pub mod card;
pub mod compare;
pub mod dataset;
pub mod diagnosis;
pub mod disk;
pub mod error;
pub mod functions;
pub mod interval;
#[cfg(test)]
mod made_up;
pub mod model;
pub mod picture;
pub mod predict;
pub mod preprocess;
pub mod split;
pub mod train;

pub use error::{ErrorBody, ErrorCode, ErrorDetail};
pub use picture::{Background, Filter, Fit, Format, PreprocessSpec};
