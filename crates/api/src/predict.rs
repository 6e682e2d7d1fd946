//! HTTP contract of the inference function.

use serde::{Deserialize, Serialize};

use crate::{ErrorDetail, preprocess::EncodedImage};

/// Labels ranked in `top_k` unless the request says otherwise.
pub const DEFAULT_TOP_K: usize = 5;

/// Body of `POST /predict` with `Content-Type: application/json`. Unknown fields are ignored, because the
/// original's clients send some.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PredictRequest {
    /// The pictures.
    pub images: Vec<EncodedImage>,
    /// Whether each answer repeats its picture as a `data:` URL. On by default, as the original did.
    #[serde(default = "yes")]
    pub include_images: bool,
    /// How many labels to rank; all of them if there are fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
}

fn yes() -> bool {
    true
}

/// What became of one picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Prediction {
    /// As given in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The picture as a `data:` URL of its own media type.
    #[serde(default, rename = "imageUrl", skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// The most probable label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<String>,
    /// Its probability, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// Whether the picture may belong to none of the classes; absent where the model cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsure: Option<bool>,
    /// Highest probability first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_k: Vec<Ranked>,
    /// Why there is no prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}

/// A label and how probable it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ranked {
    /// Human name.
    pub label: String,
    /// 0..=1; all labels together make 1.
    pub probability: f32,
}

/// Answer of the inference function's `GET /`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FunctionInfo {
    /// What the function is.
    pub function: String,
    /// What can be asked of it.
    pub routes: Vec<String>,
    /// The model it answers with; absent until one is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelInfo>,
}

/// The model behind a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelInfo {
    /// Registry name.
    pub name: String,
    /// Registry version.
    pub version: u32,
    /// In class-index order.
    pub labels: Vec<String>,
}
