//! The manifests and this crate agree: Jobs are made from the templates there, versions published to the function there,
//! and nothing is asked of the API server that the web service's Role does not allow.

use cluster::{functions::Functions, publish::Publisher, trainers::Trainers};
use serde_json::{Value, json};

use crate::{
    server::{JOBS, NAMESPACE, PODS, SERVICES, Server, TEMPLATES},
    stage::{container, end, pod, reconcile},
};

const TEMPLATES_YAML: &str = include_str!("../../../../knative/base/jobs.yaml");
const INFERENCE: &str = include_str!("../../../../knative/base/inference.yaml");
const ACCOUNTS: &str = include_str!("../../../../knative/base/accounts.yaml");

const RUN: &str = "20261123-064512-123";

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// A cluster with the manifests, whose controller has made the function's first revision.
async fn applied() -> Server {
    let server = Server::start().await;
    for template in documents(TEMPLATES_YAML) {
        assert_eq!(template["spec"]["suspend"], true, "a template never runs by itself");
        server.put(TEMPLATES, template);
    }
    for service in documents(INFERENCE) {
        server.put(SERVICES, service);
    }
    reconcile(&server, "True");
    server
}

/// Does everything that this crate does while the service runs.
async fn everything(server: &Server) {
    let trainers = Trainers::new(server.cluster());
    trainers.start(RUN, 1).await.unwrap();
    trainers.observe().await.unwrap();
    let job = format!("train-{RUN}");
    pod(server, &job, container("Running", json!({"running": {}})));
    server.say(&format!("{PODS}/{job}-x/log"), "epoch 1\n");
    trainers.log(RUN, 1, 1000).await.unwrap();
    trainers.cancel(RUN, 1).await.unwrap();

    let publisher = Publisher::new(server.cluster(), "inference");
    publisher.pin("classifier", 1).await.unwrap();
    end(server, "bake-classifier-v1", "Complete", "CompletionsReached");
    publisher.step().await.unwrap();
    reconcile(server, "True");
    publisher.publish("classifier", 1, 100).await.unwrap();
    publisher.publications().await.unwrap();
    Functions::new(server.cluster()).services().await.unwrap();
}

#[tokio::test]
async fn a_trainer_is_told_its_run_and_where_the_volumes_are() {
    let server = applied().await;
    Trainers::new(server.cluster()).start(RUN, 1).await.unwrap();
    let job = server.get(JOBS, &format!("train-{RUN}")).unwrap();
    let pods = &job["spec"]["template"]["spec"];
    let spec = format!("--spec=/models/runs/{RUN}/run.json");
    let expected = json!(["--datasets=/data", "--models=/models", spec, "--keep-current"]);
    assert_eq!(pods["containers"][0]["args"], expected);
    let mounted: Vec<_> =
        pods["containers"][0]["volumeMounts"].as_array().unwrap().iter().map(|m| &m["mountPath"]).collect();
    assert!(mounted.contains(&&json!("/data")) && mounted.contains(&&json!("/models")), "{mounted:?}");
    assert_eq!((&job["spec"]["backoffLimit"], &pods["restartPolicy"]), (&json!(0), &json!("Never")));
    assert!(job["spec"]["activeDeadlineSeconds"].is_u64() && job["spec"]["ttlSecondsAfterFinished"].is_u64());
}

#[tokio::test]
async fn a_published_version_is_pinned_beside_the_link_and_keeps_every_other_setting() {
    let server = applied().await;
    let before = server.get(SERVICES, "inference").unwrap()["spec"]["template"]["spec"].clone();
    everything(&server).await;
    let after = server.get(SERVICES, "inference").unwrap()["spec"]["template"]["spec"].clone();
    let path = "/models/models/classifier/current";
    let pinned = before.to_string().replace(path, "/models/models/classifier/v1");
    assert_ne!(pinned, before.to_string(), "the manifest names the link");
    assert_eq!(after, serde_json::from_str::<Value>(&pinned).unwrap());
}

/// Verb, group, resource with subresource, name where one is meant.
fn asked(request: &str) -> (&'static str, String, String, Option<String>) {
    let (method, path) = request.split_once(' ').unwrap();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group, rest) = if parts[0] == "api" { ("", &parts[2..]) } else { (parts[1], &parts[3..]) };
    assert_eq!(rest[..2], ["namespaces", NAMESPACE], "{request} is not of the namespace");
    let name = rest.get(3).map(|name| (*name).to_owned());
    let resource = rest.get(4).map_or(rest[2].to_owned(), |sub| format!("{}/{sub}", rest[2]));
    let verb = match (method, &name) {
        ("GET", None) => "list",
        ("GET", Some(_)) => "get",
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => panic!("{request} is no verb"),
    };
    (verb, group.to_owned(), resource, name)
}

#[tokio::test]
async fn nothing_is_asked_that_the_role_does_not_allow() {
    let server = applied().await;
    everything(&server).await;
    let role = documents(ACCOUNTS).into_iter().find(|document| document["kind"] == "Role").unwrap();
    let rules = role["rules"].as_array().unwrap();
    let has = |list: &Value, what: &str| list.as_array().unwrap().iter().any(|item| item == what);
    let requests = server.requests();
    assert!(requests.len() > 20, "{requests:?}");
    for request in requests {
        let (verb, group, resource, name) = asked(&request);
        let allowed = rules.iter().any(|rule| {
            let named =
                rule["resourceNames"].is_null() || name.as_ref().is_some_and(|name| has(&rule["resourceNames"], name));
            has(&rule["apiGroups"], &group) && has(&rule["resources"], &resource) && has(&rule["verbs"], verb) && named
        });
        assert!(allowed, "the Role does not allow {request}");
    }
}
