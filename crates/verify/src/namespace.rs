//! The namespace of a run: made by it, or else nothing is begun; and removed by it, with all that is inside.

use cluster::error::{Action, ClusterError, Refusal};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};

use crate::{
    failure::{Failure, Result},
    manifests::{MANAGED_BY, Object, RUN},
    report::Held,
    run::{FIELD_MANAGER, Run},
    wait::{Look, until},
};

fn action<'a>(run: &'a Run, verb: &'static str) -> Action<'a> {
    Action { verb, resource: "namespaces", group: "", name: Some(run.namespace()), namespace: "" }
}

fn namespaces(run: &Run) -> Api<Namespace> {
    Api::all(run.cluster.client().clone())
}

/// Makes the namespace. One that is there already is not touched, whoever made it.
///
/// # Errors
/// If there is one already, or the cluster refuses
pub async fn create(run: &Run, manifest: &Object) -> Result<((), Held)> {
    let namespace: Namespace = serde_json::from_value(manifest.value.clone())
        .map_err(|error| Failure::new(format!("the Namespace of the manifests is none: {error}")))?;
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let created = namespaces(run).create(&parameters, &namespace).await;
    match created.map_err(|error| action(run, "create").failed(error)) {
        Ok(_) => Ok(((), format!("{} was made", run.namespace()).into())),
        Err(error) if error.is(Refusal::AlreadyExists) => Err(taken(run).await),
        Err(error) => Err(error.into()),
    }
}

/// What is said of a namespace that is there already.
async fn taken(run: &Run) -> Failure {
    let name = run.namespace();
    let found = namespaces(run).get_opt(name).await.ok().flatten();
    let labels = found.as_ref().map(ResourceExt::labels);
    let earlier = labels.filter(|labels| labels.get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1));
    match earlier.and_then(|labels| labels.get(RUN)) {
        Some(id) => {
            let says = format!("the namespace {name} is of the run {id}, which may still be at work; name another");
            let delete = run.kubectl.shown(&format!("delete namespace {name}"));
            Failure::new(says).mend(format!("{delete}, if that run has ended"))
        }
        None => Failure::new(format!(
            "there is a namespace {name} already, and this run did not make it; name one with --namespace that is not \
             there, or none"
        )),
    }
}

/// Removes the namespace with all that is in it, if this run made it; nothing else.
///
/// # Errors
/// If it is not gone in time
pub async fn remove(run: &Run) -> Result<((), Held)> {
    let name = run.namespace();
    let found = until(&run.teller, "the API server", run.options.patience.clean, async || {
        match namespaces(run).get_opt(name).await.map_err(|error| action(run, "get").failed(error)) {
            Ok(found) => Ok(Look::Done(found)),
            Err(error) => Look::failed(error),
        }
    });
    let Some(namespace) = found.await? else { return Ok(((), "there was nothing to remove".into())) };
    let label = |key: &str| namespace.labels().get(key).map(String::as_str);
    if (label(MANAGED_BY.0), label(RUN)) != (Some(MANAGED_BY.1), Some(run.id.as_str())) {
        return Ok(((), format!("the namespace {name} is not of this run, and was left alone").into()));
    }
    let volumes = volumes(run).await;
    // This very one, should it have been made anew by somebody since.
    let preconditions = Some(Preconditions { uid: namespace.uid(), resource_version: None });
    let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
    until(&run.teller, "the namespace to end", run.options.patience.clean, async || {
        let deleted = namespaces(run).delete(name, &parameters).await;
        match deleted.map_err(|error| action(run, "delete").failed(error)) {
            Ok(_) => Ok(Look::Done(())),
            Err(error) if error.is(Refusal::NotFound) || error.is(Refusal::Conflict) => Ok(Look::Done(())),
            Err(error) => Look::failed(error),
        }
    })
    .await?;
    gone(run, &namespace).await?;
    let kept: Vec<_> = volumes.iter().filter(|volume| is_kept(volume)).map(ResourceExt::name_any).collect();
    let mut says = format!("{name} is gone, with everything in it");
    if !kept.is_empty() {
        let delete = run.kubectl.shown(&format!("delete persistentvolume {}", kept.join(" ")));
        says += &format!("; the storage class keeps volumes, which are for you to remove: {delete}");
    }
    Ok(((), says.into()))
}

async fn gone(run: &Run, removed: &Namespace) -> Result<()> {
    let name = run.namespace();
    let gone = until(&run.teller, "the namespace to be gone", run.options.patience.clean, async || {
        let found: Result<_, ClusterError> =
            namespaces(run).get_opt(name).await.map_err(|error| action(run, "get").failed(error));
        Ok(match found {
            Ok(Some(namespace)) if namespace.uid() == removed.uid() => Look::Wait(what_is_left(&namespace)),
            Ok(_) => Look::Done(()),
            Err(error) => return Look::failed(error),
        })
    });
    gone.await.map_err(|failure| failure.mend(run.kubectl.shown(&format!("get namespace {name} -o yaml"))))
}

/// What keeps a namespace that is being removed.
fn what_is_left(namespace: &Namespace) -> String {
    let conditions = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let holding = conditions.filter(|condition| condition.status == "True");
    let told: Vec<_> = holding.filter_map(|condition| condition.message.clone()).collect();
    if told.is_empty() { "it is being removed".to_owned() } else { told.join("; ") }
}

/// The volumes that were made for the run's claims; none where they cannot be listed.
async fn volumes(run: &Run) -> Vec<PersistentVolume> {
    let api: Api<PersistentVolume> = Api::all(run.cluster.client().clone());
    let Ok(volumes) = api.list(&ListParams::default()).await else { return vec![] };
    let of_run = |volume: &PersistentVolume| {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        claim.and_then(|claim| claim.namespace.as_deref()) == Some(run.namespace())
    };
    volumes.items.into_iter().filter(of_run).collect()
}

fn is_kept(volume: &PersistentVolume) -> bool {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy == Some("Retain")
}
