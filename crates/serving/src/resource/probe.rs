//! Probes: how it is found out whether a container lives, has started or can take requests.

use serde::{Deserialize, Serialize};

use super::is_zero;

/// A probe. Numbers that are 0 are not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// Succeeds if a command ends with 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Succeeds if the answer's status is 200 to 399.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,
    /// Succeeds if a connection is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Succeeds if gRPC's health service says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcAction>,
    /// Seconds before the first attempt.
    #[serde(skip_serializing_if = "is_zero")]
    pub initial_delay_seconds: i32,
    /// Seconds an attempt may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout_seconds: i32,
    /// Seconds between attempts; 0 asks for Knative's own, much shorter period.
    #[serde(skip_serializing_if = "is_zero")]
    pub period_seconds: i32,
    /// Successes in a row that count as one.
    #[serde(skip_serializing_if = "is_zero")]
    pub success_threshold: i32,
    /// Failures in a row that count as one.
    #[serde(skip_serializing_if = "is_zero")]
    pub failure_threshold: i32,
    /// Seconds left to a container that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
}

/// Runs a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecAction {
    /// The command and its arguments; no shell.
    #[serde(skip_serializing_if = "is_zero")]
    pub command: Vec<String>,
}

/// Makes an HTTP request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpGetAction {
    /// Path of the request.
    #[serde(skip_serializing_if = "is_zero")]
    pub path: String,
    /// Port; 0 stands for the container's own.
    pub port: IntOrString,
    /// Host to connect to instead of the pod.
    #[serde(skip_serializing_if = "is_zero")]
    pub host: String,
    /// `HTTP` or `HTTPS`.
    #[serde(skip_serializing_if = "is_zero")]
    pub scheme: String,
    /// Headers of the request.
    #[serde(skip_serializing_if = "is_zero")]
    pub http_headers: Vec<HttpHeader>,
}

/// A header of a probe's request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpHeader {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Opens a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpSocketAction {
    /// Port; 0 stands for the container's own.
    pub port: IntOrString,
    /// Host to connect to instead of the pod.
    #[serde(skip_serializing_if = "is_zero")]
    pub host: String,
}

/// Asks gRPC's health service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrpcAction {
    /// Port.
    pub port: i32,
    /// Service to ask for.
    pub service: Option<String>,
}

/// A port by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a port number or a port name")]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A name.
    String(String),
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl std::fmt::Display for IntOrString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::String(name) => name.fmt(f),
        }
    }
}
