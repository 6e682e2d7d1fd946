//! The routes of the system that this one succeeds.

use api::{
    ErrorCode,
    predict::Prediction,
    train::{Results, RunState},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::bench::{Bench, Part, inference_function, preprocess_function, tar};

#[tokio::test]
async fn processing_answers_when_the_dataset_is_there() {
    let url = preprocess_function().await;
    let bench = Bench::with(|config| config.preprocess_url = url);
    assert_eq!(bench.post("/process", "", "").await.error().code, ErrorCode::NotFound);

    let archive = tar(&["ship", "truck"], 10);
    let processed = bench.post_form("/process", &[("archive", Some("a.tar"), &archive)]).await;
    assert_eq!(processed.status, StatusCode::OK, "{}", processed.text());
    let answer: Value = processed.json();
    assert_eq!(
        (&answer["message"], &answer["existed"]),
        (&"20 pictures of 2 classes are processed".into(), &false.into())
    );

    let newest: Value = bench.post("/process", "", "").await.json();
    assert_eq!((&newest["dataset"], &newest["existed"]), (&answer["dataset"], &true.into()));
    let named: Value = bench.post_json("/process", &json!({"dataset": answer["dataset"]})).await.json();
    assert_eq!(named["manifest"], answer["manifest"]);
    assert_eq!(bench.post_json("/process", &json!({"dataset": "ds-0"})).await.error().code, ErrorCode::NotFound);
    assert_eq!(bench.post("/process", "application/zip", "no zip").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn training_answers_at_once_and_never_shows_another_runs_figures() {
    let bench = Bench::new();
    assert_eq!(bench.post("/process_model", "", "").await.error().code, ErrorCode::NotFound);
    assert_eq!(bench.post("/training_finished", "", "").await.error().code, ErrorCode::NotFound);

    let dataset = bench.dataset();
    let finished = bench.finished_run(&dataset);
    let results: Results = bench.post("/training_finished", "", "").await.json();
    assert_eq!((results.run.as_str(), results.model_params.batch_size), (finished.id(), 32));

    let started: Value = bench.post("/process_model", "application/json", "null").await.json();
    assert_eq!(started["dataset"], dataset.manifest.id.as_str());
    let run = started["run"].as_str().unwrap();
    bench.until(run, RunState::Running).await;
    let early = bench.post("/training_finished", "", "").await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    assert!(early.error().message.contains("is still training"), "{}", early.text());
    let earlier: Results = bench.post_json("/training_finished", &json!({"run": finished.id()})).await.json();
    assert_eq!(earlier.run, finished.id());

    bench.let_fail(run, "9");
    bench.until(run, RunState::Failed).await;
    let failed = bench.post("/training_finished", "", "").await.error();
    assert_eq!(
        (failed.code, failed.message),
        (ErrorCode::Conflict, format!("run {run} failed: the trainer ended with exit code 9"))
    );
}

#[tokio::test]
async fn training_refuses_what_the_interface_refuses() {
    let bench = Bench::new();
    bench.dataset();
    let refused = bench.post_json("/process_model", &json!({"hyperparameters": {"epochs": 0}})).await;
    assert_eq!(refused.error().message, "epochs is 0; expected 1 to 1000");
    assert_eq!(bench.post_json("/process_model", &json!({"epochs": 3})).await.error().code, ErrorCode::BadRequest);
    assert_eq!(bench.post("/process_model", "", "[").await.error().code, ErrorCode::BadRequest);
}

#[tokio::test]
async fn inference_answers_any_file_keys_in_order() {
    let url = inference_function().await;
    let bench = Bench::with(|config| config.inference_url = url);
    let files: [Part; 3] =
        [("x", Some("1.jpg"), b"ship"), ("y", Some("2.png"), b"garbage"), ("x", Some("3.gif"), b"truck")];
    let predictions: Vec<Prediction> = bench.post_form("/inference", &files).await.json();
    let labels: Vec<_> = predictions.iter().map(|p| p.prediction.as_deref()).collect();
    assert_eq!(labels, [Some("ship"), None, Some("truck")]);
    assert!(predictions[0].image_url.is_some());
    assert_eq!(bench.post("/inference", "image/png", "x").await.status, StatusCode::BAD_REQUEST);
}
