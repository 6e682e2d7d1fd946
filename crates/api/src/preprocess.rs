//! HTTP contract of the preprocess function.

use serde::{Deserialize, Serialize};

use crate::{ErrorDetail, Format, PreprocessSpec};

/// Media type of the compact answer: one safetensors file with the tensor `images`, u8
/// `[n_processed, height, width, 3]`, and the JSON of [`BatchAnswer`] (without `image` fields) under the
/// metadata key `answer`. Rows follow the entries that have no error, in order.
pub const SAFETENSORS: &str = "application/x-safetensors";

/// Side of the default square, in pixels.
pub const DEFAULT_SIDE: u32 = 224;

/// Body of `POST /` with `Content-Type: application/json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchRequest {
    /// The pictures.
    pub images: Vec<EncodedImage>,
    /// How to process them; a square of [`DEFAULT_SIDE`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<PreprocessSpec>,
}

/// One picture inside a JSON request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EncodedImage {
    /// Comes back with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Base64 of the file's bytes; a `data:` URL is accepted too.
    pub image: String,
}

/// Answer to a batch: one entry per picture, in the order given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchAnswer {
    /// How the pictures were processed.
    pub spec: PreprocessSpec,
    /// One entry per picture.
    pub images: Vec<Entry>,
}

/// What became of one picture: either everything about it, or an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Entry {
    /// As given in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Either a processed picture or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Outcome {
    /// The picture could not be processed.
    Failed {
        /// Why.
        error: ErrorDetail,
    },
    /// The picture was processed.
    Processed(Processed),
}

/// A processed picture and what is known of the original.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Processed {
    /// Base64 of the processed picture as PNG; absent in the compact form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Facts about the original.
    #[serde(flatten)]
    pub facts: Facts,
}

/// What is known of an original picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Facts {
    /// Upright width of the original in pixels.
    pub width: u32,
    /// Upright height of the original in pixels.
    pub height: u32,
    /// Format by content.
    pub format: Format,
    /// SHA-256 of the file's bytes, 64 hex digits.
    pub content_hash: String,
    /// Perceptual hash of the upright picture, 16 hex digits; near pictures differ in few bits.
    pub perceptual_hash: String,
}
