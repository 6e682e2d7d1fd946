//! What Fovea stands on: the API server and its clock, Knative Serving and its flags, and the ingress.

use http::{Request, header::DATE};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use serde_json::Value;

use super::{APPLY, Doctor, Finding, KOURIER_NAMESPACES, optional};
use crate::{
    error::{Action, Result},
    knative::{self, GROUP},
};

pub(super) const SERVER: &str = "API server";
pub(super) const CLOCK: &str = "clocks";
const KNATIVE: &str = "Knative Serving";
const INGRESS: &str = "ingress";
const FLAGS: &str = "feature flags";

/// Where Knative Serving lives.
const SERVING: &str = "knative-serving";

/// What of Knative Serving has to run.
const CONTROLLERS: [&str; 4] = ["activator", "autoscaler", "controller", "webhook"];

/// The flag that the functions need wherever they run.
const CLAIMS_FLAG: &str = "kubernetes.podspec-persistent-volume-claim";

/// The oldest minor version of Kubernetes 1 whose types this program was built to understand.
const OLDEST_MINOR: u32 = 33;

/// Clocks farther apart are told.
pub(super) const MAX_SKEW: SignedDuration = SignedDuration::from_secs(5);

const INSTALL: &str = "./run.sh up, or see the installation of Knative Serving with YAML files";

impl Doctor {
    /// Whether the API server answers, which version it is, and what time it has.
    pub(super) async fn api_server(&self) -> Vec<Finding> {
        let client = self.cluster.client();
        let look = Action { verb: "get", resource: "version", group: "", name: None, namespace: self.namespace() };
        let version = match client.apiserver_version().await.map_err(|error| look.failed(error)) {
            Ok(version) => version,
            Err(error) => {
                let mut says = error.to_string();
                let mut mend = "kubectl config current-context; kubectl cluster-info".to_owned();
                if self.cluster.unproxied().is_some() {
                    says += "; HTTPS_PROXY is set, and this program asks API servers directly";
                    mend += "; where only the proxy reaches it, kubectl proxy --port 8001, and a kubeconfig whose \
                             server is http://127.0.0.1:8001";
                }
                return vec![Finding::failed(SERVER, says, mend)];
            }
        };
        let minor = version.minor.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>();
        let told = format!("Kubernetes {} answers", version.git_version);
        let mut findings = vec![match minor {
            Ok(minor) if version.major == "1" && minor < OLDEST_MINOR => {
                let says = format!("{told}; Fovea was built for 1.{OLDEST_MINOR} and newer");
                Finding::warning(
                    SERVER,
                    says,
                    "upgrade the cluster, such as with `minikube start --kubernetes-version=stable`",
                )
            }
            _ => Finding::ok(SERVER, told),
        }];
        findings.extend(self.clock().await);
        findings
    }

    /// Whether the namespace is there.
    pub(super) async fn namespace_there(&self) -> Vec<Finding> {
        let get =
            Action { verb: "get", resource: "namespaces", group: "", name: Some(self.namespace()), namespace: "" };
        let namespaces: Api<Namespace> = Api::all(self.cluster.client().clone());
        vec![match optional(namespaces.get(self.namespace()).await.map_err(|error| get.failed(error))) {
            Ok(Some(_)) => Finding::ok("namespace", format!("{} is there", self.namespace())),
            Ok(None) => Finding::failed("namespace", format!("there is no namespace {}", self.namespace()), APPLY),
            Err(error) => Finding::unknown("namespace", &error),
        }]
    }

    /// How far the API server's clock is from this machine's.
    async fn clock(&self) -> Option<Finding> {
        let request = Request::get("/version").body(kube::client::Body::empty()).ok()?;
        let before = Timestamp::now();
        let answer = self.cluster.client().send(request).await.ok()?;
        let between = before + Timestamp::now().duration_since(before) / 2;
        let told = rfc2822::parse(answer.headers().get(DATE)?.to_str().ok()?).ok()?.timestamp();
        // The header's time is cut to whole seconds.
        let skew = told.duration_since(between) + SignedDuration::from_millis(500);
        Some(skewed("the API server", skew))
    }

    /// Whether Knative Serving is installed, and runs.
    pub(super) async fn knative(&self) -> Vec<Finding> {
        let crds =
            ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
        let name = format!("services.{GROUP}");
        let get = Action {
            verb: "get",
            resource: "customresourcedefinitions",
            group: "apiextensions.k8s.io",
            name: Some(&name),
            namespace: "",
        };
        let api: Api<DynamicObject> = Api::all_with(self.cluster.client().clone(), &crds);
        match optional(api.get(&name).await.map_err(|error| get.failed(error))) {
            Ok(Some(_)) => {}
            Ok(None) => return vec![Finding::failed(KNATIVE, "Knative Serving is not installed", INSTALL)],
            Err(error) => return vec![Finding::unknown(KNATIVE, &error)],
        }
        let mut versions = vec![];
        for name in CONTROLLERS {
            match self.find::<Deployment>(SERVING, "deployments", "apps", name).await {
                Ok(Some(deployment)) if is_available(&deployment) => versions.extend(version(&deployment)),
                Ok(found) => {
                    let how = if found.is_some() { "is not ready" } else { "is missing" };
                    let says = format!("its deployment {name} {how} in {SERVING}");
                    return vec![Finding::failed(
                        KNATIVE,
                        says,
                        format!("kubectl -n {SERVING} describe deployment {name}"),
                    )];
                }
                Err(error) => return vec![Finding::unknown(KNATIVE, &error)],
            }
        }
        versions.sort_unstable();
        versions.dedup();
        vec![match versions.as_slice() {
            [] => Finding::ok(KNATIVE, "it runs"),
            [one] => Finding::ok(KNATIVE, format!("{one} runs")),
            several => {
                let says = format!("its parts are of several versions: {}", several.join(", "));
                Finding::warning(KNATIVE, says, INSTALL)
            }
        }]
    }

    /// Whether requests get in: a class of ingress is chosen, its controller and its gateway run.
    pub(super) async fn ingress(&self) -> Vec<Finding> {
        let config = match self.config_map(SERVING, "config-network").await {
            Ok(config) => config.and_then(|config| config.data).unwrap_or_default(),
            Err(error) => return vec![Finding::unknown(INGRESS, &error)],
        };
        let class = config.get("ingress-class").or_else(|| config.get("ingress.class")).cloned();
        let class = class.unwrap_or_else(|| "istio.ingress.networking.knative.dev".to_owned());
        // Each part, and where it may be.
        let parts: &[(&[&str], &str)] = match class.split('.').next() {
            Some("kourier") => {
                &[(&[SERVING], "net-kourier-controller"), (&KOURIER_NAMESPACES, "3scale-kourier-gateway")]
            }
            Some("istio") => &[(&[SERVING], "net-istio-controller"), (&["istio-system"], "istio-ingressgateway")],
            Some("contour") => &[(&[SERVING], "net-contour-controller")],
            _ => {
                return vec![Finding::warning(
                    INGRESS,
                    format!("{class} is not one that Fovea knows"),
                    choose_kourier(),
                )];
            }
        };
        for (namespaces, name) in parts {
            match self.part(namespaces, name).await {
                Ok(Some((_, true))) => {}
                Ok(Some((namespace, false))) => {
                    let mend = format!("kubectl -n {namespace} describe deployment {name}");
                    return vec![Finding::failed(INGRESS, format!("{name} is not ready in {namespace}"), mend)];
                }
                Ok(None) => {
                    let says = format!("{class} is chosen, and {name} is missing in {}", namespaces.join(" and "));
                    return vec![Finding::failed(INGRESS, says, choose_kourier())];
                }
                Err(error) => return vec![Finding::unknown(INGRESS, &error)],
            }
        }
        vec![Finding::ok(INGRESS, format!("{class} runs"))]
    }

    /// The first of these namespaces that has the deployment, and whether it is ready there.
    async fn part<'a>(&self, namespaces: &[&'a str], name: &str) -> Result<Option<(&'a str, bool)>> {
        for namespace in namespaces {
            if let Some(found) = self.find::<Deployment>(namespace, "deployments", "apps", name).await? {
                return Ok(Some((namespace, is_available(&found))));
            }
        }
        Ok(None)
    }

    /// Whether Knative allows what the functions' templates ask for.
    pub(super) async fn flags(&self) -> Vec<Finding> {
        let config = match self.config_map(SERVING, "config-features").await {
            Ok(config) => config.and_then(|config| config.data).unwrap_or_default(),
            Err(error) => return vec![Finding::unknown(FLAGS, &error)],
        };
        let mut needed = vec![(CLAIMS_FLAG, "claims as volumes")];
        // Where there are none yet, or none can be seen, there is the one that all of them need.
        needed.extend(self.asked_for().await.unwrap_or_default());
        needed.dedup();
        let is_off = |flag: &str| match config.get(flag) {
            // Of claims, Knative takes no less for a yes.
            Some(value) if flag == CLAIMS_FLAG => !value.eq_ignore_ascii_case("enabled"),
            Some(value) => value.eq_ignore_ascii_case("disabled"),
            None => true,
        };
        let lacking: Vec<_> = needed.iter().filter(|(flag, _)| is_off(flag)).collect();
        if lacking.is_empty() {
            return vec![Finding::ok(FLAGS, format!("{} of {} are on", needed.len(), needed.len()))];
        }
        let finding = |(flag, what): &&(&str, &str)| {
            let says = format!("{flag} is off, and the functions use {what}");
            let mend = format!(
                "kubectl -n {SERVING} patch configmap config-features --type merge -p '{{\"data\":{{\"{flag}\":\"enabled\"}}}}'"
            );
            Finding::failed(FLAGS, says, mend)
        };
        lacking.iter().map(finding).collect()
    }

    /// Flags for what the templates that are there ask for beside claims.
    async fn asked_for(&self) -> Result<Vec<(&'static str, &'static str)>> {
        let list = Action { verb: "list", resource: "services", group: GROUP, name: None, namespace: self.namespace() };
        let services = self.cluster.dynamic(&knative::services()).list(&ListParams::default()).await;
        let services = services.map_err(|error| list.failed(error))?;
        let mut flags = vec![];
        for (field, flag, what) in [
            ("nodeSelector", "kubernetes.podspec-nodeselector", "a node selector"),
            ("securityContext", "kubernetes.podspec-securitycontext", "a pod's security context"),
            ("tolerations", "kubernetes.podspec-tolerations", "tolerations"),
            ("affinity", "kubernetes.podspec-affinity", "affinities"),
            ("runtimeClassName", "kubernetes.podspec-runtimeclassname", "a runtime class"),
        ] {
            let pointer = format!("/spec/template/spec/{field}");
            if services.iter().any(|service| service.data.pointer(&pointer).is_some_and(|value| *value != Value::Null))
            {
                flags.push((flag, what));
            }
        }
        Ok(flags)
    }
}

fn choose_kourier() -> String {
    format!(
        "kubectl -n {SERVING} patch configmap config-network --type merge -p \
         '{{\"data\":{{\"ingress-class\":\"kourier.ingress.networking.knative.dev\"}}}}', with Kourier installed"
    )
}

/// What a clock's distance from ours means.
pub(super) fn skewed(whose: &str, skew: SignedDuration) -> Finding {
    let seconds = skew.as_secs_f64().abs();
    if skew.abs() <= MAX_SKEW {
        return Finding::ok(CLOCK, format!("{whose}'s and this machine's are within {seconds:.1} s"));
    }
    let how = if skew.is_positive() { "ahead of" } else { "behind" };
    let says = format!("{whose}'s clock is {seconds:.0} s {how} this machine's");
    Finding::warning(CLOCK, says, "timedatectl set-ntp true, on whichever machine is wrong")
}

pub(super) fn is_available(deployment: &Deployment) -> bool {
    let conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_true = conditions.into_iter().any(|condition| condition.type_ == "Available" && condition.status == "True");
    is_true && deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0) > 0
}

fn version(deployment: &Deployment) -> Option<String> {
    deployment.labels().get("app.kubernetes.io/version").cloned()
}
