//! Containers, their environment, resources, mounts and rights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Probe, Quantity, is_zero};

/// One container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Unique within the pod.
    pub name: String,
    /// Reference of the image.
    #[serde(skip_serializing_if = "is_zero")]
    pub image: String,
    /// Instead of the image's entry point.
    #[serde(skip_serializing_if = "is_zero")]
    pub command: Vec<String>,
    /// Arguments of the entry point.
    #[serde(skip_serializing_if = "is_zero")]
    pub args: Vec<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "is_zero")]
    pub working_dir: String,
    /// The port that takes requests; at most one in a revision.
    #[serde(skip_serializing_if = "is_zero")]
    pub ports: Vec<ContainerPort>,
    /// Environment taken whole from ConfigMaps and Secrets.
    #[serde(skip_serializing_if = "is_zero")]
    pub env_from: Vec<EnvFromSource>,
    /// Environment.
    #[serde(skip_serializing_if = "is_zero")]
    pub env: Vec<EnvVar>,
    /// What the container needs and may use.
    pub resources: ResourceRequirements,
    #[serde(skip_serializing_if = "Option::is_none")]
    resize_policy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_policy_rules: Option<Value>,
    /// Volumes seen by the container.
    #[serde(skip_serializing_if = "is_zero")]
    pub volume_mounts: Vec<VolumeMount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_devices: Option<Value>,
    /// Whether it must be restarted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Whether it can take requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Whether it has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Hooks; never allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Value>,
    /// File with the last words of the container.
    #[serde(skip_serializing_if = "is_zero")]
    pub termination_message_path: String,
    /// `File` or `FallbackToLogsOnError`.
    #[serde(skip_serializing_if = "is_zero")]
    pub termination_message_policy: String,
    /// When the image is pulled.
    #[serde(skip_serializing_if = "is_zero")]
    pub image_pull_policy: String,
    /// Rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    #[serde(skip_serializing_if = "is_zero")]
    stdin: bool,
    #[serde(skip_serializing_if = "is_zero")]
    stdin_once: bool,
    #[serde(skip_serializing_if = "is_zero")]
    tty: bool,
}

/// A port of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// The protocol spoken: `h2c`, `http1` or empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    #[serde(skip_serializing_if = "is_zero")]
    host_port: i32,
    /// The port; 0 leaves the choice to Knative.
    pub container_port: i32,
    /// `TCP` or empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub protocol: String,
    #[serde(rename = "hostIP", skip_serializing_if = "is_zero")]
    host_ip: String,
}

/// A variable of the environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// The value itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: String,
    /// Where the value comes from instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVarSource {
    /// A field of the pod; behind a feature flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<Value>,
    /// A resource of the container; behind a feature flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_field_ref: Option<Value>,
    /// An entry of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeySelector>,
    /// An entry of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeySelector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_key_ref: Option<Value>,
}

/// An entry of a ConfigMap or Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeySelector {
    /// Name of the ConfigMap or Secret.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// The entry.
    pub key: String,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A ConfigMap or Secret whose entries all become variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvFromSource {
    /// Put before every name.
    #[serde(skip_serializing_if = "is_zero")]
    pub prefix: String,
    /// A ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapEnvSource>,
    /// A Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretEnvSource>,
}

/// A ConfigMap whose entries all become variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMapEnvSource {
    /// Name of the ConfigMap.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A Secret whose entries all become variables.
pub type SecretEnvSource = ConfigMapEnvSource;

/// What a container needs and may use, by resource: `cpu`, `memory`, `ephemeral-storage` and others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceRequirements {
    /// The most it may use.
    #[serde(skip_serializing_if = "is_zero")]
    pub limits: BTreeMap<String, Quantity>,
    /// What it is given for sure.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests: BTreeMap<String, Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Value>,
}

/// Where a container sees a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeMount {
    /// Name of the volume.
    pub name: String,
    /// Whether the container may only read.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    recursive_read_only: Option<String>,
    /// Absolute path within the container.
    pub mount_path: String,
    /// The part of the volume to show, relative to its root.
    #[serde(skip_serializing_if = "is_zero")]
    pub sub_path: String,
    /// Propagation of mounts; behind a feature flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_propagation: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    sub_path_expr: String,
}

/// Rights of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityContext {
    /// Capabilities beside the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// May only be `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
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
    /// Refuses writes outside of volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// Whether a process may gain rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proc_mount: Option<String>,
    /// System calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<SeccompProfile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_armor_profile: Option<Value>,
}

/// Capabilities added and dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// Added; behind a feature flag.
    #[serde(skip_serializing_if = "is_zero")]
    pub add: Vec<String>,
    /// Dropped.
    #[serde(skip_serializing_if = "is_zero")]
    pub drop: Vec<String>,
}

/// Which system calls are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompProfile {
    /// `RuntimeDefault`, `Localhost` or `Unconfined`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Profile on the node, for `Localhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub localhost_profile: Option<String>,
}
