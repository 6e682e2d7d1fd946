//! Whether the cluster has what a run needs, before anything is made; and what of it is used.
//!
//! Settings of the cluster are never changed: what is missing is told, with the command that mends it.

use std::collections::BTreeMap;

use cluster::{
    doctor::{Doctor, Finding, Outcome},
    error::Action,
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Node},
    networking::v1::NetworkPolicy,
    storage::v1::StorageClass,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    failure::{Failure, Result},
    options::AccessMode,
    report::Held,
    run::Run,
};

/// Where Knative Serving lives.
pub const SERVING: &str = "knative-serving";

/// Provisioners whose volumes one node can mount, and no other.
const OF_ONE_NODE: [&str; 5] = [
    "rancher.io/local-path",
    "k8s.io/minikube-hostpath",
    "microk8s.io/hostpath",
    "docker.io/hostpath",
    "openebs.io/local",
];

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Registries whose tags Knative does not look up, unless it is told others.
const NOT_RESOLVED: &str = "kind.local,ko.local,dev.local";

/// Looks at the cluster; which access mode volumes are to have.
///
/// # Errors
/// Everything that is missing, each with the command that mends it
pub async fn check(run: &Run) -> Result<(AccessMode, Held)> {
    let mut findings = Doctor::new(run.cluster.clone(), env!("CARGO_PKG_VERSION")).foundations().await;
    let mut access_mode = AccessMode::ReadWriteMany;
    if findings.iter().all(|finding| finding.outcome != Outcome::Failed) {
        findings.extend(ingress(run).await);
        findings.extend(scale_to_zero(run).await);
        findings.extend(images(run).await);
        findings.extend(node(run).await);
        let storage = storage(run).await;
        access_mode = storage.0;
        findings.push(storage.1);
        findings.extend(inner_door(run).await);
    }
    let mut failure = Failure::default();
    for Finding { check, outcome, says, mend } in &findings {
        match outcome {
            Outcome::Ok => {}
            Outcome::Warning | Outcome::Unknown => run.teller.tell(&format!("  note: {check}: {says}")),
            Outcome::Failed => {
                failure.says += &format!("{}{check}: {says}", if failure.says.is_empty() { "" } else { "; " });
                failure.mend.extend(mend.clone());
            }
        }
    }
    if !failure.says.is_empty() {
        return Err(failure);
    }
    let told = ["API server", "Knative Serving", "ingress", VOLUMES].iter().filter_map(|check| {
        let finding = findings.iter().find(|finding| finding.check == *check)?;
        Some(format!("{check}: {}", finding.says))
    });
    Ok((access_mode, told.collect::<Vec<_>>().join("; ").into()))
}

const INGRESS: &str = "ingress";
const ZERO: &str = "scaling to zero";
const IMAGES: &str = "images";
const VOLUMES: &str = "volumes";

fn finding(outcome: Outcome, check: &'static str, says: impl Into<String>, mend: Option<String>) -> Finding {
    Finding { check, outcome, says: says.into(), mend }
}

/// Settings of Knative Serving; none where they cannot be read.
pub async fn settings(run: &Run, name: &str) -> BTreeMap<String, String> {
    let api: Api<ConfigMap> = Api::namespaced(run.cluster.client().clone(), SERVING);
    let found = api.get_opt(name).await.ok().flatten();
    let mut settings = found.and_then(|map| map.data).unwrap_or_default();
    settings.retain(|key, _| !key.starts_with('_'));
    settings
}

/// The manifests' network policies let Kourier in, and nobody else.
async fn ingress(run: &Run) -> Option<Finding> {
    let network = settings(run, "config-network").await;
    let class = network.get("ingress-class").or_else(|| network.get("ingress.class"))?;
    let says = format!("the ingress is {class}, and the manifests let Kourier's pods call functions, and nobody else");
    let mend = run.kubectl.shown(&format!(
        "-n {SERVING} patch configmap config-network --type merge -p \
         '{{\"data\":{{\"ingress-class\":\"kourier.ingress.networking.knative.dev\"}}}}'"
    ));
    (!class.starts_with("kourier.")).then(|| finding(Outcome::Failed, INGRESS, says, Some(mend)))
}

async fn scale_to_zero(run: &Run) -> Option<Finding> {
    let autoscaler = settings(run, "config-autoscaler").await;
    let is_off = autoscaler.get("enable-scale-to-zero").is_some_and(|value| value.eq_ignore_ascii_case("false"));
    let mend = run.kubectl.shown(&format!(
        "-n {SERVING} patch configmap config-autoscaler --type merge -p '{{\"data\":{{\"enable-scale-to-zero\":\"true\"}}}}'"
    ));
    is_off.then(|| finding(Outcome::Failed, ZERO, "it is turned off in config-autoscaler", Some(mend)))
}

/// Whether Knative will look for tags where they cannot be.
async fn images(run: &Run) -> Option<Finding> {
    let deployment = settings(run, "config-deployment").await;
    let key = "registries-skipping-tag-resolving";
    let skipped = deployment.get(key).map_or(NOT_RESOLVED, String::as_str);
    let registry = run.options.install.registry.as_deref();
    let host = registry.map_or("index.docker.io", registry_host);
    if skipped.split(',').any(|skipped| skipped.trim() == host) {
        return None;
    }
    let own_machine = host.split(':').next().is_some_and(|name| name == "localhost" || name.starts_with("127."));
    if own_machine {
        let says = format!("Knative would look for tags at {host}, which is another place inside the cluster");
        let mend = run.kubectl.shown(&format!(
            "-n {SERVING} patch configmap config-deployment --type merge -p '{{\"data\":{{\"{key}\":\"{skipped},{host}\"}}}}'"
        ));
        return Some(finding(Outcome::Failed, IMAGES, says, Some(mend)));
    }
    if registry.is_none() {
        let says = "without --registry, images are called fovea/web and so on, which clusters look for at Docker Hub";
        let mend = "cargo xtask images --registry R, push the images, or load them into the nodes under the prefix \
                    kind.local or dev.local; then --registry R";
        return Some(finding(Outcome::Failed, IMAGES, says, Some(mend.to_owned())));
    }
    None
}

/// The host of `host/path`, as container tools tell it from a path at Docker Hub.
fn registry_host(registry: &str) -> &str {
    let first = registry.split('/').next().unwrap_or_default();
    if first.contains(['.', ':']) || first == "localhost" { first } else { "index.docker.io" }
}

/// Whether pods may be sent to the node that was chosen.
async fn node(run: &Run) -> Option<Finding> {
    let node = run.options.install.node.as_deref()?;
    let flag = "kubernetes.podspec-nodeselector";
    let features = settings(run, "config-features").await;
    let is_off = features.get(flag).is_none_or(|value| value.eq_ignore_ascii_case("disabled"));
    let mend = run.kubectl.shown(&format!(
        "-n {SERVING} patch configmap config-features --type merge -p '{{\"data\":{{\"{flag}\":\"enabled\"}}}}'"
    ));
    is_off.then(|| {
        finding(Outcome::Failed, "feature flags", format!("{flag} is off, and --node {node} needs it"), Some(mend))
    })
}

/// Which access mode the claims can have, and whether there is a storage class at all.
async fn storage(run: &Run) -> (AccessMode, Finding) {
    let (class, nodes) = (storage_class(run).await, n_nodes(run).await);
    let (class, mode) = match class {
        Ok(class) => {
            let of_one = nodes == Some(1) || OF_ONE_NODE.contains(&class.provisioner.as_str());
            let mode = if of_one { AccessMode::ReadWriteOnce } else { AccessMode::ReadWriteMany };
            (class, run.options.install.access_mode.unwrap_or(mode))
        }
        Err(finding) => return (AccessMode::ReadWriteMany, finding),
    };
    let says = format!("{}, of storage class {} ({})", mode.name(), class.name_any(), class.provisioner);
    (mode, finding(Outcome::Ok, VOLUMES, says, None))
}

async fn storage_class(run: &Run) -> Result<StorageClass, Finding> {
    let list = Action { verb: "list", resource: "storageclasses", group: "storage.k8s.io", name: None, namespace: "" };
    let api: Api<StorageClass> = Api::all(run.cluster.client().clone());
    let classes = api.list(&ListParams::default()).await.map_err(|error| list.failed(error));
    let classes = classes.map_err(|error| finding(Outcome::Failed, VOLUMES, error.to_string(), None))?.items;
    let wanted = run.options.install.storage_class.as_deref();
    let is_default = |class: &StorageClass| class.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true");
    let names = classes.iter().map(ResourceExt::name_any).collect::<Vec<_>>().join(", ");
    let names = if names.is_empty() { "none".to_owned() } else { names };
    let found = classes.into_iter().find(|class| match wanted {
        Some(name) => class.name_any() == name,
        None => is_default(class),
    });
    found.ok_or_else(|| {
        let says = match wanted {
            Some(name) => format!("there is no storage class {name}; there are: {names}"),
            None => format!("the cluster has no default storage class; there are: {names}"),
        };
        finding(Outcome::Failed, VOLUMES, says, Some("name one with --storage-class".to_owned()))
    })
}

/// Nodes that take any pod.
async fn n_nodes(run: &Run) -> Option<usize> {
    let api: Api<Node> = Api::all(run.cluster.client().clone());
    let nodes = api.list(&ListParams::default()).await.ok()?.items;
    let takes_pods = |node: &&Node| {
        let spec = node.spec.clone().unwrap_or_default();
        let tainted = spec.taints.iter().flatten().any(|taint| taint.effect != "PreferNoSchedule");
        !tainted && !spec.unschedulable.unwrap_or(false)
    };
    Some(nodes.iter().filter(takes_pods).count())
}

/// Whether Kourier's inner door is open to one namespace alone, which is not this run's.
async fn inner_door(run: &Run) -> Option<Finding> {
    let policies: Api<NetworkPolicy> = Api::namespaced(run.cluster.client().clone(), "kourier-system");
    let policy = policies.get_opt("fovea-internal-gateway").await.ok().flatten()?;
    let says = format!(
        "the network policy {} in kourier-system lets another namespace's web call functions; where the network \
         enforces policies, this run's cannot, and making the data set fails",
        policy.name_any()
    );
    Some(finding(Outcome::Warning, INGRESS, says, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_host_is_told_from_a_path_at_docker_hub() {
        for (registry, host) in [
            ("registry.example.com/team", "registry.example.com"),
            ("localhost:5000", "localhost:5000"),
            ("localhost/x", "localhost"),
            ("kind.local", "kind.local"),
            ("somebody", "index.docker.io"),
        ] {
            assert_eq!(registry_host(registry), host);
        }
    }
}
