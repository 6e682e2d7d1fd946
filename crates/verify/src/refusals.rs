//! Manifests that are wrong on purpose, each in one thing. The cluster has to refuse them, and for that thing; nothing is
//! stored, for they are tried as a server-side dry run.

use std::time::Duration;

use cluster::error::Action;
use http::Request;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{api::DynamicObject, core::Status};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, Result},
    install::APPLIED_WITHIN,
    manifests::{Manifests, Object},
    report::Held,
    run::{FIELD_MANAGER, Run},
    wait::{Look, until},
};

/// How long a namespace may be without an account.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(60);

/// What makes an object wrong.
type Spoil = fn(&mut Value);

/// A manifest that has to be refused.
struct Bad {
    /// What is wrong with it.
    what: &'static str,
    spoil: Spoil,
    /// What the refusal has to say.
    told: &'static str,
}

const TEMPLATE: &str = "/spec/template";

/// Wrong Knative Services, each of them the inference function but for one thing.
///
/// # Source
/// Texts of Knative Serving's validation, and of the API server for unknown fields.
const FUNCTIONS: [Bad; 10] = [
    Bad {
        what: "an unknown field",
        spoil: |service| container(service)["imagePullPolice"] = json!("Always"),
        told: "unknown field",
    },
    Bad {
        what: "parts of the traffic that are 90 together",
        spoil: |service| service["spec"]["traffic"] = json!([{"latestRevision": true, "percent": 90}]),
        told: "Traffic targets sum to 90, want 100",
    },
    Bad {
        what: "more pods at least than at most",
        spoil: |service| {
            annotate(service, "min-scale", "5");
            annotate(service, "max-scale", "4");
        },
        told: "max-scale=4 is less than min-scale=5",
    },
    Bad {
        what: "a target of no requests",
        spoil: |service| annotate(service, "target", "0"),
        told: "target 0 should be at least 0.01",
    },
    Bad {
        what: "a window of one second",
        spoil: |service| annotate(service, "window", "1s"),
        told: "expected 6s <= 1s <= 1h0m0s",
    },
    Bad {
        what: "a metric that does not exist",
        spoil: |service| annotate(service, "metric", "pictures"),
        told: "invalid value: pictures",
    },
    Bad {
        what: "a scale outside the template",
        spoil: |service| service["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] = json!("1"),
        told: "autoscaling annotations must be put under",
    },
    Bad {
        what: "containerConcurrency −1",
        spoil: |service| service["spec"]["template"]["spec"]["containerConcurrency"] = json!(-1),
        told: "expected 0 <= -1 <= ",
    },
    Bad {
        what: "a port that Knative keeps for itself",
        spoil: |service| container(service)["ports"] = json!([{"containerPort": 8012}]),
        told: "8012 is a reserved port",
    },
    Bad {
        what: "a variable that Knative sets",
        spoil: |service| {
            if let Some(variables) = container(service)["env"].as_array_mut() {
                variables.push(json!({"name": "K_SERVICE", "value": "mine"}));
            }
        },
        told: "\"K_SERVICE\" is a reserved environment variable",
    },
];

fn container(service: &mut Value) -> &mut Value {
    &mut service["spec"]["template"]["spec"]["containers"][0]
}

fn annotate(service: &mut Value, key: &str, value: &str) {
    if let Some(template) = service.pointer_mut(TEMPLATE) {
        template["metadata"]["annotations"][format!("autoscaling.knative.dev/{key}")] = json!(value);
    }
}

/// A pod that may see the node's processes: what the namespace's level forbids.
fn unconfined(namespace: &str) -> (&'static str, Value, &'static str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "refused", "namespace": namespace},
        "spec": {"hostPID": true, "containers": [{"name": "refused", "image": "fovea/web"}]},
    });
    ("a pod that sees the node", pod, "violates PodSecurity")
}

/// Has every bad manifest refused, and the good one taken.
///
/// # Errors
/// Which of them was taken, or refused for something else
pub async fn check(run: &Run, manifests: &Manifests) -> Result<((), Held)> {
    let good = manifests.function("inference");
    let good = good.ok_or_else(|| Failure::new("the manifests have no Knative Service inference"))?;
    account(run).await?;
    // Where everything is refused, refusals say nothing.
    if let Err(refusal) = dry_run(run, good).await {
        return Err(Failure::new(format!("the function as it should be was refused, in a dry run: {refusal}")));
    }
    let functions = FUNCTIONS.iter().map(|bad| {
        let mut value = good.value.clone();
        value["metadata"]["name"] = json!("refused");
        (bad.spoil)(&mut value);
        (bad.what, value, bad.told)
    });
    let mut problems = vec![];
    for (what, value, told) in functions.chain([unconfined(run.namespace())]) {
        match dry_run(run, &Object { value }).await {
            Ok(()) => problems.push((what, "it was taken".to_owned())),
            Err(refusal) if refusal.contains(told) => {}
            Err(refusal) => problems.push((what, format!("it was refused, but not with \"{told}\": {refusal}"))),
        }
    }
    let n = FUNCTIONS.len() + 1;
    if problems.is_empty() {
        return Ok(((), format!("all {n} were refused for what is wrong with them, and the good one was not").into()));
    }
    let which = problems.iter().map(|(what, _)| *what).collect::<Vec<_>>().join("; ");
    let says = format!("{} of {n} were not refused as they should be: {which}", problems.len());
    let webhooks = "get validatingwebhookconfigurations,mutatingwebhookconfigurations -o wide";
    let seen = problems.into_iter().map(|(what, how)| format!("{what}: {how}"));
    Err(Failure::new(says).seen(seen).mend(run.kubectl.shown(webhooks)))
}

/// Waits for the account that every namespace gets: before it is there, pods are refused for want of it.
async fn account(run: &Run) -> Result<()> {
    let name = "default";
    let get =
        Action { verb: "get", resource: "serviceaccounts", group: "", name: Some(name), namespace: run.namespace() };
    until(&run.teller, "the namespace's account", ACCOUNT_WITHIN, async || {
        match run.cluster.api::<ServiceAccount>().get_opt(name).await.map_err(|error| get.failed(error)) {
            Ok(Some(_)) => Ok(Look::Done(())),
            Ok(None) => Ok(Look::Wait("it is not there yet".to_owned())),
            Err(error) => Look::failed(error),
        }
    })
    .await
}

/// Lets the API server go through everything but storing a new object; why it does not take it. What passes by itself, such
/// as a webhook that is just being started, is no reason.
async fn dry_run(run: &Run, object: &Object) -> Result<(), String> {
    let tried = until(&run.teller, "a dry run", APPLIED_WITHIN, async || match dry_run_once(run, object).await? {
        Ok(()) => Ok(Look::Done(Ok(()))),
        Err(status) if status.code >= 500 || status.code == 429 => Ok(Look::Wait(status.message)),
        Err(status) => Ok(Look::Done(Err(status.message))),
    });
    tried.await.unwrap_or_else(|failure| Err(failure.says))
}

/// What the API server says at once.
///
/// # Errors
/// If it does not answer
async fn dry_run_once(run: &Run, object: &Object) -> Result<Result<(), Status>> {
    let resource = object.resource();
    let root = if resource.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", resource.group) };
    let path = format!(
        "{root}/{}/namespaces/{}/{}?dryRun=All&fieldValidation=Strict&fieldManager={FIELD_MANAGER}",
        resource.version,
        run.namespace(),
        resource.plural
    );
    let request = Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
    let request = request.body(object.value.to_string().into_bytes());
    let request = request.map_err(|error| Failure::new(error.to_string()))?;
    match run.cluster.client().request::<DynamicObject>(request).await {
        Ok(_) => Ok(Ok(())),
        Err(kube::Error::Api(status)) => Ok(Err(*status)),
        Err(error) => {
            let action = Action {
                verb: "create",
                resource: &resource.plural,
                group: &resource.group,
                name: None,
                namespace: run.namespace(),
            };
            Err(action.failed(error).into())
        }
    }
}
