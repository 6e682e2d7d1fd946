//! What the functions do, read back from Knative's objects in the terms of [`api::functions`], and who gets which part of
//! their requests.

use std::time::Duration;

use api::functions::{Activity, Phase, RevisionStatus, ServiceStatus, TrafficShare, TrafficTarget};
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time;

use crate::{
    Cluster,
    error::{Action, ClusterError, Refusal, Result},
    knative::{self, Condition, GROUP, Revision, Service, condition},
};

/// How often an edit is tried when somebody else edits at the same time.
pub(crate) const ATTEMPTS: u32 = 8;

/// How long Knative may take to take note of an edit.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// How often that is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The functions of a cluster.
#[derive(Clone, Debug)]
pub struct Functions {
    cluster: Cluster,
}

/// A Service as it was at one moment, with its revisions.
pub(crate) struct Look {
    pub service: Service,
    /// The containers of its template with every field they have: a list is patched as a whole.
    pub containers: Value,
    pub revisions: Vec<Revision>,
    pub status: ServiceStatus,
}

impl Functions {
    /// Asks the cluster nothing yet.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    fn action<'a>(&'a self, verb: &'static str, resource: &'static str, name: Option<&'a str>) -> Action<'a> {
        Action { verb, resource, group: GROUP, name, namespace: self.cluster.namespace() }
    }

    /// What every function does at this moment, by name.
    ///
    /// # Errors
    /// If the cluster does not tell
    pub async fn services(&self) -> Result<Vec<ServiceStatus>> {
        let services = self.cluster.dynamic(&knative::services()).list(&ListParams::default()).await;
        let services = services.map_err(|error| self.action("list", "services", None).failed(error))?;
        let revisions = self.revisions(&ListParams::default()).await?;
        let mut told = Vec::with_capacity(services.items.len());
        for service in services {
            told.push(status(&knative::read(service)?, &revisions));
        }
        told.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(told)
    }

    async fn revisions(&self, which: &ListParams) -> Result<Vec<Revision>> {
        let listed = self.cluster.dynamic(&knative::revisions()).list(which).await;
        let listed = listed.map_err(|error| self.action("list", "revisions", None).failed(error))?;
        listed.into_iter().map(knative::read).collect()
    }

    /// One function, once Knative has taken note of its last edit.
    pub(crate) async fn look(&self, name: &str) -> Result<Look> {
        let settled = async {
            loop {
                let look = self.look_now(name).await?;
                if look.service.is_settled() {
                    return Ok(look);
                }
                time::sleep(LOOK_EVERY).await;
            }
        };
        time::timeout(SETTLED_WITHIN, settled).await.unwrap_or_else(|_| {
            Err(ClusterError::Unfit {
                what: format!("the function {name}"),
                problem: format!(
                    "was edited, and Knative has not taken note of it within {} s; see whether its controller runs: \
                     kubectl -n knative-serving get pods",
                    SETTLED_WITHIN.as_secs()
                ),
            })
        })
    }

    pub(crate) async fn look_now(&self, name: &str) -> Result<Look> {
        let service = self.cluster.dynamic(&knative::services()).get(name).await;
        let service = service.map_err(|error| self.action("get", "services", Some(name)).failed(error))?;
        let containers = service.data.pointer("/spec/template/spec/containers").cloned().unwrap_or_default();
        let service = knative::read(service)?;
        let labelled = ListParams::default().labels(&format!("{}={name}", knative::SERVICE_LABEL));
        let revisions = self.revisions(&labelled).await?;
        Ok(Look { status: status(&service, &revisions), service, containers, revisions })
    }

    /// Wishes for a function's traffic; returns what comes of them.
    ///
    /// # Errors
    /// If there is no such function or revision, or the parts cannot be
    pub async fn set_traffic(&self, namespace: &str, name: &str, targets: &[TrafficTarget]) -> Result<ServiceStatus> {
        if namespace != self.cluster.namespace() {
            return Err(ClusterError::Refused {
                refusal: Refusal::NotFound,
                sentence: format!(
                    "there is no function {namespace}/{name}; this cluster's are in {}",
                    self.cluster.namespace()
                ),
                source: None,
            });
        }
        let patch = json!({"spec": {"traffic": targets}});
        self.edit(name, |_| Ok(Some(patch.clone()))).await?;
        Ok(self.look(name).await?.status)
    }

    /// Edits a function by a merge patch of what it is; `None` leaves it as it is. Where somebody else has edited it
    /// in between, the patch is made anew.
    pub(crate) async fn edit(
        &self,
        name: &str,
        change: impl Fn(&Look) -> Result<Option<Value>> + Send + Sync,
    ) -> Result<bool> {
        for attempt in 0..ATTEMPTS {
            let look = self.look_again(name, attempt).await?;
            let Some(patch) = change(&look)? else { return Ok(false) };
            if self.patch(&look, patch).await? {
                return Ok(true);
            }
        }
        Err(contended(name))
    }

    /// One function, at the n-th attempt to edit it.
    pub(crate) async fn look_again(&self, name: &str, attempt: u32) -> Result<Look> {
        time::sleep(LOOK_EVERY * attempt).await;
        self.look(name).await
    }

    /// Patches a function, unless it is not as it was looked at any more: then `false`.
    pub(crate) async fn patch(&self, look: &Look, mut patch: Value) -> Result<bool> {
        let name = look.service.metadata.name.as_deref().unwrap_or_default();
        patch["metadata"] = json!({"resourceVersion": look.service.metadata.resource_version});
        let api = self.cluster.dynamic(&knative::services());
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match patched.map_err(|error| self.action("patch", "services", Some(name)).failed(error)) {
            Ok(_) => Ok(true),
            Err(error) if error.is(Refusal::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A function that is edited by others all the time.
pub(crate) fn contended(name: &str) -> ClusterError {
    ClusterError::Contended { what: format!("the function {name}") }
}

/// Now, in milliseconds since the Unix epoch.
pub fn now_unix_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

fn status(service: &Service, revisions: &[Revision]) -> ServiceStatus {
    let Service { metadata, status, .. } = service;
    let name = metadata.name.clone().unwrap_or_default();
    let ready = condition(&status.conditions, "Ready");
    let is_ready = ready.is_some_and(Condition::holds) && service.is_settled();
    let mut own: Vec<_> =
        revisions.iter().filter(|revision| revision.label(knative::SERVICE_LABEL) == Some(&name)).collect();
    own.sort_by_key(|revision| std::cmp::Reverse(revision.generation()));
    ServiceStatus {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        url: status.url.clone().unwrap_or_default(),
        ready: is_ready,
        reason: ready.filter(|ready| !ready.holds()).and_then(Condition::told),
        latest_created: status.latest_created_revision_name.clone(),
        latest_ready: status.latest_ready_revision_name.clone(),
        traffic: status
            .traffic
            .iter()
            .map(|target| TrafficShare {
                revision: target.revision_name.clone(),
                percent: target.percent.unwrap_or(0),
                latest: target.latest_revision.unwrap_or(false),
                tag: target.tag.clone().filter(|tag| !tag.is_empty()),
                url: target.url.clone(),
            })
            .collect(),
        revisions: own.into_iter().map(revision_status).collect(),
        name,
    }
}

fn revision_status(revision: &Revision) -> RevisionStatus {
    let conditions = &revision.status.conditions;
    let ready = condition(conditions, "Ready");
    let phase = match ready {
        Some(ready) if ready.holds() => Phase::Ready,
        Some(ready) if ready.fails() && !ready.waits_for_room() => Phase::Failed,
        _ => Phase::Preparing,
    };
    let activity = match condition(conditions, "Active") {
        Some(active) if active.holds() => Activity::Active,
        Some(active) if active.fails() => Activity::Inactive,
        _ => Activity::Activating,
    };
    RevisionStatus {
        name: revision.metadata.name.clone().unwrap_or_default(),
        phase,
        reason: ready.filter(|ready| ready.fails()).and_then(Condition::told),
        mounted: revision.spec.model_path().map(str::to_owned).into_iter().collect(),
        reachable: revision.label(knative::ROUTING_LABEL) == Some("active"),
        activity,
        desired: revision.status.desired_replicas.unwrap_or(-1),
        ready: revision.status.actual_replicas.unwrap_or(0),
        ..RevisionStatus::default()
    }
}
