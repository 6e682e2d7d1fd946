//! What people change over REST: labels, retries, deletions, datasets without some pictures.

use api::{
    ErrorCode,
    dataset::{DatasetManifest, Split},
    train::RunState,
};
use axum::body::Body;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::bench::{Answer, Bench, request, status};

async fn send(bench: &Bench, method: Method, path: &str, body: &Value) -> Answer {
    let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
    bench.send(request.body(Body::from(body.to_string())).unwrap()).await
}

async fn delete(bench: &Bench, path: &str) -> Answer {
    bench.send(request(Method::DELETE, path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_run_gets_a_name_and_notes_one_after_the_other() {
    let bench = Bench::new();
    let run = bench.queued_run(&bench.dataset());
    let path = format!("/api/runs/{}", run.id());
    let patch = |body: Value| {
        let (bench, path) = (&bench, &path);
        async move { send(bench, Method::PATCH, path, &body).await }
    };
    assert_eq!(patch(json!({"name": "smaller pictures"})).await.status, StatusCode::OK);
    let view: Value = patch(json!({"notes": "first\nsecond"})).await.json();
    assert_eq!(view["label"], json!({"name": "smaller pictures", "notes": "first\nsecond"}));
    for (body, code, said) in [
        (json!({}), ErrorCode::Unprocessable, "nothing is to be changed; expected name, notes or both"),
        (json!({"name": "x".repeat(101)}), ErrorCode::Unprocessable, "name has 101 characters; expected at most 100"),
    ] {
        let error = patch(body).await.error();
        assert_eq!((error.code, error.message.as_str()), (code, said));
    }
    assert_eq!(patch(json!({"title": "x"})).await.error().code, ErrorCode::Unprocessable);
    assert_eq!(patch(json!({"name": 7})).await.error().code, ErrorCode::Unprocessable);
    assert_eq!(run.label().unwrap().name, "smaller pictures");
    let nobody = send(&bench, Method::PATCH, "/api/runs/20260101", &json!({"name": "x"})).await;
    assert_eq!(nobody.error().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn what_has_ended_can_be_asked_for_again() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = bench.queued_run(&dataset);
    let path = format!("/api/runs/{}/retry", run.id());
    let early = bench.post(&path, "", "").await.error();
    assert_eq!(early.code, ErrorCode::Conflict);
    assert!(early.message.contains("has not ended"), "{}", early.message);
    run.bury(RunState::Failed, "no").unwrap();
    let again = bench.post(&path, "", "").await;
    assert_eq!(again.status, StatusCode::CREATED, "{}", again.text());
    let view: Value = again.json();
    assert_eq!(view["retry_of"], run.id());
    assert_eq!(again.header(header::LOCATION), view["links"]["self"]);
    let id = view["id"].as_str().unwrap();
    bench.until(id, RunState::Running).await;
    bench.let_go(id);
    bench.until(id, RunState::Failed).await;
    bench.volumes.delete_dataset(&dataset.manifest.id).unwrap();
    let gone = bench.post(&path, "", "").await.error();
    assert_eq!(gone.code, ErrorCode::NotFound);
    assert!(gone.message.contains("no dataset"), "{}", gone.message);
}

#[tokio::test]
async fn what_nobody_needs_is_deleted_and_the_rest_is_not() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = bench.queued_run(&dataset);
    let (of_run, of_dataset) = (format!("/api/runs/{}", run.id()), format!("/api/datasets/{}", dataset.manifest.id));
    for path in [&of_run, &of_dataset] {
        assert_eq!(delete(&bench, path).await.error().code, ErrorCode::Conflict, "{path}");
    }
    run.bury(RunState::Cancelled, "cancelled").unwrap();
    for path in [&of_run, &of_dataset] {
        assert_eq!(delete(&bench, path).await.status, StatusCode::NO_CONTENT, "{path}");
        assert_eq!(delete(&bench, path).await.error().code, ErrorCode::NotFound, "{path}");
    }
    bench.nothing_is_left_aside();
}

#[tokio::test]
async fn the_version_in_use_is_not_deleted() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    for _ in 0..2 {
        bench.model(&dataset);
    }
    bench.volumes.set_current("classifier", 1).unwrap();
    bench.volumes.set_current("classifier", 2).unwrap();
    let view: Value = bench.get("/api/models/classifier").await.json();
    assert_eq!((&view["current"], &view["previous"]), (&json!(2), &json!(1)));
    let refused = delete(&bench, "/api/models/classifier/2").await.error();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("put another version into use first"), "{}", refused.message);
    assert_eq!(delete(&bench, "/api/models/classifier/1").await.status, StatusCode::NO_CONTENT);
    assert_eq!(delete(&bench, "/api/models/classifier/1").await.error().code, ErrorCode::NotFound);
    let view: Value = bench.get("/api/models/classifier").await.json();
    assert_eq!((&view["current"], &view["previous"]), (&json!(2), &Value::Null));
}

#[tokio::test]
async fn a_dataset_without_some_pictures_is_another_dataset_and_the_same_one_the_next_time() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let path = format!("/api/datasets/{}/derive", dataset.manifest.id);
    let asked = json!({"remove": ["0/0.png", "1/13.png"]});
    let made = bench.post_json(&path, &asked).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let manifest: DatasetManifest = made.json();
    assert_eq!(made.header(header::LOCATION), format!("/api/datasets/{}", manifest.id));
    assert_eq!(manifest.pictures, dataset.manifest.pictures - 2);
    assert_eq!(manifest.provenance.derived_from.unwrap().dataset, dataset.manifest.id);
    let count = |split| manifest.classes.iter().map(|class| class.of(split)).collect::<Vec<_>>();
    assert_eq!([count(Split::Train), count(Split::Test)], [vec![3, 4], vec![2, 1]]);
    assert_eq!(bench.post_json(&path, &asked).await.status, StatusCode::OK);

    for (body, said) in [
        (json!({"remove": []}), "no picture is named"),
        (json!({"remove": ["0/99.png"]}), "has no picture \"0/99.png\""),
        (json!({"remove": ["0/0.png", "0/2.png", "0/4.png"]}), "would have 1 of 4 train pictures left"),
        (json!({}), "missing field `remove`"),
        (json!({"remove": ["0/0.png"], "keep": []}), "unknown field"),
    ] {
        let error = bench.post_json(&path, &body).await.error();
        assert_eq!(error.code, ErrorCode::Unprocessable, "{body}");
        assert!(error.message.contains(said), "{}", error.message);
    }
    let nobody = bench.post_json("/api/datasets/ds-0/derive", &asked).await;
    assert_eq!(nobody.error().code, ErrorCode::NotFound);
    bench.nothing_is_left_aside();
}

#[tokio::test]
async fn every_derived_dataset_has_a_name_of_its_own_that_tells_how_much_was_left_out() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let derive = async |id: String, remove: Value| {
        let made = bench.post_json(&format!("/api/datasets/{id}/derive"), &json!({"remove": remove})).await;
        assert!(made.status.is_success(), "{}", made.text());
        made.json::<DatasetManifest>()
    };
    let origin = dataset.manifest.id;
    let first = derive(origin.clone(), json!(["0/0.png"])).await;
    assert_eq!(first.name, "cats & <dogs> (1 left out)");
    assert_eq!(derive(origin.clone(), json!(["0/0.png"])).await, first, "the same again is the same");
    assert_eq!(derive(origin, json!(["0/2.png"])).await.name, "cats & <dogs> (1 left out, 2)");
    let second = derive(first.id, json!(["1/1.png", "1/13.png"])).await;
    assert_eq!(second.name, "cats & <dogs> (3 left out)");
}

#[tokio::test]
async fn a_run_between_two_trainers_waits_and_its_page_says_so() {
    let bench = Bench::new();
    let run = bench.queued_run(&bench.dataset());
    run.append_progress(&api::train::Progress::Epoch(crate::bench::epoch(1))).unwrap();
    run.write_status(&api::train::RunStatus { attempts: 1, ..status(RunState::Running) }).unwrap();
    let view: Value = bench.get(&format!("/api/runs/{}", run.id())).await.json();
    assert_eq!(view["status"]["state"], "queued");
    assert!(view["status"]["reason"].as_str().unwrap().contains("another one goes on"), "{view}");
    let live = bench.get(&format!("/runs/{}/live", run.id())).await.text();
    assert!(live.contains("waiting for the trainer"), "{live}");
}
