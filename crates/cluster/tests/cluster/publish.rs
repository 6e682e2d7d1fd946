//! Publishing: baked first, then one edit of the function; promoting and rolling back are edits of its traffic.

use api::functions::Stage;
use axum::http::Method;
use cluster::{functions::Functions, publish::Publisher};
use serde_json::json;

use crate::{
    server::{JOBS, REVISIONS, SERVICES, Server, status},
    stage::{end, inference, pod, reconcile, templates, traffic},
};

async fn bench() -> (Server, Publisher) {
    let server = Server::start().await;
    templates(&server);
    inference(&server);
    let publisher = Publisher::new(server.cluster(), "inference");
    (server, publisher)
}

/// Publishes as everybody together would: bakes, carries out, and brings the revision to life.
async fn publish(server: &Server, publisher: &Publisher, version: u32, percent: u32) {
    publisher.publish("classifier", version, percent).await.unwrap();
    let job = format!("bake-classifier-v{version}");
    end(server, &job, "Complete", "CompletionsReached");
    publisher.step().await.unwrap();
    reconcile(server, "True");
}

fn model_path(server: &Server) -> String {
    let service = server.get(SERVICES, "inference").unwrap();
    service["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"].as_str().unwrap().to_owned()
}

fn named(revision: &str, percent: i64) -> (Option<String>, i64) {
    (Some(revision.to_owned()), percent)
}

#[tokio::test]
async fn a_version_is_baked_with_the_functions_own_image_before_anything_changes() {
    let (server, publisher) = bench().await;
    let before = server.get(SERVICES, "inference");
    publisher.publish("classifier", 1, 20).await.unwrap();
    publisher.step().await.unwrap();
    assert_eq!(server.get(SERVICES, "inference"), before, "nothing is published that is not baked");
    let job = server.get(JOBS, "bake-classifier-v1").unwrap();
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "fovea/inference:1");
    assert_eq!(container["env"], json!([{"name": "FOVEA_MODEL_PATH", "value": "/models/models/classifier/v1"}]));
    let told = publisher.publications().await.unwrap();
    assert_eq!((told.len(), told[0].version, told[0].percent, told[0].stage), (1, 1, 20, Stage::Baking));
}

#[tokio::test]
async fn template_and_traffic_change_in_one_edit_and_keep_the_rest() {
    let (server, publisher) = bench().await;
    publisher.publish("classifier", 1, 20).await.unwrap();
    end(&server, "bake-classifier-v1", "Complete", "CompletionsReached");
    let patches = || server.requests().iter().filter(|request| request.starts_with("PATCH")).count();
    publisher.step().await.unwrap();
    assert_eq!(patches(), 1);
    assert_eq!(model_path(&server), "/models/models/classifier/v1");
    assert_eq!(traffic(&server), [(None, 20), named("inference-00001", 80)]);
    let service = server.get(SERVICES, "inference").unwrap();
    let template = &service["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"]["autoscaling.knative.dev/target"], "1");
    assert_eq!(template["spec"]["containerConcurrency"], 1);
    assert_eq!(template["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], "/models");
    assert!(server.names(JOBS).is_empty(), "the wish is carried out");
    let told = publisher.publications().await.unwrap();
    assert_eq!((told.len(), told[0].percent, told[0].stage), (1, 20, Stage::Starting), "there is no revision yet");

    reconcile(&server, "True");
    publisher.step().await.unwrap();
    assert_eq!(patches(), 1, "once is enough");
    assert!(publisher.publications().await.unwrap().is_empty());
    let told = Functions::new(server.cluster()).services().await.unwrap();
    let shares: Vec<_> = told[0].traffic.iter().map(|share| (share.revision.as_str(), share.percent)).collect();
    assert_eq!(shares, [("inference-00002", 20), ("inference-00001", 80)]);
    assert_eq!(told[0].revisions[0].model(), Some(("classifier", 1)));
}

#[tokio::test]
async fn a_canary_grows_is_promoted_and_rolled_back_by_traffic_alone() {
    let (server, publisher) = bench().await;
    publish(&server, &publisher, 1, 100).await;
    publish(&server, &publisher, 2, 20).await;
    assert_eq!(traffic(&server), [(None, 20), named("inference-00002", 80)]);
    let template = server.get(SERVICES, "inference").unwrap()["spec"]["template"].clone();
    for (version, percent, expected) in [
        (2, 50, vec![(None, 50), named("inference-00002", 50)]),
        (2, 100, vec![(None, 100)]),
        (1, 100, vec![named("inference-00002", 100)]),
        (2, 10, vec![(None, 10), named("inference-00002", 90)]),
    ] {
        publisher.publish("classifier", version, percent).await.unwrap();
        reconcile(&server, "True");
        assert_eq!(traffic(&server), expected, "v{version} to {percent} %");
    }
    assert_eq!(server.get(SERVICES, "inference").unwrap()["spec"]["template"], template);
    assert_eq!(server.names(REVISIONS).len(), 3);
    assert!(server.names(JOBS).is_empty());
}

#[tokio::test]
async fn two_replicas_carry_a_wish_out_once() {
    let (server, one) = bench().await;
    let two = Publisher::new(server.cluster(), "inference");
    one.publish("classifier", 1, 20).await.unwrap();
    end(&server, "bake-classifier-v1", "Complete", "CompletionsReached");
    // Each has looked before the other has patched; the controller settles what was patched.
    let controller = server.clone();
    let settling = tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            reconcile(&controller, "True");
        }
    });
    let (first, second) = tokio::join!(one.step(), two.step());
    first.unwrap();
    second.unwrap();
    settling.abort();
    reconcile(&server, "True");
    assert_eq!(server.names(REVISIONS), ["inference-00001", "inference-00002"]);
    assert_eq!(traffic(&server), [(None, 20), named("inference-00001", 80)]);
    assert!(server.names(JOBS).is_empty());
}

#[tokio::test]
async fn an_edit_in_between_is_kept_and_the_patch_made_anew() {
    let (server, publisher) = bench().await;
    publish(&server, &publisher, 1, 100).await;
    publisher.publish("classifier", 2, 20).await.unwrap();
    end(&server, "bake-classifier-v2", "Complete", "CompletionsReached");
    let mut interfered = false;
    server.at(Method::PATCH, SERVICES, move |objects| {
        if !std::mem::replace(&mut interfered, true) {
            // Somebody upgrades the function while a version is being published to it.
            let mut service = objects.find(SERVICES, "inference");
            service["spec"]["template"]["spec"]["containers"][0]["image"] = json!("fovea/inference:2");
            service["status"]["observedGeneration"] = json!(service["metadata"]["generation"].as_i64().unwrap() + 1);
            objects.put(SERVICES, service);
        }
        None
    });
    publisher.step().await.unwrap();
    let service = server.get(SERVICES, "inference").unwrap();
    assert_eq!(service["spec"]["template"]["spec"]["containers"][0]["image"], "fovea/inference:2");
    assert_eq!(model_path(&server), "/models/models/classifier/v2");
}

#[tokio::test]
async fn a_function_that_is_edited_all_the_time_is_given_up_with_a_sentence() {
    let (server, publisher) = bench().await;
    publisher.publish("classifier", 1, 20).await.unwrap();
    end(&server, "bake-classifier-v1", "Complete", "CompletionsReached");
    server.at(Method::PATCH, SERVICES, |_| Some(status(409, "Conflict", "the object has been modified")));
    let error = publisher.step().await.unwrap_err();
    assert_eq!(error.to_string(), "the function inference kept changing while it was being edited; try again");
    assert_eq!(server.names(JOBS).len(), 1, "the wish stays");
}

#[tokio::test]
async fn a_version_that_cannot_be_baked_is_told_and_tried_again_when_asked() {
    let (server, publisher) = bench().await;
    publisher.publish("classifier", 1, 100).await.unwrap();
    let oom = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
    pod(&server, "bake-classifier-v1", crate::stage::container("Failed", oom));
    end(&server, "bake-classifier-v1", "Failed", "BackoffLimitExceeded");
    publisher.step().await.unwrap();
    let told = publisher.publications().await.unwrap().remove(0);
    assert_eq!(told.stage, Stage::Failed);
    let reason = told.reason.unwrap();
    assert!(reason.starts_with("baking needed more memory") && reason.contains("CronJob bake"), "{reason}");
    assert_eq!(model_path(&server), "/models/models/classifier/current");

    let failed = server.get(JOBS, "bake-classifier-v1").unwrap()["metadata"]["uid"].clone();
    publisher.publish("classifier", 1, 100).await.unwrap();
    assert_ne!(server.get(JOBS, "bake-classifier-v1").unwrap()["metadata"]["uid"], failed, "another Job");
    assert_eq!(publisher.publications().await.unwrap()[0].stage, Stage::Baking);
}

#[tokio::test]
async fn a_revision_that_cannot_live_leaves_the_traffic_and_says_why() {
    let (server, publisher) = bench().await;
    publish(&server, &publisher, 1, 100).await;
    publisher.publish("classifier", 2, 20).await.unwrap();
    end(&server, "bake-classifier-v2", "Complete", "CompletionsReached");
    publisher.step().await.unwrap();
    reconcile(&server, "False");
    let told = Functions::new(server.cluster()).services().await.unwrap().remove(0);
    let shares: Vec<_> = told.traffic.iter().map(|share| (share.revision.as_str(), share.percent)).collect();
    assert_eq!(shares, [("inference-00002", 20), ("inference-00002", 80)]);
    assert_eq!(told.revisions[0].reason.as_deref(), Some("Container failed with: no such version"));

    publisher.publish("classifier", 2, 20).await.unwrap();
    assert_eq!(server.names(JOBS), ["bake-classifier-v2"], "it is baked and tried again");
}

#[tokio::test]
async fn a_newer_wish_ends_one_that_is_still_being_baked() {
    let (server, publisher) = bench().await;
    publisher.publish("classifier", 1, 20).await.unwrap();
    publisher.publish("classifier", 2, 20).await.unwrap();
    assert_eq!(server.names(JOBS), ["bake-classifier-v2"]);
    publisher.publish("classifier", 2, 30).await.unwrap();
    assert_eq!(publisher.publications().await.unwrap()[0].percent, 30);
    publisher.publish("classifier", 2, 30).await.unwrap();
    assert_eq!(server.requests().iter().filter(|request| **request == format!("POST {JOBS}")).count(), 3);
}

#[tokio::test]
async fn a_part_of_everything_is_refused_where_nobody_is_left() {
    let (server, publisher) = bench().await;
    publish(&server, &publisher, 1, 100).await;
    let error = publisher.publish("classifier", 1, 20).await.unwrap_err().to_string();
    assert!(error.starts_with("classifier v1 gets every request already"), "{error}");
}

#[tokio::test]
async fn a_function_that_follows_a_link_is_given_the_version_in_use_once() {
    let (server, publisher) = bench().await;
    assert!(!publisher.pin("other", 1).await.unwrap(), "it serves another model");
    assert!(publisher.pin("classifier", 1).await.unwrap());
    assert!(!publisher.pin("classifier", 1).await.unwrap(), "it is being baked");
    end(&server, "bake-classifier-v1", "Complete", "CompletionsReached");
    publisher.step().await.unwrap();
    reconcile(&server, "True");
    assert_eq!((model_path(&server).as_str(), traffic(&server)), ("/models/models/classifier/v1", vec![(None, 100)]));
    assert!(!publisher.pin("classifier", 2).await.unwrap(), "a version was published");
}
