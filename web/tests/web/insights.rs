//! What REST tells of runs and versions beyond their figures: predictions, suspects, comparisons, cards, disk use.

use api::{
    ErrorCode,
    card::Card,
    compare::Comparison,
    dataset::Split,
    disk::DiskUse,
    train::{PicturePrediction, Results, RunState, RunStatus, Suspect},
};
use serde_json::{Value, json};
use store::{Dataset, Run, StoreError};

use crate::bench::{Bench, results, status};

/// Row 0 of the test split is a sure mistake, row 1 an unsure one, rows 2 and 3 are right.
fn predicted_run(bench: &Bench, dataset: &Dataset) -> Run {
    let run = bench.queued_run(dataset);
    let line = |split, row: u64, label: u32, probabilities: [f32; 2], unsure| PicturePrediction {
        split,
        row,
        name: format!("{}/{row}.png", split as u8),
        label,
        predicted: u32::from(probabilities[1] > probabilities[0]),
        probabilities: probabilities.to_vec(),
        unsure,
        held_out: split != Split::Train,
    };
    let lines = [
        line(Split::Train, 0, 0, [0.9, 0.1], false),
        line(Split::Test, 0, 0, [0.25, 0.75], true),
        line(Split::Test, 1, 0, [0.125, 0.875], false),
        line(Split::Test, 2, 1, [0.375, 0.625], false),
        line(Split::Test, 3, 0, [0.75, 0.25], false),
    ];
    run.write_predictions(lines.map(Ok::<_, StoreError>)).unwrap();
    let suspect = Suspect {
        split: Split::Validation,
        row: 1,
        name: "1/1.png".into(),
        label: "cat".into(),
        suggested: "<dog>".into(),
        probability: 0.9,
    };
    let results = Results { suspects: vec![suspect], ..results(&dataset.manifest.id, run.id()) };
    run.write_results(&results).unwrap();
    run.write_status(&RunStatus { version: Some(1), ..status(RunState::Succeeded) }).unwrap();
    run
}

#[tokio::test]
async fn the_pictures_behind_a_cell_are_told_worst_first() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = predicted_run(&bench, &dataset);
    let rows = |query: &'static str| {
        let (bench, run) = (&bench, run.id());
        async move {
            let page: Value = bench.get(&format!("/api/runs/{run}/predictions{query}")).await.json();
            let rows = page["predictions"].as_array().unwrap().iter();
            (page["total"].as_u64().unwrap(), rows.map(|one| one["row"].as_u64().unwrap()).collect::<Vec<_>>())
        }
    };
    assert_eq!(rows("?split=test").await, (4, vec![1, 0, 2, 3]));
    assert_eq!(rows("?split=test&label=%3Cdog%3E&predicted=cat").await, (2, vec![1, 0]));
    assert_eq!(rows("?split=test&order=row&offset=1&limit=2").await, (4, vec![1, 2]));
    assert_eq!(rows("?split=test&offset=1&limit=2").await, (4, vec![0, 2]));
    assert_eq!(rows("?wrong=true&unsure=true").await, (1, vec![0]));
    assert_eq!(rows("").await.0, 5);

    let path = format!("/api/runs/{}/predictions", run.id());
    let page: Value = bench.get(&format!("{path}?split=test&limit=1")).await.json();
    assert_eq!(page["labels"], json!(["<dog>", "cat"]));
    let url = page["predictions"][0]["url"].as_str().unwrap();
    assert_eq!(
        url,
        format!("/api/datasets/{}/pictures/13.png", dataset.manifest.id),
        "8 train and 4 validation rows before"
    );
    assert_eq!(bench.get(url).await.status, 200);

    for (query, code, said) in [
        ("?label=cow", ErrorCode::NotFound, "has no class \"cow\""),
        ("?offset=100001", ErrorCode::Unprocessable, "offset is 100001; expected 0 to 100000"),
        ("?split=exam", ErrorCode::BadRequest, "exam"),
        ("?order=best", ErrorCode::BadRequest, "best"),
        ("?sort=row", ErrorCode::BadRequest, "sort"),
        ("?limit=-1", ErrorCode::BadRequest, "invalid digit"),
    ] {
        let error = bench.get(&format!("{path}{query}")).await.error();
        assert_eq!(error.code, code, "{query}: {}", error.message);
        assert!(error.message.contains(said), "{query}: {}", error.message);
    }
}

#[tokio::test]
async fn predictions_outlive_their_dataset_and_are_missing_where_none_were_kept() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let (run, old, waiting) =
        (predicted_run(&bench, &dataset), bench.finished_run(&dataset), bench.queued_run(&dataset));
    let path = |run: &Run| format!("/api/runs/{}/predictions", run.id());
    assert_eq!(bench.get(&path(&old)).await.error().code, ErrorCode::NotFound);
    assert_eq!(bench.get(&path(&waiting)).await.error().code, ErrorCode::Conflict);
    waiting.bury(RunState::Cancelled, "cancelled").unwrap();
    bench.volumes.delete_dataset(&dataset.manifest.id).unwrap();
    let page: Value = bench.get(&path(&run)).await.json();
    assert_eq!((page["total"].as_u64(), &page["predictions"][0]["url"]), (Some(5), &Value::Null));
}

#[tokio::test]
async fn suspects_come_with_their_pictures() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = predicted_run(&bench, &dataset);
    let suspects: Vec<Value> = bench.get(&format!("/api/runs/{}/suspects", run.id())).await.json();
    assert_eq!(suspects.len(), 1);
    assert_eq!((&suspects[0]["name"], &suspects[0]["suggested"]), (&json!("1/1.png"), &json!("<dog>")));
    assert_eq!(suspects[0]["url"], format!("/api/datasets/{}/pictures/9.png", dataset.manifest.id));
}

#[tokio::test]
async fn two_runs_are_compared_and_both_have_to_be_named() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let (a, b) = (bench.finished_run(&dataset), bench.queued_run(&dataset));
    let comparison: Comparison = bench.get(&format!("/api/compare?a={}&b={}", a.id(), b.id())).await.json();
    assert_eq!((comparison.a.run.as_str(), comparison.b.state), (a.id(), RunState::Queued));
    let unknown = |row: &api::compare::Row| row.what == "test_accuracy" && row.b.is_none() && !row.differs;
    assert!(comparison.rows.iter().any(unknown), "what is not known yet is no difference");
    assert_eq!(bench.get(&format!("/api/compare?a={}", a.id())).await.error().code, ErrorCode::BadRequest);
    let missing = bench.get(&format!("/api/compare?a={}&b=20260101", a.id())).await.error();
    assert_eq!(missing.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_card_says_what_its_version_is_made_from_while_the_dataset_is_there_and_after() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    bench.model(&dataset);
    let card: Card = bench.get("/api/models/classifier/1/card").await.json();
    assert_eq!(card.data.name.as_deref(), Some("cats & <dogs>"));
    assert_eq!(card.data.classes, dataset.manifest.classes, "taken from the dataset, for the version is an old one");
    assert_eq!(card.metrics.test_pictures, 4);
    assert!(card.limits[0].contains("4 test pictures"), "{:?}", card.limits);
    bench.volumes.delete_dataset(&dataset.manifest.id).unwrap();
    let card: Card = bench.get("/api/models/classifier/1/card").await.json();
    assert_eq!((card.data.name, card.data.dataset), (None, dataset.manifest.id));
    assert_eq!(bench.get("/api/models/classifier/2/card").await.error().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn disk_use_and_backbones_are_told() {
    let bench = Bench::new();
    let run = bench.finished_run(&bench.dataset());
    let used: DiskUse = bench.get("/api/disk").await.json();
    assert_eq!((used.datasets.len(), used.runs[0].id.as_str()), (1, run.id()));
    let view: Value = bench.get(&format!("/api/runs/{}", run.id())).await.json();
    assert_eq!(view["bytes"], used.runs[0].bytes);
    let backbones: Vec<Value> = bench.get("/api/backbones").await.json();
    let names: Vec<_> = backbones.iter().map(|one| (one["name"].as_str().unwrap(), &one["licence"])).collect();
    assert_eq!(names, [("efficientnet-lite0", &json!("Apache-2.0"))]);
}
