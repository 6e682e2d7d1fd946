//! Putting the manifests into the cluster, and waiting until what they describe works.

use std::{cell::Cell, time::Duration};

use api::functions::Phase;
use cluster::{
    doctor::{API_ACCESS, Doctor, Outcome},
    error::{Action, ClusterError},
    functions::Functions,
};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, Secret},
    },
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams, ValidationDirective},
};

use crate::{
    failure::{Failure, Result},
    manifests::{Manifests, Object, metadata},
    options::PullSecret,
    pods,
    report::Held,
    run::{FIELD_MANAGER, Run},
    volumes,
    wait::{Look, until},
};

/// The Secret by which functions trust what was baked, its entry and how long that is.
const KEY: (&str, &str, usize) = ("artefact-key", "key", 32);

/// How long an object may be refused for reasons that pass, such as a webhook that is just being started.
pub const APPLIED_WITHIN: Duration = Duration::from_secs(90);

/// The functions that Fovea is made of.
pub const FUNCTIONS: [&str; 2] = ["preprocess", "inference"];

/// Applies all objects, and makes the key.
///
/// # Errors
/// If the cluster refuses one of them
pub async fn apply(run: &Run, manifests: &Manifests) -> Result<((), Held)> {
    make_key(run).await?;
    copy_pull_secret(run).await?;
    for object in &manifests.objects {
        let title = object.title();
        until(&run.teller, &title, APPLIED_WITHIN, async || match apply_one(run, object).await {
            Ok(()) => Ok(Look::Done(())),
            Err(error) => Look::failed(error),
        })
        .await
        .map_err(|failure| Failure { says: format!("{title} was refused: {}", failure.says), ..failure })?;
    }
    let images = manifests.images().join(", ");
    Ok(((), format!("{} objects were applied, with {images}", manifests.objects.len()).into()))
}

async fn apply_one(run: &Run, object: &Object) -> Result<(), ClusterError> {
    let resource = object.resource();
    let parameters =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(FIELD_MANAGER) };
    let applied = run.cluster.dynamic(&resource).patch(object.name(), &parameters, &Patch::Apply(&object.value)).await;
    let action = Action {
        verb: "patch",
        resource: &resource.plural,
        group: &resource.group,
        name: Some(object.name()),
        namespace: run.namespace(),
    };
    applied.map(drop).map_err(|error| action.failed(error))
}

async fn make_key(run: &Run) -> Result<()> {
    let (name, entry, length) = KEY;
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(format!("this machine has no random numbers: {error}")))?;
    let data = [(entry.to_owned(), ByteString(bytes))].into();
    make_secret(run, &Secret { metadata: metadata(&run.id, name), data: Some(data), ..Secret::default() }).await
}

/// Puts the Secret that images are pulled with beside the pods that need it.
async fn copy_pull_secret(run: &Run) -> Result<()> {
    let Some(PullSecret { namespace, name }) = &run.options.install.pull_secret else { return Ok(()) };
    let action = Action { verb: "get", resource: "secrets", group: "", name: Some(name), namespace };
    let there: Api<Secret> = Api::namespaced(run.cluster.client().clone(), namespace);
    let found = there.get(name).await.map_err(|error| action.failed(error))?;
    make_secret(run, &Secret { metadata: metadata(&run.id, name), immutable: None, ..found }).await
}

async fn make_secret(run: &Run, secret: &Secret) -> Result<()> {
    let name = secret.metadata.name.as_deref();
    let action = Action { verb: "create", resource: "secrets", group: "", name, namespace: run.namespace() };
    let created = run.cluster.api::<Secret>().create(&PostParams::default(), secret).await;
    created.map_err(|error| action.failed(error))?;
    Ok(())
}

/// Waits until the web and both functions are ready.
///
/// # Errors
/// If they are not in time, or something stands in their way
pub async fn ready(run: &Run) -> Result<((), Held)> {
    let patience = run.options.patience.ready;
    until(&run.teller, "the web", patience, async || match web_is_ready(run).await {
        Ok(look) => Ok(look),
        Err(error) => Look::failed(error),
    })
    .await?;
    until(&run.teller, "the functions", patience, async || match functions_are_ready(run).await {
        Ok(look) => Ok(look),
        Err(error) => Look::failed(error),
    })
    .await?;
    Ok(((), "the web and both functions are".into()))
}

async fn web_is_ready(run: &Run) -> Result<Look<()>, ClusterError> {
    let action =
        Action { verb: "get", resource: "deployments", group: "apps", name: Some("web"), namespace: run.namespace() };
    let web = run.cluster.api::<Deployment>().get("web").await.map_err(|error| action.failed(error))?;
    let wanted = web.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = web.status.and_then(|status| status.ready_replicas).unwrap_or(0);
    if ready >= wanted {
        return Ok(Look::Done(()));
    }
    let pods = pods(run).await?;
    let of_web = pods.iter().filter(|pod| pod.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "web"));
    let how = format!("{ready} of {wanted} pods are ready");
    hindered(run, how, of_web).await
}

async fn functions_are_ready(run: &Run) -> Result<Look<()>, ClusterError> {
    let services = Functions::new(run.cluster.clone()).services().await?;
    let mut reasons = vec![];
    let mut is_stuck = false;
    for name in FUNCTIONS {
        match services.iter().find(|service| service.name == name) {
            Some(service) if service.ready => {}
            Some(service) => {
                // Where Knative finds no such image, there is no pod to tell of it.
                is_stuck |= service.revisions.first().is_some_and(|newest| newest.phase == Phase::Failed);
                reasons.push(format!("{name}: {}", service.reason.as_deref().unwrap_or("no word of it yet")));
            }
            None => reasons.push(format!("{name} is not there")),
        }
    }
    if reasons.is_empty() {
        return Ok(Look::Done(()));
    }
    if is_stuck {
        return Ok(Look::Stuck(reasons.join("; ")));
    }
    let pods = pods(run).await?;
    hindered(run, reasons.join("; "), pods.iter().filter(|pod| pods::function(pod).is_some())).await
}

/// How far pods are; stuck where one of them, or a volume, waits for something that rarely comes by itself.
async fn hindered<'a>(
    run: &Run,
    how: String,
    mut pods: impl Iterator<Item = &'a Pod>,
) -> Result<Look<()>, ClusterError> {
    let hindrance = match volumes::hindrance(run).await? {
        Some(hindrance) => Some(hindrance),
        None => pods.find_map(pods::hindrance),
    };
    Ok(match hindrance {
        Some(hindrance) => Look::Stuck(format!("{how}; {hindrance}")),
        None => Look::Wait(how),
    })
}

async fn pods(run: &Run) -> Result<Vec<Pod>, ClusterError> {
    let list = Action { verb: "list", resource: "pods", group: "", name: None, namespace: run.namespace() };
    let pods = run.cluster.api::<Pod>().list(&ListParams::default()).await;
    Ok(pods.map_err(|error| list.failed(error))?.items)
}

/// Lets `fovea doctor`'s checks examine what was installed; and tells whether the web is cut off from the API server.
///
/// # Errors
/// Everything that they find broken
pub async fn doctor(run: &Run, is_cut_off: &Cell<bool>) -> Result<((), Held)> {
    let findings = Doctor::new(run.cluster.clone(), env!("CARGO_PKG_VERSION")).examine().await;
    let failed: Vec<_> = findings.iter().filter(|finding| finding.outcome == Outcome::Failed).collect();
    is_cut_off.set(failed.iter().any(|finding| finding.check == API_ACCESS));
    if failed.is_empty() {
        let n_ok = findings.iter().filter(|finding| finding.outcome == Outcome::Ok).count();
        return Ok(((), format!("{n_ok} of {} checks are well, and none has failed", findings.len()).into()));
    }
    let says = failed.iter().map(|finding| format!("{}: {}", finding.check, finding.says)).collect::<Vec<_>>();
    let mut failure = Failure::new(says.join("; "));
    failure.mend.extend(failed.iter().filter_map(|finding| finding.mend.clone()));
    Err(failure)
}
