//! The objects of a manifest as typed data: a Knative Service and what it holds.
//!
//! Everything Knative allows is typed to the last field. What it allows only behind a feature flag, or never, is typed
//! no deeper than needed to refuse it by name: scalars as they are, the rest as opaque JSON.
//!
//! Reading is lenient about absent fields; unknown ones are the reader's business ([`crate::manifest`]). Writing gives
//! the JSON of the Kubernetes API: zero values are left out unless the API always writes them.

mod container;
mod meta;
mod pod;
mod probe;
mod quantity;
mod service;
mod volume;

pub use container::{
    Capabilities, ConfigMapEnvSource, Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, KeySelector,
    ResourceRequirements, SeccompProfile, SecretEnvSource, SecurityContext, VolumeMount,
};
pub use meta::ObjectMeta;
pub use pod::{LocalObjectReference, PodSecurityContext};
pub use probe::{ExecAction, GrpcAction, HttpGetAction, HttpHeader, IntOrString, Probe, TcpSocketAction};
pub use quantity::{Quantity, QuantityError};
pub use service::{API_VERSION, RevisionSpec, RevisionTemplateSpec, Service, ServiceSpec, TrafficTarget};
pub use volume::{
    ConfigMapVolumeSource, DownwardApiProjection, DownwardApiVolumeFile, EmptyDirVolumeSource, ImageVolumeSource,
    KeyToPath, ObjectProjection, PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};

/// Whether a value is the one that the API leaves out when it writes.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
