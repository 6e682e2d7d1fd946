//! What cannot be read, or is deleted while somebody looks, spoils nothing beside it.

use std::fs;

use api::train::RunState;
use http::StatusCode;
use serde_json::Value;
use web::runs;

use crate::{bench::Bench, pages::shows};

/// Everything that lists runs, datasets or versions.
const LISTS: [&str; 9] =
    ["/", "/training_page", "/inference_page", "/runs", "/compare", "/models", "/disk", "/api/runs", "/api/models"];

#[tokio::test]
async fn one_damaged_run_is_named_and_the_others_are_listed() {
    for file in ["status.json", "results.json", "label.json", "run.json"] {
        let bench = Bench::new();
        let dataset = bench.dataset();
        let (sound, damaged) = (bench.searched_run(&dataset), bench.finished_run(&dataset));
        fs::write(damaged.dir.join(file), "{").unwrap();
        for path in LISTS {
            assert_eq!(bench.get(path).await.status, StatusCode::OK, "{path} with a damaged {file}");
        }
        let page = bench.get("/runs").await;
        let named = format!("Cannot be read: {}. The service’s log says why.", damaged.id());
        shows(&page, &[&format!("/runs/{}\">", sound.id()), &named]);
        let listed: Vec<Value> = bench.get("/api/runs").await.json();
        assert!(listed.iter().any(|run| run["id"] == sound.id()), "{file}");
        let dataset = bench.get(&format!("/datasets/{}", dataset.manifest.id)).await;
        assert_eq!(dataset.status, StatusCode::OK, "a dataset beside a run with a damaged {file}");
        // What the damaged one suspected is not known, so the one before it is asked.
        if file != "label.json" {
            shows(&dataset, &["Suspected labels", sound.id()]);
        }
    }
}

#[tokio::test]
async fn a_run_that_is_deleted_while_it_is_listed_is_passed_over() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let (first, second) = (bench.finished_run(&dataset), bench.finished_run(&dataset));
    let listing = runs::each(&bench.volumes, |run| {
        if run.id() == second.id() {
            bench.volumes.delete_run(run.id())?;
        }
        Ok(run.status()?.state)
    });
    let listing = listing.unwrap();
    assert_eq!((listing.told, listing.unreadable), (vec![RunState::Succeeded], vec![]));
    assert_eq!(bench.volumes.run_ids().unwrap(), [first.id()]);
}

#[tokio::test]
async fn a_damaged_dataset_is_named_where_datasets_are_listed() {
    let bench = Bench::new();
    let (dataset, run) = (bench.dataset(), "20260101-000000-000");
    fs::create_dir(bench.volumes.datasets_dir().join("ds-damaged")).unwrap();
    fs::create_dir(bench.volumes.runs_dir().join(run)).unwrap();
    let page = bench.get("/training_page").await;
    shows(&page, &[&format!("/datasets/{}", dataset.manifest.id), "Cannot be read: ds-damaged."]);
    shows(&bench.get("/runs").await, &[&format!("Cannot be read: {run}.")]);
}

#[tokio::test]
async fn one_damaged_version_is_named_and_the_others_are_listed() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    bench.model(&dataset);
    let damaged = bench.model(&dataset);
    fs::write(damaged.dir.join("manifest.json"), "{").unwrap();
    bench.volumes.set_current("classifier", 1).unwrap();
    fs::create_dir(bench.volumes.models_dir().join("no name of a model")).unwrap();
    let current = bench.volumes.current_link("classifier");
    for target in ["v1", "v2", "elsewhere"] {
        fs::remove_file(&current).unwrap();
        std::os::unix::fs::symlink(target, &current).unwrap();
        for path in LISTS {
            assert_eq!(bench.get(path).await.status, StatusCode::OK, "{path} where {target} is in use");
        }
        shows(&bench.get("/models").await, &["/models/classifier/1", "Cannot be read: v2."]);
        let models: Vec<Value> = bench.get("/api/models").await.json();
        assert_eq!(models[0]["versions"].as_array().map(Vec::len), Some(1));
    }
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("v2", &current).unwrap();
    shows(&bench.get("/").await, &["classifier v2</a>, which cannot be read"]);
    shows(&bench.get("/classify").await, &["classifier v2 is in use, and cannot be read."]);
}
