//! Pretrained networks that classifiers are built on: which are known, and how a person's own one describes itself.

use serde::{Deserialize, Serialize};

/// Version of [`BackboneManifest`]'s layout.
pub const SCHEMA: u32 = 1;

/// File name of the network of a person's own backbone.
pub const NETWORK_FILE: &str = "backbone.onnx";

/// A backbone that this build knows; it is installed where its file lies in the backbones' folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name, and that of its weights file without the ending.
    pub name: &'static str,
    /// Name of the weights file.
    pub file: &'static str,
    /// SHA-256 of the weights file, 64 hex digits.
    pub sha256: &'static str,
    /// SPDX identifier of the weights' licence.
    pub licence: &'static str,
}

/// `backbone.json` of a backbone that a person added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackboneManifest {
    /// Layout version, see [`SCHEMA`].
    pub schema: u32,
    /// Its name.
    pub name: String,
    /// SPDX identifier of the weights' licence, as the person stated it.
    pub licence: String,
    /// SHA-256 of [`NETWORK_FILE`], 64 hex digits.
    pub sha256: String,
    /// Name of the graph's one input: f32 `[N, 3, input_size, input_size]`, RGB.
    pub input: String,
    /// Name of the output that is taken as features: f32 `[N, n_features]` or `[N, n_features, h, w]`, which is averaged.
    pub output: String,
    /// Side in pixels that the network sees.
    pub input_size: u32,
    /// Per picture.
    pub n_features: u32,
    /// Per channel, subtracted from the 0..=255 value.
    pub mean: [f32; 3],
    /// Per channel, divides what is left.
    pub deviation: [f32; 3],
    /// RFC 3339, UTC.
    pub created: String,
}
