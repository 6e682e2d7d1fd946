//! What lies on the volumes, in bytes.

use serde::{Deserialize, Serialize};

/// What everything takes, and what room is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskUse {
    /// Newest first.
    pub datasets: Vec<Used>,
    /// Newest first.
    pub runs: Vec<Used>,
    /// By name, then newest first.
    pub versions: Vec<UsedByVersion>,
    /// Backbones that people added.
    pub backbones_bytes: u64,
    /// What is kept so that it need not be computed again; may be deleted at any time.
    pub cache_bytes: u64,
    /// Functions that were baked for a cluster.
    pub artefacts_bytes: u64,
    /// Uploads and others in the making, and what crashes left of them.
    pub half_made_bytes: u64,
    /// Both volumes; on a laptop they share one file system.
    pub volumes: Vec<Volume>,
}

/// What a dataset or a run takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Used {
    /// Its id.
    pub id: String,
    /// Its files together.
    pub bytes: u64,
}

/// What a version takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsedByVersion {
    /// Registry name.
    pub model: String,
    /// Version, from 1.
    pub version: u32,
    /// Its files together.
    pub bytes: u64,
}

/// The file system of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Volume {
    /// 1 or 2.
    pub number: u32,
    /// What the service may still write.
    pub free_bytes: u64,
    /// Its size.
    pub total_bytes: u64,
}
