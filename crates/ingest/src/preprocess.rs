//! Who processes the pictures: the preprocess function by its URL, or the same code within this process.

use std::future::Future;

use api::{ErrorDetail, PreprocessSpec, preprocess::Facts};
use bytes::Bytes;
use imaging::Probe;

use crate::IngestError;

mod function;
mod native;

pub use function::{FunctionClient, Patience};
pub use native::Native;

/// A processed picture.
///
/// # Shapes
/// `pixels`: `[height, width, 3]` of the spec asked for, u8, upright RGB
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processed {
    /// Facts about the original.
    pub facts: Facts,
    /// The pixels.
    pub pixels: Vec<u8>,
}

/// Why there is no processed picture.
#[derive(Debug)]
pub enum Refusal {
    /// The picture is to blame; the next one may do.
    Picture(ErrorDetail),
    /// The service fails at this picture and at no other; the next one may do.
    Failed(IngestError),
    /// The service is to blame; nothing is known of the picture.
    Service(IngestError),
}

/// Something that turns encoded pictures into pixels.
pub trait Preprocess: Send + Sync + 'static {
    /// Format and size of a picture, without its pixels.
    fn probe(&self, picture: Bytes) -> impl Future<Output = Result<Probe, Refusal>> + Send;

    /// The picture as `spec` says.
    fn process(&self, picture: Bytes, spec: &PreprocessSpec)
    -> impl Future<Output = Result<Processed, Refusal>> + Send;
}
