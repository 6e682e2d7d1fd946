//! A Knative Service: the template of its revisions and how traffic is split among them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Container, LocalObjectReference, ObjectMeta, PodSecurityContext, Volume, is_zero};

/// Group and version of the objects of this crate.
pub const API_VERSION: &str = "serving.knative.dev/v1";

/// The port of a container that names none.
const DEFAULT_PORT: u16 = 8080;

/// A Knative Service. Its status is not part of it: see [`crate::ServiceStatus`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// `serving.knative.dev/v1`.
    pub api_version: String,
    /// `Service`.
    pub kind: String,
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ServiceSpec,
}

/// What is wanted of a Service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// The next revision.
    pub template: RevisionTemplateSpec,
    /// Who gets which part of the traffic.
    #[serde(skip_serializing_if = "is_zero")]
    pub traffic: Vec<TrafficTarget>,
}

/// A revision to be made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RevisionTemplateSpec {
    /// Labels and annotations of the revision, and its name if the author brings one.
    #[serde(skip_serializing_if = "is_zero")]
    pub metadata: ObjectMeta,
    /// What runs.
    pub spec: RevisionSpec,
}

/// What runs in a revision: the fields of a pod and four of Knative's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RevisionSpec {
    /// Requests that an instance takes at once; 0 is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_concurrency: Option<i64>,
    /// Seconds a request may take in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// Seconds until the first byte of the answer; 0 is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_start_timeout_seconds: Option<i64>,
    /// Seconds without a byte of the answer; 0 is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<i64>,

    /// The containers; one of them takes the requests.
    pub containers: Option<Vec<Container>>,
    /// Containers that run before the others; behind a feature flag.
    #[serde(skip_serializing_if = "is_zero")]
    pub init_containers: Vec<Container>,
    /// Volumes.
    #[serde(skip_serializing_if = "is_zero")]
    pub volumes: Vec<Volume>,
    /// The account whose rights the pod has.
    #[serde(skip_serializing_if = "is_zero")]
    pub service_account_name: String,
    /// May only be `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
    /// Secrets for pulling images.
    #[serde(skip_serializing_if = "is_zero")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Whether the addresses of other services stand in the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_service_links: Option<bool>,
    /// Rights of all containers; behind a feature flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,

    #[serde(skip_serializing_if = "Option::is_none")]
    affinity: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_selector: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerations: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topology_spread_constraints: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_aliases: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_config: Option<Value>,
    #[serde(skip_serializing_if = "is_zero")]
    dns_policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_class_name: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    scheduler_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    priority_class_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_process_namespace: Option<bool>,
    #[serde(skip_serializing_if = "is_zero")]
    host_network: bool,
    #[serde(rename = "hostPID", skip_serializing_if = "is_zero")]
    host_pid: bool,
    #[serde(rename = "hostIPC", skip_serializing_if = "is_zero")]
    host_ipc: bool,

    #[serde(skip_serializing_if = "Option::is_none")]
    ephemeral_containers: Option<Value>,
    #[serde(skip_serializing_if = "is_zero")]
    restart_policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    termination_grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_deadline_seconds: Option<i64>,
    #[serde(skip_serializing_if = "is_zero")]
    service_account: String,
    #[serde(skip_serializing_if = "is_zero")]
    node_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    hostname: String,
    #[serde(skip_serializing_if = "is_zero")]
    subdomain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readiness_gates: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preemption_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overhead: Option<Value>,
    #[serde(rename = "setHostnameAsFQDN", skip_serializing_if = "Option::is_none")]
    set_hostname_as_fqdn: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_users: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduling_gates: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_claims: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname_override: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload_ref: Option<Value>,
}

impl RevisionSpec {
    /// All containers but the init containers.
    pub fn containers(&self) -> &[Container] {
        self.containers.as_deref().unwrap_or_default()
    }

    /// The container that takes the requests: the only one, or the one with a port.
    pub fn serving_container(&self) -> Option<&Container> {
        match self.containers() {
            [only] => Some(only),
            several => several.iter().find(|container| !container.ports.is_empty()),
        }
    }

    /// Requests that an instance takes at once; 0 is unlimited.
    pub fn concurrency_limit(&self) -> u32 {
        self.container_concurrency.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(0)
    }

    /// How long a request may take in all; `None` is unlimited.
    pub fn timeout(&self) -> Option<Duration> {
        seconds(self.timeout_seconds)
    }

    /// How long the first byte of an answer may take; `None` is unlimited.
    pub fn response_start_timeout(&self) -> Option<Duration> {
        seconds(self.response_start_timeout_seconds)
    }

    /// How long an answer may pause; `None` is unlimited.
    pub fn idle_timeout(&self) -> Option<Duration> {
        seconds(self.idle_timeout_seconds)
    }

    /// The port of the serving container.
    pub fn port(&self) -> u16 {
        let port = self.serving_container().and_then(|container| container.ports.first());
        port.and_then(|port| u16::try_from(port.container_port).ok()).filter(|port| *port != 0).unwrap_or(DEFAULT_PORT)
    }

    /// Whether the serving container speaks HTTP/2 without TLS.
    pub fn is_h2c(&self) -> bool {
        self.serving_container().and_then(|container| container.ports.first()).is_some_and(|port| port.name == "h2c")
    }
}

/// Seconds as a duration; 0 and less turn a timeout off.
fn seconds(seconds: Option<i64>) -> Option<Duration> {
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// A part of the traffic and who gets it: in a spec what is wanted, in a status what is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficTarget {
    /// Name of a host of its own.
    #[serde(skip_serializing_if = "is_zero")]
    pub tag: String,
    /// A certain revision.
    #[serde(skip_serializing_if = "is_zero")]
    pub revision_name: String,
    /// The latest ready revision of a configuration; a Service fills in its own.
    #[serde(skip_serializing_if = "is_zero")]
    pub configuration_name: String,
    /// Whether the latest ready revision is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_revision: Option<bool>,
    /// The part, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
    /// Address of the tag's host; only in a status.
    #[serde(skip_serializing_if = "is_zero")]
    pub url: String,
}

impl TrafficTarget {
    /// A part of the traffic for the latest ready revision.
    pub fn latest(percent: i64) -> Self {
        Self { latest_revision: Some(true), percent: Some(percent), ..Self::default() }
    }

    /// A part of the traffic for a certain revision.
    pub fn pinned(revision_name: impl Into<String>, percent: i64) -> Self {
        Self {
            revision_name: revision_name.into(),
            latest_revision: Some(false),
            percent: Some(percent),
            ..Self::default()
        }
    }

    /// The same with a host of its own.
    #[must_use]
    pub fn tagged(mut self, tag: impl Into<String>) -> Self {
        self.tag = tag.into();
        self
    }

    /// Whether it follows the latest ready revision.
    pub fn is_latest(&self) -> bool {
        self.latest_revision.unwrap_or(self.revision_name.is_empty())
    }

    /// The part, 0 where none is given.
    pub fn percent(&self) -> i64 {
        self.percent.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    fn spec(spec: serde_json::Value) -> RevisionSpec {
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn zero_and_less_turn_a_timeout_off() {
        let spec = spec(json!({"timeoutSeconds": 30, "responseStartTimeoutSeconds": -5, "idleTimeoutSeconds": 0}));
        assert_eq!(spec.timeout(), Some(Duration::from_secs(30)));
        assert_eq!((spec.response_start_timeout(), spec.idle_timeout()), (None, None));
        assert_eq!(spec.concurrency_limit(), 0);
    }

    #[test]
    fn the_container_with_a_port_takes_the_requests() {
        let two = spec(
            json!({"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 81, "name": "h2c"}]}]}),
        );
        assert_eq!(two.serving_container().map(|container| container.name.as_str()), Some("b"));
        assert_eq!((two.port(), two.is_h2c()), (81, true));
        let one = spec(json!({"containers": [{"name": "a"}]}));
        assert_eq!((one.port(), one.is_h2c()), (8080, false));
    }

    #[test]
    fn unwritten_fields_stay_unwritten() {
        let written = json!({
            "apiVersion": API_VERSION, "kind": "Service", "metadata": {"name": "hello"},
            "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "fn:v1", "resources": {}}]}}},
        });
        let service: Service = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(service).unwrap(), written);
    }
}
