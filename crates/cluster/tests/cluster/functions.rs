//! What the functions do, read back from Knative's objects, and edits of their traffic.

use api::functions::{Activity, Phase, TrafficTarget};
use axum::http::Method;
use cluster::{error::Refusal, functions::Functions};
use serde_json::json;

use crate::{
    server::{REVISIONS, SERVICES, Server, status},
    stage::{inference, reconcile, traffic},
};

#[tokio::test]
async fn knatives_objects_become_the_houses_own() {
    let server = Server::start().await;
    inference(&server);
    server.edit(REVISIONS, "inference-00001", |revision| {
        revision["status"]["actualReplicas"] = json!(2);
        revision["status"]["desiredReplicas"] = json!(3);
        revision["status"]["conditions"][1]["status"] = json!("True");
    });
    let told = Functions::new(server.cluster()).services().await.unwrap().remove(0);
    assert_eq!((told.namespace.as_str(), told.name.as_str(), told.ready), ("ml-app", "inference", true));
    assert_eq!(told.url, "http://inference.ml-app.example.com");
    assert_eq!((told.traffic[0].percent, told.traffic[0].latest), (100, true));
    let revision = &told.revisions[0];
    assert_eq!((revision.phase, revision.activity), (Phase::Ready, Activity::Active));
    assert_eq!((revision.ready, revision.desired, revision.reachable), (2, 3, true));
    assert_eq!(revision.mounted, ["/models/models/classifier/current"]);
    assert_eq!(revision.model(), None, "a link is no version");
}

#[tokio::test]
async fn an_edit_that_nobody_has_taken_note_of_is_not_ready() {
    let server = Server::start().await;
    inference(&server);
    server.edit(SERVICES, "inference", |service| service["spec"]["traffic"] = json!([]));
    assert!(!Functions::new(server.cluster()).services().await.unwrap()[0].ready);
}

#[tokio::test]
async fn traffic_is_wished_for_and_read_back() {
    let server = Server::start().await;
    inference(&server);
    let functions = Functions::new(server.cluster());
    let controller = server.clone();
    let settling = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        reconcile(&controller, "True");
    });
    let wished = [TrafficTarget::part(Some("inference-00001"), 100, Some("old"))];
    let told = functions.set_traffic("ml-app", "inference", &wished).await.unwrap();
    settling.await.unwrap();
    assert_eq!(traffic(&server), [(Some("inference-00001".to_owned()), 100)]);
    assert_eq!((told.traffic[0].latest, told.traffic[0].tag.as_deref()), (false, Some("old")));
}

#[tokio::test]
async fn what_knative_refuses_is_told_in_its_words() {
    let server = Server::start().await;
    inference(&server);
    let message = "admission webhook \"validation.webhook.serving.knative.dev\" denied the request: validation failed: \
                   Traffic targets sum to 90, want 100: spec.traffic";
    server.at(Method::PATCH, SERVICES, move |_| Some(status(400, "BadRequest", message)));
    let functions = Functions::new(server.cluster());
    let error = functions.set_traffic("ml-app", "inference", &[TrafficTarget::part(None, 90, None)]).await.unwrap_err();
    assert_eq!(error.to_string(), "Traffic targets sum to 90, want 100: spec.traffic");
    assert!(error.is(Refusal::Invalid));

    let elsewhere = functions.set_traffic("default", "inference", &[]).await.unwrap_err();
    assert!(elsewhere.is(Refusal::NotFound), "{elsewhere}");
    let missing = functions.set_traffic("ml-app", "other", &[]).await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no service other in namespace ml-app; apply the manifests of knative/");
}

#[tokio::test]
async fn without_knative_it_is_said_what_to_install() {
    let server = Server::start().await;
    let gone = "the server could not find the requested resource";
    server.at(Method::GET, SERVICES, move |_| Some(status(404, "NotFound", gone)));
    let error = Functions::new(server.cluster()).services().await.unwrap_err();
    assert_eq!(error.to_string(), "the cluster does not know services.serving.knative.dev; install Knative Serving");
}
