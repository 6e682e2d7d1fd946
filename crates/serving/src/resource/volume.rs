//! Volumes of a pod and what they show.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Quantity, is_zero};

/// A volume. Exactly one source is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Unique within the pod.
    pub name: String,
    /// A folder of the node; behind a feature flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<Value>,
    /// A folder that lives as long as the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolumeSource>,
    /// The entries of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolumeSource>,
    /// The entries of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolumeSource>,
    /// Several sources in one folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projected: Option<ProjectedVolumeSource>,
    /// A persistent volume; behind a feature flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    /// A volume of a CSI driver; behind a feature flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csi: Option<Value>,
    /// A claim that lives as long as the pod; behind a feature flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Value>,
    /// The files of an image; behind a feature flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageVolumeSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gce_persistent_disk: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_elastic_block_store: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    git_repo: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nfs: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iscsi: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    glusterfs: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rbd: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flex_volume: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cinder: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cephfs: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flocker: Option<Value>,
    #[serde(rename = "downwardAPI", skip_serializing_if = "Option::is_none")]
    downward_api: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fc: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azure_file: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vsphere_volume: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quobyte: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azure_disk: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    photon_persistent_disk: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    portworx_volume: Option<Value>,
    #[serde(rename = "scaleIO", skip_serializing_if = "Option::is_none")]
    scale_io: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storageos: Option<Value>,
}

impl Volume {
    /// Whether containers may write to it, as far as its kind is concerned.
    pub fn may_be_written(&self) -> bool {
        self.empty_dir.is_some() || self.persistent_volume_claim.is_some() || self.ephemeral.is_some()
    }
}

/// A folder that lives as long as the pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EmptyDirVolumeSource {
    /// `Memory`, or empty for the node's disk.
    #[serde(skip_serializing_if = "is_zero")]
    pub medium: String,
    /// The most it may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}

/// The entries of a Secret as files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretVolumeSource {
    /// Name of the Secret.
    #[serde(skip_serializing_if = "is_zero")]
    pub secret_name: String,
    /// The entries; all, if there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub items: Vec<KeyToPath>,
    /// Mode of the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<i32>,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// The entries of a ConfigMap as files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMapVolumeSource {
    /// Name of the ConfigMap.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// The entries; all, if there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub items: Vec<KeyToPath>,
    /// Mode of the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<i32>,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// An entry and the file it becomes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeyToPath {
    /// The entry.
    pub key: String,
    /// Path of the file, relative to the volume.
    pub path: String,
    /// Mode of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<i32>,
}

/// Several sources in one folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProjectedVolumeSource {
    /// The sources.
    pub sources: Vec<VolumeProjection>,
    /// Mode of the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<i32>,
}

/// One source of a projected volume. Exactly one is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeProjection {
    /// Entries of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectProjection>,
    /// Facts about the pod.
    #[serde(rename = "downwardAPI", skip_serializing_if = "Option::is_none")]
    pub downward_api: Option<DownwardApiProjection>,
    /// Entries of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ObjectProjection>,
    /// A token of the service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_token: Option<ServiceAccountTokenProjection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_trust_bundle: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_certificate: Option<Value>,
}

/// Entries of a ConfigMap or Secret in a projected volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectProjection {
    /// Name of the ConfigMap or Secret.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// The entries; all, if there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub items: Vec<KeyToPath>,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A token of the service account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccountTokenProjection {
    /// Whom the token is for.
    #[serde(skip_serializing_if = "is_zero")]
    pub audience: String,
    /// Seconds until it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_seconds: Option<i64>,
    /// Path of the file.
    pub path: String,
}

/// Facts about the pod as files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DownwardApiProjection {
    /// The files.
    #[serde(skip_serializing_if = "is_zero")]
    pub items: Vec<DownwardApiVolumeFile>,
}

/// A fact about the pod as a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownwardApiVolumeFile {
    /// Path of the file.
    pub path: String,
    /// A field of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<Value>,
    /// A resource of a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_field_ref: Option<Value>,
    /// Mode of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<i32>,
}

/// A persistent volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PersistentVolumeClaimVolumeSource {
    /// Name of the claim.
    pub claim_name: String,
    /// Whether nobody may write.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
}

/// The files of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageVolumeSource {
    /// Reference of the image.
    #[serde(skip_serializing_if = "is_zero")]
    pub reference: String,
    /// When it is pulled.
    #[serde(skip_serializing_if = "is_zero")]
    pub pull_policy: String,
}
