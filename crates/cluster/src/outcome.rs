//! What a Job does, and why it does not, read from what the cluster tells of it, of its pods and of events about them.

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::{ContainerStateTerminated, ContainerStatus, Event, Pod, PodStatus},
};
use kube::ResourceExt;

/// Longest part of a program's last words that becomes part of a reason, in characters.
const LAST_WORDS: usize = 400;

/// Exit codes above this one are of programs that a signal ended.
const SIGNALLED: i32 = 128;

/// What a Job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It has not begun; what keeps it, if that is known.
    Waiting(Option<String>),
    /// Its program runs.
    Running,
    /// Its program ended well.
    Succeeded,
    /// It ended otherwise, and why.
    Failed(String),
}

/// How a kind of Job is spoken of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wording {
    /// Such as "the trainer".
    pub who: &'static str,
    /// What to do where memory is short.
    pub memory: &'static str,
    /// The CronJob whose template it is of.
    pub template: &'static str,
}

/// What a Job does, as far as it and its pods tell.
pub(crate) fn state(wording: &Wording, job: &Job, pods: &[Pod]) -> JobState {
    let status = job.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let holds = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True");
    if let Some(failed) = holds("Failed") {
        return JobState::Failed(failure(wording, job, pods, failed));
    }
    if holds("Complete").is_some() {
        return JobState::Succeeded;
    }
    let newest = pods.iter().max_by_key(|pod| pod.creation_timestamp());
    let Some(status) = newest.and_then(|pod| pod.status.as_ref()) else { return JobState::Waiting(None) };
    match status.phase.as_deref() {
        Some("Running" | "Succeeded" | "Failed" | "Unknown") if waiting(wording, status).is_none() => JobState::Running,
        _ => JobState::Waiting(waiting(wording, status)),
    }
}

/// Why a pod has not begun.
fn waiting(wording: &Wording, status: &PodStatus) -> Option<String> {
    let who = wording.who;
    let unscheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(message) = unscheduled.and_then(|condition| condition.message.as_deref()) {
        let volume = message.to_lowercase().contains("persistentvolumeclaim") || message.contains("volume");
        return Some(if volume {
            format!("{who} cannot get its volumes: {message}; see `kubectl get pvc`, and `fovea doctor`")
        } else {
            format!(
                "{who} waits for a node with room: {message}; add a node, free one, or ask for less in the template \
                 (CronJob {})",
                wording.template
            )
        });
    }
    containers(status).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let message = waiting.message.as_deref().unwrap_or("no reason told");
        let image = &container.image;
        match waiting.reason.as_deref()? {
            "ImagePullBackOff" | "ErrImagePull" | "ImageInspectError" | "RegistryUnavailable" => Some(format!(
                "the image {image} cannot be pulled: {message}; push it, load it into the nodes, or mend its name or \
                 the pull secret"
            )),
            "InvalidImageName" => Some(format!("the image's name {image} is not valid; mend it in the manifests")),
            "ErrImageNeverPull" => Some(format!(
                "the image {image} is not on the node and is never pulled; load it with `minikube image load {image}`"
            )),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some(format!(
                "{who} cannot be started: {message}; a ConfigMap or Secret it names may be missing: see `fovea doctor`"
            )),
            "CrashLoopBackOff" => Some(format!("{who} crashes again and again: {message}")),
            _ => None,
        }
    })
}

/// What events complain of.
pub(crate) fn hindrance(wording: &Wording, newest_first: &[Event]) -> Option<String> {
    let who = wording.who;
    newest_first.iter().find_map(|event| {
        let message = event.message.as_deref().unwrap_or("no reason told");
        match event.reason.as_deref()? {
            "FailedCreate" => Some(format!("no pod can be made for {who}: {message}")),
            "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => {
                Some(format!("{who} cannot get its volumes: {message}; see `kubectl get pvc`, and `fovea doctor`"))
            }
            "FailedScheduling" => Some(format!("{who} waits for a node with room: {message}")),
            "FailedCreatePodSandBox" => Some(format!("the node cannot set up a pod for {who}: {message}")),
            _ => None,
        }
    })
}

/// When an event happened last.
pub(crate) fn told_at(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    series.or(last).or(first).or(event.creation_timestamp().map(|time| time.0))
}

fn failure(wording: &Wording, job: &Job, pods: &[Pod], failed: &JobCondition) -> String {
    let who = wording.who;
    if failed.reason.as_deref() == Some("DeadlineExceeded") {
        let seconds = job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).unwrap_or_default();
        return format!(
            "{who} was ended after {seconds} s, its deadline; raise activeDeadlineSeconds in the template (CronJob {}), \
             or ask for less work",
            wording.template
        );
    }
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp()));
    let told = pods.iter().filter_map(|pod| pod_failure(wording, pod)).next();
    told.unwrap_or_else(|| match failed.message.as_deref() {
        Some(message) => format!("{who}'s Job failed, and its pod is gone: {message}"),
        None => format!("{who}'s Job failed, and its pod is gone"),
    })
}

/// Whether something outside ended the program of a Job that failed: its memory, its node or its pod was taken away. Not
/// where its deadline was over, or where it ended by itself.
pub(crate) fn was_killed(job: &Job, pods: &[Pod]) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if conditions.into_iter().any(|condition| condition.reason.as_deref() == Some("DeadlineExceeded")) {
        return false;
    }
    let Some(status) = pods.iter().max_by_key(|pod| pod.creation_timestamp()).and_then(|pod| pod.status.as_ref())
    else {
        return true;
    };
    let ended = containers(status).find_map(|container| container.state.as_ref()?.terminated.as_ref());
    ended.is_none_or(|ended| ended.exit_code > SIGNALLED || ended.reason.as_deref() == Some("OOMKilled"))
}

/// Why a pod ended badly.
fn pod_failure(wording: &Wording, pod: &Pod) -> Option<String> {
    let who = wording.who;
    let status = pod.status.as_ref()?;
    let ended = containers(status).find_map(|container| container.state.as_ref()?.terminated.as_ref());
    let message = status.message.as_deref().unwrap_or("no reason told");
    if let Some(ended) = ended.filter(|ended| ended.reason.as_deref() == Some("OOMKilled")) {
        let limit = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .find_map(|container| Some(container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.clone()));
        let limit = limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
        let sentence =
            format!("{who} needed more memory than its limit{limit} and was killed (OOMKilled); {}", wording.memory);
        return Some(with_last_words(sentence, ended));
    }
    if status.reason.as_deref() == Some("Evicted") {
        return Some(format!(
            "the node evicted {who}: {message}; try again, or ask for more in the template (CronJob {})",
            wording.template
        ));
    }
    if let Some(reason @ ("NodeLost" | "NodeShutdown" | "Terminated" | "Shutdown" | "UnexpectedAdmissionError")) =
        status.reason.as_deref()
    {
        return Some(format!("{who}'s node went away ({reason}: {message}); try again"));
    }
    let disrupted = status.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
    if let Some(disrupted) = disrupted {
        let how = match disrupted.reason.as_deref() {
            Some("PreemptionByScheduler") => "something more important took its place",
            Some("EvictionByEvictionAPI") => "its node was drained",
            Some("DeletionByTaintManager") => "its node does not tolerate it any more, or does not answer",
            Some("TerminationByKubelet") => "its node was short of something",
            _ => "its pod was taken away",
        };
        let message = disrupted.message.as_deref().unwrap_or("no reason told");
        return Some(format!("{who} was ended before its work was done, because {how} ({message}); try again"));
    }
    let ended = ended?;
    let how = match (ended.reason.as_deref(), ended.exit_code) {
        (Some("StartError" | "ContainerCannotRun"), _) => {
            format!("{who}'s program could not be started; see whether the image is for this kind of machine")
        }
        (_, 137) => format!("{who} was killed by signal 9 (SIGKILL; often because memory ran out)"),
        (_, 143) => {
            format!("{who} was ended by signal 15 (SIGTERM): somebody deleted its pod, or its node was drained")
        }
        (_, 0) => return None,
        (_, code) => format!("{who} ended with exit code {code}"),
    };
    Some(with_last_words(how, ended))
}

fn with_last_words(sentence: String, ended: &ContainerStateTerminated) -> String {
    let message = ended.message.as_deref().unwrap_or_default();
    match message.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("{sentence}; its last words: {}", line.chars().take(LAST_WORDS).collect::<String>()),
        None => sentence,
    }
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.init_container_statuses.iter().chain(&status.container_statuses).flatten()
}
