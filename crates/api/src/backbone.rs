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
    /// Least side in pixels that it sees.
    pub least_side: u32,
    /// Whether its blocks can be trained on.
    pub is_trainable: bool,
}

impl BuiltIn {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        BUILT_IN.iter().find(|known| known.name == name)
    }
}

/// All that this build knows: families one after the other, in each the cheapest first.
pub const BUILT_IN: [BuiltIn; 4] = [
    BuiltIn {
        name: "efficientnet-lite0",
        file: "efficientnet-lite0.pth",
        sha256: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence: "Apache-2.0",
        least_side: 1,
        is_trainable: true,
    },
    BuiltIn {
        name: "efficientnet-lite1",
        file: "efficientnet-lite1.pth",
        sha256: "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        licence: "Apache-2.0",
        least_side: 1,
        is_trainable: true,
    },
    BuiltIn {
        name: "efficientnet-lite2",
        file: "efficientnet-lite2.pth",
        sha256: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence: "Apache-2.0",
        least_side: 1,
        is_trainable: true,
    },
    BuiltIn {
        name: "squeezenet1.1",
        file: "squeezenet1.1.h5",
        sha256: "308d1afdb450bd2836240f6cb6fe952cb2e33492fc3564b0c134391614c3dcb5",
        licence: "BSD-3-Clause",
        least_side: 32,
        is_trainable: false,
    },
];

/// Names of those that the setup fetches, and that the trainer's image therefore holds.
pub const FETCHED: [&str; 3] = ["efficientnet-lite0", "efficientnet-lite1", "squeezenet1.1"];

/// File name of the manifest of a person's own backbone.
pub const MANIFEST_FILE: &str = "backbone.json";

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

/// Sides in pixels that a network sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    /// This one and all above.
    From(u32),
    /// No other.
    Only(u32),
}

/// A backbone that is there, as far as settings have to go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its name.
    pub name: String,
    /// What it sees.
    pub sides: Sides,
    /// Whether its blocks can be trained on.
    pub is_trainable: bool,
}

impl From<&BuiltIn> for Installed {
    fn from(known: &BuiltIn) -> Self {
        Self { name: known.name.into(), sides: Sides::From(known.least_side), is_trainable: known.is_trainable }
    }
}

impl From<&BackboneManifest> for Installed {
    /// A person's own stays frozen and sees one side.
    fn from(own: &BackboneManifest) -> Self {
        Self { name: own.name.clone(), sides: Sides::Only(own.input_size), is_trainable: false }
    }
}

impl Installed {
    /// Says if it cannot see pictures of this side in pixels, with what it can.
    pub fn unseen(&self, input_size: u32) -> Option<String> {
        let seen = match self.sides {
            Sides::From(least) if input_size < least => format!("at least {least} pixels"),
            Sides::Only(side) if input_size != side => format!("{side} pixels only"),
            Sides::From(_) | Sides::Only(_) => return None,
        };
        Some(format!("input_size is {input_size}; backbone {} sees {seen}", self.name))
    }

    /// Says if it can only be used frozen.
    pub fn untrainable(&self) -> Option<String> {
        let name = &self.name;
        (!self.is_trainable).then(|| {
            format!("backbone {name} can only be used frozen; choose family linear or mlp, or another backbone")
        })
    }
}
