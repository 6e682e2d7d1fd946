//! What can go wrong between this program and a cluster, as sentences that say what to do.
//!
//! The API server tells codes and reasons; which of them mean a missing permission, an exhausted quota or a kind that was
//! never installed is known here, and nowhere else.

use std::fmt;

use api::{ErrorCode, ErrorDetail};
use kube::core::Status;

/// Result of this crate.
pub type Result<T, E = ClusterError> = std::result::Result<T, E>;

/// Every way in which a cluster fails.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It is not told how to reach a cluster.
    #[error(
        "there is no usable way to a Kubernetes API server; run inside a cluster with a service account, or name a kubeconfig with KUBECONFIG"
    )]
    Configuration {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kubeconfig wants a proxy to be asked.
    #[error(
        "the kubeconfig has the Kubernetes API server asked through a proxy (proxy-url, {proxy}), and this program knows no proxies; run `kubectl proxy --port 8001` and name a kubeconfig whose server is http://127.0.0.1:8001"
    )]
    Proxied {
        /// Its host.
        proxy: String,
    },
    /// The API server cannot be reached or broke off.
    #[error(
        "the Kubernetes API server does not answer ({because}); see whether the cluster runs and whether its address and certificate authority are right"
    )]
    Unreachable {
        /// The innermost cause: what is between says nothing.
        because: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server refused.
    #[error("{sentence}")]
    Refused {
        /// What kind of refusal.
        refusal: Refusal,
        /// What was refused, why and what to do.
        sentence: String,
        /// As the API server said it, if it did.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// An object kept changing while it was being edited.
    #[error("{what} kept changing while it was being edited; try again")]
    Contended {
        /// Which.
        what: String,
    },
    /// An object is not as this program needs it.
    #[error("{what} {problem}")]
    Unfit {
        /// Which.
        what: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
}

/// What kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The credentials are not known.
    Unauthenticated,
    /// The credentials lack a permission, a quota is used up, or a policy forbids it.
    Forbidden,
    /// No such object, or no such kind.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// It was changed by somebody else in between.
    Conflict,
    /// What was asked for cannot be.
    Invalid,
    /// Not now.
    Unavailable,
    /// Anything else.
    Other,
}

/// What is being done, for sentences.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// As RBAC spells it.
    pub verb: &'a str,
    /// The plural, as RBAC spells it.
    pub resource: &'a str,
    /// The API group; empty for the core.
    pub group: &'a str,
    /// Which one, if one is meant.
    pub name: Option<&'a str>,
    /// Where.
    pub namespace: &'a str,
}

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match self.name {
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

impl<'a> Action<'a> {
    /// What a failure of this means.
    pub fn failed(self, error: kube::Error) -> ClusterError {
        match error {
            kube::Error::Api(status) => {
                let (refusal, sentence) = self.refused(&status);
                ClusterError::Refused { refusal, sentence, source: Some(status) }
            }
            kube::Error::SerdeError(_) => ClusterError::Refused {
                refusal: Refusal::Other,
                sentence: format!("the answer to \"{self}\" is not what a Kubernetes API server would say"),
                source: Some(error.into()),
            },
            error => ClusterError::Unreachable { because: innermost(&error), source: Box::new(error) },
        }
    }

    fn refused(self, status: &Status) -> (Refusal, String) {
        let message = without_prefix(&status.message);
        let place = format!("namespace {}", self.namespace);
        if status.code == 401 {
            let sentence = "the cluster does not know these credentials; log in again, or renew the service account's \
                            token by restarting the pod";
            return (Refusal::Unauthenticated, sentence.to_owned());
        }
        if status.is_forbidden() {
            return (Refusal::Forbidden, self.forbidden(status));
        }
        if status.is_already_exists() {
            return (Refusal::AlreadyExists, format!("there is a {} {} already", self.kind(), self.name.unwrap_or("")));
        }
        if status.is_not_found() {
            let sentence = match self.name {
                // The name of the object is in the details only where the kind is known.
                Some(name) if status.details.as_ref().is_some_and(|details| !details.name.is_empty()) => {
                    format!("there is no {} {name} in {place}; apply the manifests of knative/", self.kind())
                }
                _ if self.group.ends_with("knative.dev") => {
                    format!("the cluster does not know {}.{}; install Knative Serving", self.resource, self.group)
                }
                _ => format!("the cluster has no {} to {}: {message}", self.resource, self.verb),
            };
            return (Refusal::NotFound, sentence);
        }
        if status.is_conflict() {
            return (Refusal::Conflict, format!("somebody else changed it: {message}"));
        }
        if status.is_invalid() || status.code == 400 {
            return (Refusal::Invalid, message.to_owned());
        }
        let refusal = if status.code >= 500 || status.code == 429 { Refusal::Unavailable } else { Refusal::Other };
        (refusal, format!("the cluster cannot {self} in {place} now ({}: {message}); try again", status.code))
    }

    /// One of the resource.
    fn kind(self) -> &'a str {
        self.resource.strip_suffix('s').unwrap_or(self.resource)
    }

    fn forbidden(self, status: &Status) -> String {
        let Self { verb, resource, group, namespace, .. } = self;
        let message = &status.message;
        if !message.contains(&format!("cannot {verb} resource")) {
            let remedy = if message.contains("exceeded quota") {
                "; free some of it (finished Jobs and their pods count), or raise the ResourceQuota"
            } else if message.contains("PodSecurity") {
                "; the namespace's pod security level refuses the pod as its template describes it"
            } else {
                ""
            };
            return format!("the cluster refuses to {self}: {}{remedy}", without_prefix(message));
        }
        let quoted = |text: &str| text.split('"').next().map(str::to_owned);
        let user = message.split_once("User \"").and_then(|(_, rest)| quoted(rest));
        let user = user.unwrap_or_else(|| "this program".to_owned());
        let of = if group.is_empty() { "the core API group".to_owned() } else { format!("API group {group}") };
        format!(
            "{user} may not {verb} {resource} ({of}) in namespace {namespace}; add the verb {verb} for {resource} to its \
             Role, or apply the manifests of knative/ again"
        )
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

/// Without what a webhook's refusal begins with.
fn without_prefix(message: &str) -> &str {
    let rest = message.strip_prefix("admission webhook ").and_then(|rest| rest.split_once("denied the request: "));
    let message = rest.map_or(message, |(_, rest)| rest);
    message.strip_prefix("validation failed: ").unwrap_or(message)
}

impl ClusterError {
    /// Whether it is a refusal of this kind.
    pub fn is(&self, kind: Refusal) -> bool {
        matches!(self, Self::Refused { refusal, .. } if *refusal == kind)
    }

    /// Whether the same may well work in a moment, without anybody mending anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Contended { .. } => true,
            Self::Refused { refusal, .. } => matches!(refusal, Refusal::Unavailable | Refusal::Conflict),
            Self::Configuration { .. } | Self::Proxied { .. } | Self::Unfit { .. } => false,
        }
    }

    /// What a client may know, with a code.
    pub fn detail(&self) -> ErrorDetail {
        let code = match self {
            Self::Configuration { .. } | Self::Proxied { .. } | Self::Unreachable { .. } => ErrorCode::Unavailable,
            Self::Contended { .. } | Self::Unfit { .. } => ErrorCode::Conflict,
            Self::Refused { refusal, .. } => match refusal {
                Refusal::Unauthenticated | Refusal::Forbidden | Refusal::Other => ErrorCode::BadGateway,
                Refusal::NotFound => ErrorCode::NotFound,
                Refusal::AlreadyExists | Refusal::Conflict => ErrorCode::Conflict,
                Refusal::Invalid => ErrorCode::Unprocessable,
                Refusal::Unavailable => ErrorCode::Unavailable,
            },
        };
        ErrorDetail::new(code, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: Action<'static> =
        Action { verb: "create", resource: "jobs", group: "batch", name: Some("train-1"), namespace: "ml-app" };

    fn refused(code: u16, reason: &str, message: &str) -> ClusterError {
        CREATE.failed(kube::Error::Api(Status::failure(message, reason).with_code(code).boxed()))
    }

    #[test]
    fn a_missing_permission_names_who_lacks_which_verb() {
        let error = refused(
            403,
            "Forbidden",
            "jobs.batch is forbidden: User \"system:serviceaccount:ml-app:web\" cannot create resource \"jobs\" in API \
             group \"batch\" in the namespace \"ml-app\"",
        );
        assert_eq!(
            error.to_string(),
            "system:serviceaccount:ml-app:web may not create jobs (API group batch) in namespace ml-app; add the verb \
             create for jobs to its Role, or apply the manifests of knative/ again"
        );
        assert!(error.is(Refusal::Forbidden) && !error.is_passing());
    }

    #[test]
    fn an_exhausted_quota_is_no_missing_permission() {
        let message = "jobs.batch \"train-1\" is forbidden: exceeded quota: team, requested: count/jobs.batch=1";
        let said = refused(403, "Forbidden", message).to_string();
        assert!(said.contains("exceeded quota: team") && said.contains("raise the ResourceQuota"), "{said}");
        assert!(!said.contains("verb"), "{said}");
    }

    #[test]
    fn what_a_webhook_refuses_is_told_in_its_words_alone() {
        let message = "admission webhook \"validation.webhook.serving.knative.dev\" denied the request: validation \
                       failed: Traffic targets sum to 90, want 100: spec.traffic";
        let error = refused(400, "BadRequest", message);
        assert_eq!(error.to_string(), "Traffic targets sum to 90, want 100: spec.traffic");
        assert_eq!(error.detail().code, ErrorCode::Unprocessable);
    }

    #[test]
    fn a_kind_that_was_never_installed_is_told_from_an_object_that_is_not_there() {
        let get = Action {
            verb: "get",
            resource: "services",
            group: "serving.knative.dev",
            name: Some("inference"),
            namespace: "ml-app",
        };
        let status = Status::failure("the server could not find the requested resource", "NotFound").with_code(404);
        let said = get.failed(kube::Error::Api(status.boxed())).to_string();
        assert_eq!(said, "the cluster does not know services.serving.knative.dev; install Knative Serving");
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(refused(503, "ServiceUnavailable", "etcd is away").is_passing());
        assert!(refused(409, "Conflict", "the object has been modified").is_passing());
        assert!(!refused(422, "Invalid", "spec: Required value").is_passing());
        assert!(!refused(401, "Unauthorized", "Unauthorized").is_passing());
    }
}
