//! Pods: which function they are of, whether they are ready, what stands in their way.

use cluster::{
    error::{Action, ClusterError},
    knative::SERVICE_LABEL,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{ResourceExt, api::ListParams};

use crate::run::Run;

/// Why a container waits that rarely begins by itself.
const STUCK: [&str; 8] = [
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
];

/// The pods of functions that are there, those that are ending included.
///
/// # Errors
/// If the cluster does not tell
pub async fn of_functions(run: &Run) -> Result<Vec<Pod>, ClusterError> {
    let list = Action { verb: "list", resource: "pods", group: "", name: None, namespace: run.namespace() };
    let pods = run.cluster.api::<Pod>().list(&ListParams::default().labels(SERVICE_LABEL)).await;
    let mut pods = pods.map_err(|error| list.failed(error))?.items;
    pods.retain(|pod| function(pod).is_some());
    Ok(pods)
}

/// The function that a pod is of.
pub fn function(pod: &Pod) -> Option<&str> {
    pod.labels().get(SERVICE_LABEL).map(String::as_str)
}

/// Whether it takes requests.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

/// Such as `Running` and `Terminating`.
pub fn phase(pod: &Pod) -> &str {
    match pod.metadata.deletion_timestamp {
        Some(_) => "Terminating",
        None => pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending"),
    }
}

/// What keeps a pod from running that rarely goes away by itself.
pub fn hindrance(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut unscheduled =
        conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let no_volume = unscheduled
        .find_map(|condition| condition.message.as_deref().filter(|message| message.to_lowercase().contains("volume")));
    if let Some(message) = no_volume {
        return Some(format!("{name} is sent to no node: {message}"));
    }
    containers(pod).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| STUCK.contains(reason))?;
        let message = waiting.message.as_deref().unwrap_or("no reason told");
        Some(format!("{name}: {reason}: {message}"))
    })
}

/// Every container that was begun or is to be.
pub fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses).flatten())
}
