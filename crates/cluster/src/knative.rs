//! Knative's objects as far as this house reads them. What is not named here is kept as it is when an object is edited.

use std::collections::BTreeMap;

use kube::{
    api::{ApiResource, DynamicObject},
    core::{GroupVersionKind, ObjectMeta},
};
use serde::Deserialize;

use crate::error::{ClusterError, Result};

/// API group of Services and Revisions.
pub const GROUP: &str = "serving.knative.dev";

/// Variable that says which model a function opens: a folder `…/<name>/v<N>`, or a link to one.
pub const MODEL_VARIABLE: &str = "FOVEA_MODEL_PATH";

/// Label of a Revision and of its pods: the Service it is of.
pub const SERVICE_LABEL: &str = "serving.knative.dev/service";

/// Label of a Revision: which of its Service's templates it is of.
pub(crate) const GENERATION_LABEL: &str = "serving.knative.dev/configurationGeneration";

/// Label of a Revision: whether a route leads to it.
pub(crate) const ROUTING_LABEL: &str = "serving.knative.dev/routingState";

/// The kind Service, Knative's.
pub fn services() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", "Service"))
}

pub(crate) fn revisions() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", "Revision"))
}

/// A Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub metadata: ObjectMeta,
    pub spec: ServiceSpec,
    pub status: ServiceStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceSpec {
    pub template: Template,
    pub traffic: Vec<Target>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    pub metadata: ObjectMeta,
    pub spec: Pod,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Container {
    pub image: String,
    pub env: Vec<Variable>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Variable {
    pub name: String,
    pub value: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    pub observed_generation: Option<i64>,
    pub conditions: Vec<Condition>,
    pub url: Option<String>,
    pub latest_created_revision_name: Option<String>,
    pub latest_ready_revision_name: Option<String>,
    pub traffic: Vec<Target>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Target {
    pub revision_name: String,
    pub percent: Option<u32>,
    pub latest_revision: Option<bool>,
    pub tag: Option<String>,
    pub url: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: Option<String>,
    pub message: Option<String>,
}

/// A Revision.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Revision {
    pub metadata: ObjectMeta,
    pub spec: Pod,
    pub status: RevisionStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RevisionStatus {
    pub conditions: Vec<Condition>,
    pub actual_replicas: Option<u32>,
    pub desired_replicas: Option<i32>,
}

impl Pod {
    /// The function's container: the only one, or the first.
    pub(crate) fn image(&self) -> Option<&str> {
        self.containers.first().map(|container| container.image.as_str())
    }

    /// The folder of the model that the function opens.
    pub(crate) fn model_path(&self) -> Option<&str> {
        let variables = self.containers.first()?.env.iter();
        variables.into_iter().find(|variable| variable.name == MODEL_VARIABLE)?.value.as_deref()
    }
}

impl Service {
    /// Whether its status tells of its present spec.
    pub(crate) fn is_settled(&self) -> bool {
        self.status.observed_generation.is_some() && self.status.observed_generation == self.metadata.generation
    }

    pub(crate) fn template_annotation(&self, key: &str) -> Option<&str> {
        self.spec.template.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

impl Revision {
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref().and_then(|labels: &BTreeMap<_, _>| labels.get(key)).map(String::as_str)
    }

    /// Which of its Service's templates it is of, from 1.
    pub(crate) fn generation(&self) -> u64 {
        self.label(GENERATION_LABEL).and_then(|generation| generation.parse().ok()).unwrap_or(0)
    }
}

/// The condition of a kind.
pub(crate) fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

impl Condition {
    pub(crate) fn holds(&self) -> bool {
        self.status == "True"
    }

    pub(crate) fn fails(&self) -> bool {
        self.status == "False"
    }

    /// Whether it fails for want of a node with room, which Knative takes back as soon as there is one.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.fails() && matches!(self.reason.as_deref(), Some("Unschedulable" | "SchedulerError"))
    }

    /// Its reason and message in one line; nothing where it tells neither.
    pub(crate) fn told(&self) -> Option<String> {
        let parts = [self.reason.as_deref(), self.message.as_deref()];
        let told = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        Some(told).filter(|told| !told.is_empty())
    }
}

/// An object as one of the types above.
pub(crate) fn read<T: for<'a> Deserialize<'a>>(object: DynamicObject) -> Result<T> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let typed = serde_json::to_value(object).and_then(serde_json::from_value);
    typed.map_err(|error| ClusterError::Unfit {
        what: format!("the object {name} of {GROUP}"),
        problem: format!("is not as Knative Serving v1 describes it ({error}); install a release of Knative Serving"),
    })
}
