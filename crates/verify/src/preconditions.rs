//! Whether the cluster has what a run needs, before anything is made; and what of it is used.
//!
//! Settings of the cluster are never changed: what is missing is told, with the command that mends it.

use std::collections::BTreeMap;

use cluster::doctor::{Doctor, Finding, KOURIER_NAMESPACES, Outcome};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    networking::v1::NetworkPolicy,
};
use kube::{Api, ResourceExt};

use crate::{
    failure::{Failure, Result},
    options::AccessMode,
    registry::is_own_machine,
    report::Held,
    run::Run,
    volumes,
};

/// Where Knative Serving lives.
pub const SERVING: &str = "knative-serving";

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
        findings.extend(pull_secret(run).await);
        findings.extend(node(run).await);
        let storage = volumes::storage(run).await;
        access_mode = storage.0;
        findings.push(storage.1);
        findings.extend(inner_door(run).await);
        findings.extend(domain(run).await);
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
pub(crate) const VOLUMES: &str = "volumes";

pub(crate) fn finding(outcome: Outcome, check: &'static str, says: impl Into<String>, mend: Option<String>) -> Finding {
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
    // What is on this machine is looked up by this run.
    if skipped.split(',').any(|skipped| skipped.trim() == host) || is_own_machine(host) {
        return None;
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

/// Whether the Secret that images are pulled with is where it was said to be.
async fn pull_secret(run: &Run) -> Option<Finding> {
    let wanted = run.options.install.pull_secret.as_ref()?;
    let secrets: Api<Secret> = Api::namespaced(run.cluster.client().clone(), &wanted.namespace);
    let says = match secrets.get_opt(&wanted.name).await {
        Ok(Some(_)) => return None,
        Ok(None) => format!("there is no Secret {} in namespace {}", wanted.name, wanted.namespace),
        Err(error) => format!("the Secret {} cannot be read: {error}", wanted.name),
    };
    let mend = run.kubectl.shown(&format!(
        "-n {} create secret docker-registry {} --docker-server=… --docker-username=… --docker-password=…",
        wanted.namespace, wanted.name
    ));
    Some(finding(Outcome::Failed, IMAGES, says, Some(mend)))
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

/// Whether Kourier's inner door is open to one namespace alone, which is not this run's.
async fn inner_door(run: &Run) -> Option<Finding> {
    for namespace in KOURIER_NAMESPACES {
        let policies: Api<NetworkPolicy> = Api::namespaced(run.cluster.client().clone(), namespace);
        let Ok(Some(policy)) = policies.get_opt("fovea-internal-gateway").await else { continue };
        let says = format!(
            "the network policy {} in {namespace} lets another namespace's web call functions; where the network enforces \
             policies, this run's cannot, and making the data set fails",
            policy.name_any()
        );
        return Some(finding(Outcome::Warning, INGRESS, says, None));
    }
    None
}

/// Whether functions get a host outside the cluster.
async fn domain(run: &Run) -> Option<Finding> {
    let says = "config-domain names no domain: functions have hosts inside the cluster only, and are called by the \
                gateway's inner door";
    settings(run, "config-domain").await.is_empty().then(|| finding(Outcome::Warning, INGRESS, says, None))
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
