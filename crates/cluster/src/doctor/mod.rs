//! Examines a cluster: what Fovea needs and it lacks, each with the command that mends it.
//!
//! Nothing is changed; the functions are called once, by the web service, where it calls them. What cannot be looked at, for
//! want of a permission or because something before it failed, is said to be unknown and not to be well.

mod access;
mod inside;
mod platform;
mod storage;
mod workload;

pub use inside::API_ACCESS;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, core::NamespaceResourceScope};
use serde::Serialize;

use crate::{
    Cluster,
    error::{Action, ClusterError, Refusal, Result},
};

/// Where Kourier's gateway is: put there by its own manifest, or by Knative's operator.
pub const KOURIER_NAMESPACES: [&str; 2] = ["kourier-system", "knative-serving"];

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as "feature flags".
    pub check: &'static str,
    /// How it is.
    pub outcome: Outcome,
    /// What was seen, in a sentence.
    pub says: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, and may not do so for long or for everybody.
    Warning,
    /// It does not work.
    Failed,
    /// It could not be looked at.
    Unknown,
}

impl Finding {
    fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, says: says.into(), mend: None }
    }

    fn warning(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Warning, says: says.into(), mend: Some(mend.into()) }
    }

    fn failed(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Failed, says: says.into(), mend: Some(mend.into()) }
    }

    /// What could not be looked at.
    fn unknown(check: &'static str, error: &ClusterError) -> Self {
        Self { check, outcome: Outcome::Unknown, says: error.to_string(), mend: None }
    }
}

/// What to examine.
#[derive(Clone, Debug)]
pub struct Doctor {
    cluster: Cluster,
    version: String,
}

impl Doctor {
    /// Examines a cluster for what this version of Fovea needs; asks it nothing yet.
    pub fn new(cluster: Cluster, version: &str) -> Self {
        Self { cluster, version: version.to_owned() }
    }

    /// Looks at what Fovea stands on, whether or not it is there yet: the API server, Knative Serving, the ingress and the
    /// flags that the functions need. Where the cluster does not answer at all, at nothing more.
    pub async fn foundations(&self) -> Vec<Finding> {
        let mut findings = self.api_server().await;
        if findings.iter().all(|finding| finding.check != platform::SERVER || finding.outcome != Outcome::Failed) {
            findings.extend(self.knative().await);
            findings.extend(self.ingress().await);
            findings.extend(self.flags().await);
        }
        findings
    }

    /// Looks at everything; where the cluster does not answer at all, at nothing more.
    pub async fn examine(&self) -> Vec<Finding> {
        let mut findings = self.foundations().await;
        if findings.iter().any(|finding| finding.check == platform::SERVER && finding.outcome == Outcome::Failed) {
            return findings;
        }
        findings.extend(self.namespace_there().await);
        findings.extend(self.volumes().await);
        findings.extend(self.key().await);
        findings.extend(self.permissions().await);
        findings.extend(self.templates().await);
        findings.extend(self.web().await);
        findings.extend(self.images().await);
        findings.extend(self.functions().await);
        findings.extend(self.inside().await);
        findings
    }

    fn namespace(&self) -> &str {
        self.cluster.namespace()
    }

    /// An object of the namespace, or of another; `None` if there is none of this name.
    async fn find<K>(
        &self,
        namespace: &str,
        resource: &'static str,
        group: &'static str,
        name: &str,
    ) -> Result<Option<K>>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.cluster.client().clone(), namespace);
        let get = Action { verb: "get", resource, group, name: Some(name), namespace };
        optional(api.get(name).await.map_err(|error| get.failed(error)))
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>> {
        self.find(namespace, "configmaps", "", name).await
    }
}

/// Without the error that there is none.
fn optional<T>(got: Result<T>) -> Result<Option<T>> {
    match got {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is(Refusal::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The command that applies the manifests again.
const APPLY: &str = "kubectl apply -k knative/overlays/<yours>";
