//! What holds for all containers of a pod together. The pod's own fields stand in [`super::RevisionSpec`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SeccompProfile, is_zero};

/// Rights of all containers; behind a feature flag.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSecurityContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    se_linux_options: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows_options: Option<Value>,
    /// User id, 0 to 2^31-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
    /// Group id, 0 to 2^31-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<i64>,
    /// Refuses to run as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// Further group ids.
    #[serde(skip_serializing_if = "is_zero")]
    pub supplemental_groups: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplemental_groups_policy: Option<String>,
    /// Group that owns the volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sysctls: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fs_group_change_policy: Option<String>,
    /// System calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<SeccompProfile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_armor_profile: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    se_linux_change_policy: Option<String>,
}

/// An object of the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalObjectReference {
    /// Its name.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
}
