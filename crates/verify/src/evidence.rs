//! What was to be seen in the cluster when something failed: for whoever cannot look any more, because everything is
//! removed by then.

use std::time::Duration;

use cluster::{functions::Functions, told_at};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, PersistentVolumeClaim, Pod},
};
use kube::{
    ResourceExt,
    api::{ListParams, LogParams},
};
use tokio::time::timeout;

use crate::{failure::Failure, pods, run::Run};

/// How long looking may take.
const WITHIN: Duration = Duration::from_secs(45);

/// Events that are told, the newest.
const EVENTS: usize = 10;

/// Lines of a container's log that are told, the last.
const LOG_LINES: i64 = 12;

/// Containers whose logs are told.
const LOGS: usize = 6;

/// Looks at the run's namespace, and says how to look further.
pub async fn gather(run: &Run) -> Failure {
    let mut lines = vec![];
    if timeout(WITHIN, look(run, &mut lines)).await.is_err() {
        lines.push("looking further took too long".to_owned());
    }
    let removed = if run.options.keep { "" } else { " (with --keep: the namespace is removed at the end of a run)" };
    Failure::default()
        .seen(lines)
        .mend(run.kubectl_here(&format!(
            "get pods,services.serving.knative.dev,revisions.serving.knative.dev,jobs,persistentvolumeclaims -o wide{removed}"
        )))
        .mend(run.kubectl_here("get events --sort-by .lastTimestamp"))
        .mend(run.kubectl.shown("-n knative-serving logs deployment/controller --tail 50"))
}

async fn look(run: &Run, lines: &mut Vec<String>) {
    match Functions::new(run.cluster.clone()).services().await {
        Ok(services) => {
            for service in services.iter().filter(|service| !service.ready) {
                let reason = service.reason.as_deref().unwrap_or("no reason told");
                lines.push(format!("function {} is not ready: {reason}", service.name));
            }
            for revision in services.iter().flat_map(|service| &service.revisions) {
                lines.extend(revision.reason.iter().map(|reason| format!("revision {}: {reason}", revision.name)));
            }
        }
        Err(error) => lines.push(error.to_string()),
    }
    lines.extend(listed::<PersistentVolumeClaim>(run).await.iter().filter_map(claim));
    lines.extend(listed::<Job>(run).await.iter().flat_map(job));
    let pods = listed::<Pod>(run).await;
    lines.extend(pods.iter().map(pod));
    lines.extend(events(listed::<Event>(run).await));
    logs(run, &pods, lines).await;
}

async fn listed<K>(run: &Run) -> Vec<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let listed = run.cluster.api::<K>().list(&ListParams::default()).await;
    listed.map(|list| list.items).unwrap_or_default()
}

fn claim(claim: &PersistentVolumeClaim) -> Option<String> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    (phase != "Bound").then(|| format!("claim {}: {phase}", claim.name_any()))
}

fn job(job: &Job) -> Vec<String> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let failed = conditions.filter(|condition| condition.type_ == "Failed" && condition.status == "True");
    let told = |parts: [Option<&str>; 2]| parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
    failed
        .map(|failed| {
            let told = told([failed.reason.as_deref(), failed.message.as_deref()]);
            format!("job {} failed: {told}", job.name_any())
        })
        .collect()
}

/// Its phase, and every container that does not simply run.
fn pod(pod: &Pod) -> String {
    let ready = if pods::is_ready(pod) { ", ready" } else { "" };
    let mut line = format!("pod {}: {}{ready}", pod.name_any(), pods::phase(pod));
    let status = pod.status.as_ref();
    for text in [status.and_then(|status| status.reason.as_ref()), status.and_then(|status| status.message.as_ref())] {
        line.extend(text.map(|text| format!("; {text}")));
    }
    let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unscheduled = conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    line.extend(unscheduled.filter_map(|condition| condition.message.as_ref()).map(|text| format!("; {text}")));
    for container in pods::containers(pod) {
        let name = &container.name;
        let restarts = container.restart_count;
        let state = container.state.clone().unwrap_or_default();
        let last = container.last_state.clone().unwrap_or_default().terminated;
        if let Some(waiting) = state.waiting {
            let told = [waiting.reason, waiting.message].into_iter().flatten().collect::<Vec<_>>().join(": ");
            line += &format!("; {name} waits: {told}");
        }
        for ended in state.terminated.into_iter().chain(last).filter(|ended| ended.exit_code != 0) {
            let reason = ended.reason.as_deref().unwrap_or("no reason told");
            line += &format!("; {name} ended with exit code {} ({reason})", ended.exit_code);
        }
        if restarts > 0 {
            line += &format!("; {name} was restarted {restarts} times");
        }
    }
    line
}

/// Warnings, the newest last.
fn events(mut events: Vec<Event>) -> Vec<String> {
    events.retain(|event| event.type_.as_deref() == Some("Warning"));
    events.sort_by_key(told_at);
    let newest = events.len().saturating_sub(EVENTS);
    let told = events.iter().skip(newest).map(|event| {
        let about = &event.involved_object;
        let at = told_at(event).map(|at| format!(" at {at}")).unwrap_or_default();
        let times = event.count.filter(|count| *count > 1).map(|count| format!(" ({count} times)")).unwrap_or_default();
        format!(
            "event{at}: {} {}: {}: {}{times}",
            about.kind.as_deref().unwrap_or("object").to_lowercase(),
            about.name.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or("no reason told"),
            event.message.as_deref().unwrap_or_default().trim()
        )
    });
    told.collect()
}

/// The last lines of the containers that concern somebody: the broken ones first, then the web and functions.
async fn logs(run: &Run, all: &[Pod], lines: &mut Vec<String>) {
    let broken = |pod: &Pod, name: &str| {
        let mut containers = pods::containers(pod).filter(|container| container.name == name);
        containers.any(|container| {
            let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
            container.restart_count > 0 || ended.is_some_and(|ended| ended.exit_code != 0)
        })
    };
    let mut chosen: Vec<(bool, &Pod, String, bool)> = all
        .iter()
        .flat_map(|pod| pods::containers(pod).map(move |container| (pod, container)))
        // The proxy beside a function speaks of each probe.
        .filter(|(_, container)| container.name != "queue-proxy" && !is_waiting(container))
        .map(|(pod, container)| {
            (!broken(pod, &container.name), pod, container.name.clone(), container.restart_count > 0)
        })
        .collect();
    chosen.sort_by_key(|(is_well, ..)| *is_well);
    for (_, pod, container, is_restarted) in chosen.into_iter().take(LOGS) {
        let name = pod.name_any();
        for previous in [true, false].into_iter().skip(usize::from(!is_restarted)) {
            let wanted = LogParams {
                container: Some(container.clone()),
                previous,
                tail_lines: Some(LOG_LINES),
                ..LogParams::default()
            };
            let which = if previous { "log before its restart" } else { "log" };
            match run.cluster.api::<Pod>().logs(&name, &wanted).await {
                Ok(log) if log.trim().is_empty() => lines.push(format!("{which} of {name}/{container} is empty")),
                Ok(log) => {
                    lines.push(format!("{which} of {name}/{container} ends:"));
                    lines.extend(log.lines().map(|line| format!("    {line}")));
                }
                Err(error) => lines.push(format!("{which} of {name}/{container} cannot be read: {error}")),
            }
        }
    }
}

fn is_waiting(container: &k8s_openapi::api::core::v1::ContainerStatus) -> bool {
    container.state.as_ref().is_none_or(|state| state.waiting.is_some()) && container.restart_count == 0
}
