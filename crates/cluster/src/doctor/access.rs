//! What the web service's account may do, asked for each verb that it needs.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, api::PostParams};

use super::{APPLY, Doctor, Finding};
use crate::{error::Action, knative::GROUP};

const ACCESS: &str = "permissions";

/// The web service's account.
const ACCOUNT: &str = "web";

/// Group, resource, name where one is meant, and verbs: all that this crate asks of a cluster while it serves.
const NEEDED: [(&str, &str, Option<&str>, &[&str]); 8] = [
    ("batch", "cronjobs", Some("train"), &["get"]),
    ("batch", "cronjobs", Some("bake"), &["get"]),
    ("batch", "jobs", None, &["create", "get", "list", "delete"]),
    ("", "pods", None, &["list"]),
    ("", "pods/log", None, &["get"]),
    ("", "events", None, &["list"]),
    (GROUP, "services", None, &["get", "list", "patch"]),
    (GROUP, "revisions", None, &["list"]),
];

impl Doctor {
    /// Whether the account may do all that it needs to.
    pub(super) async fn permissions(&self) -> Vec<Finding> {
        let user = format!("system:serviceaccount:{}:{ACCOUNT}", self.namespace());
        let reviews: Api<SubjectAccessReview> = Api::all(self.cluster.client().clone());
        let create = Action {
            verb: "create",
            resource: "subjectaccessreviews",
            group: "authorization.k8s.io",
            name: None,
            namespace: "",
        };
        let mut lacking = vec![];
        let mut n_asked = 0;
        for (group, resource, name, verbs) in NEEDED {
            let (kind, subresource) = match resource.split_once('/') {
                Some((kind, subresource)) => (kind, Some(subresource)),
                None => (resource, None),
            };
            for verb in verbs {
                let attributes = ResourceAttributes {
                    group: Some(group.to_owned()),
                    name: name.map(str::to_owned),
                    namespace: Some(self.namespace().to_owned()),
                    resource: Some(kind.to_owned()),
                    subresource: subresource.map(str::to_owned),
                    verb: Some((*verb).to_owned()),
                    ..ResourceAttributes::default()
                };
                let spec = SubjectAccessReviewSpec {
                    user: Some(user.clone()),
                    resource_attributes: Some(attributes),
                    ..SubjectAccessReviewSpec::default()
                };
                let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
                let reviewed = reviews.create(&PostParams::default(), &review).await;
                match reviewed.map_err(|error| create.failed(error)) {
                    Ok(reviewed) if reviewed.status.as_ref().is_some_and(|status| status.allowed) => n_asked += 1,
                    Ok(_) => lacking.push(format!("{verb} {resource}")),
                    Err(error) => return vec![Finding::unknown(ACCESS, &error)],
                }
            }
        }
        if lacking.is_empty() {
            return vec![Finding::ok(
                ACCESS,
                format!("the account {ACCOUNT} may do all {n_asked} things that it needs"),
            )];
        }
        let says = format!("the account {ACCOUNT} may not {}", lacking.join(", "));
        vec![Finding::failed(ACCESS, says, format!("{APPLY}, which holds its Role"))]
    }
}
