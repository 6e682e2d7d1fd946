//! Jobs of one component: made once, listed with what they do, deleted.

use std::time::Duration;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, PostParams, Preconditions},
};
use tokio::time;

use crate::{
    Cluster,
    error::{Action, Refusal, Result},
    names,
    outcome::{self, JobState, Wording},
};

/// Label that pods of a Job carry.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// How long a deleted Job may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// How often that is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Jobs of one component in a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    cluster: Cluster,
    component: &'static str,
    wording: Wording,
}

/// A Job and what it does.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub job: Job,
    pub state: JobState,
    /// Whether it failed because something outside ended its program.
    pub was_killed: bool,
}

impl Observed {
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.job.annotations().get(key).map(String::as_str)
    }
}

impl Jobs {
    pub(crate) fn new(cluster: Cluster, component: &'static str, wording: Wording) -> Self {
        Self { cluster, component, wording }
    }

    fn action<'a>(&'a self, verb: &'static str, name: Option<&'a str>) -> Action<'a> {
        Action { verb, resource: "jobs", group: "batch", name, namespace: self.cluster.namespace() }
    }

    fn api(&self) -> Api<Job> {
        self.cluster.api()
    }

    fn core(&self, resource: &'static str) -> Action<'_> {
        Action { verb: "list", resource, group: "", name: None, namespace: self.cluster.namespace() }
    }

    /// Creates a Job; `false` if there is one of its name already, by whomever.
    pub(crate) async fn create(&self, job: &Job) -> Result<bool> {
        let name = job.name_any();
        let created = self.api().create(&PostParams::default(), job).await;
        match created.map_err(|error| self.action("create", Some(&name)).failed(error)) {
            Ok(_) => Ok(true),
            Err(error) if error.is(Refusal::AlreadyExists) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<Job>> {
        self.api().get_opt(name).await.map_err(|error| self.action("get", Some(name)).failed(error))
    }

    /// Every Job of the component and what it does.
    pub(crate) async fn observe(&self) -> Result<Vec<Observed>> {
        let labelled = ListParams::default().labels(&format!("{}={}", names::COMPONENT, self.component));
        let jobs = self.api().list(&labelled).await.map_err(|error| self.action("list", None).failed(error))?.items;
        if jobs.is_empty() {
            return Ok(vec![]);
        }
        let pods = self.cluster.api::<Pod>().list(&labelled).await;
        let pods = pods.map_err(|error| self.core("pods").failed(error))?.items;
        let mut observed = Vec::with_capacity(jobs.len());
        for job in jobs {
            let name = job.name_any();
            let of_job = |pod: &&Pod| pod.labels().get(JOB_NAME) == Some(&name);
            let pods: Vec<Pod> = pods.iter().filter(of_job).cloned().collect();
            let mut state = outcome::state(&self.wording, &job, &pods);
            if state == JobState::Waiting(None) {
                state = JobState::Waiting(outcome::hindrance(&self.wording, &self.warnings(&job, &pods).await?));
            }
            let was_killed = matches!(state, JobState::Failed(_)) && outcome::was_killed(&job, &pods);
            observed.push(Observed { job, state, was_killed });
        }
        Ok(observed)
    }

    /// What the cluster complains of about a Job and its pods, newest first.
    async fn warnings(&self, job: &Job, pods: &[Pod]) -> Result<Vec<Event>> {
        let mut events = vec![];
        for name in pods.iter().map(ResourceExt::name_any).chain([job.name_any()]) {
            let about = ListParams::default().fields(&format!("involvedObject.name={name},type=Warning"));
            let listed = self.cluster.api::<Event>().list(&about).await;
            events.extend(listed.map_err(|error| self.core("events").failed(error))?.items);
        }
        events.sort_by_key(|event| std::cmp::Reverse(outcome::told_at(event)));
        Ok(events)
    }

    /// The last lines that the newest pod of a Job printed; nothing if there is no such pod.
    pub(crate) async fn log(&self, name: &str, bytes: i64) -> Result<String> {
        let api = self.cluster.api::<Pod>();
        let labelled = ListParams::default().labels(&format!("{JOB_NAME}={name}"));
        let pods = api.list(&labelled).await.map_err(|error| self.core("pods").failed(error))?.items;
        let Some(pod) = pods.into_iter().max_by_key(|pod| pod.creation_timestamp()) else { return Ok(String::new()) };
        // The server cuts a limit in bytes off the end; the beginning is what nobody needs.
        let lines = LogParams { tail_lines: Some(bytes / 100), ..LogParams::default() };
        match api.logs(&pod.name_any(), &lines).await {
            Ok(log) => Ok(tail(log, usize::try_from(bytes).unwrap_or_default())),
            // It has printed nothing yet, for its container is not there yet.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => Ok(String::new()),
            Err(error) => Err(Action { verb: "get", resource: "pods/log", ..self.core("") }.failed(error)),
        }
    }

    /// Deletes a Job with its pods; what is gone already is no error. With a uid, only that very Job.
    pub(crate) async fn delete(&self, name: &str, uid: Option<String>) -> Result<()> {
        let preconditions = uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::background() };
        match self
            .api()
            .delete(name, &parameters)
            .await
            .map_err(|error| self.action("delete", Some(name)).failed(error))
        {
            Ok(_) => Ok(()),
            Err(error) if error.is(Refusal::NotFound) || error.is(Refusal::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until a deleted Job is gone, so that another may have its name.
    pub(crate) async fn gone(&self, name: &str) -> Result<bool> {
        let gone = async {
            while self.get(name).await?.is_some() {
                time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        match time::timeout(GONE_WITHIN, gone).await {
            Ok(gone) => gone.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

/// The last whole lines of a text, at most so many bytes.
fn tail(text: String, bytes: usize) -> String {
    let Some(start) = text.len().checked_sub(bytes).filter(|start| *start > 0) else { return text };
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let line = text[start..].find('\n').map_or(start, |at| start + at + 1);
    text[line..].to_owned()
}
