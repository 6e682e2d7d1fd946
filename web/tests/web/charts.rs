//! Every chart of every page: a picture, a table, and both as files.

use api::train::{Progress, Results, RunState};
use http::{StatusCode, header};

use crate::bench::{Bench, epoch, searched, status};

/// Tables that several charts of a page share: the charts' ids, and what marks the table.
const SHARED: [(&[&str], &str); 2] = [
    (&["accuracy", "loss", "learning-rate", "speed"], "<details id=\"epochs\">"),
    (&["search", "work"], "<table class=\"leaderboard\">"),
];

/// Ids of a page's charts, each of which has a table with rows and files that answer.
async fn charts(bench: &Bench, path: &str) -> Vec<String> {
    let page = bench.get(path).await;
    assert_eq!(page.status, StatusCode::OK, "{path}");
    let html = page.text();
    let mut ids = vec![];
    for figure in html.split("<figure id=\"figure-").skip(1) {
        let (figure, _) = figure.split_once("</figure>").unwrap();
        let (id, _) = figure.split_once('"').unwrap();
        assert!(figure.contains("<svg class=\"chart\""), "{path}: {id} is not drawn");
        let shared = SHARED.iter().any(|(charts, mark)| charts.contains(&id) && html.contains(mark));
        let own = figure.split_once("<tbody>").is_some_and(|(_, rows)| rows.starts_with("<tr>"));
        assert!(shared || own, "{path}: {id} has no table");
        ids.push(id.to_owned());
    }
    for save in html.split("<p class=\"save\">").skip(1) {
        let (save, _) = save.split_once("</p>").unwrap();
        let files: Vec<_> = save.split("href=\"").skip(1).map(|link| link.split('"').next().unwrap()).collect();
        assert!(!files.is_empty(), "{path}: {save}");
        for file in files {
            let answer = bench.get(&file.replace("&#38;", "&").replace("&amp;", "&")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {file}");
            match answer.header(header::CONTENT_TYPE) {
                "image/svg+xml" => assert!(answer.text().starts_with("<svg"), "{file}"),
                kind => assert!(kind.starts_with("text/csv") && answer.text().lines().count() > 1, "{file}: {kind}"),
            }
        }
    }
    let saved = |id: &String| ["svg", "csv"].iter().all(|ending| html.contains(&format!("/charts/{id}.{ending}")));
    assert!(ids.iter().all(saved), "{path}: {ids:?}");
    ids
}

#[tokio::test]
async fn every_chart_has_a_table_and_both_are_files() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    bench.model(&dataset);
    let (first, second) = (bench.searched_run(&dataset), bench.searched_run(&dataset));
    let live = bench.queued_run(&dataset);
    let _lock = live.lock().unwrap();
    live.write_status(&status(RunState::Running)).unwrap();
    live.append_progress(&Progress::Stage { stage: "search".into(), done: 1, total: 60, seconds: 1.0 }).unwrap();
    for candidate in searched("", "").leaderboard {
        live.append_progress(&Progress::Candidate(candidate)).unwrap();
    }
    for n in 1..=3 {
        live.append_progress(&Progress::Epoch(epoch(n))).unwrap();
    }
    let curves = ["accuracy", "loss", "learning-rate", "speed"];
    let of = async |path: String| charts(&bench, &path).await;
    assert_eq!(of(format!("/datasets/{}", dataset.manifest.id)).await, ["classes"]);
    assert_eq!(of(format!("/runs/{}", live.id())).await, [&curves[..], &["best"]].concat());
    assert_eq!(of(format!("/runs/{}/live", live.id())).await, [&curves[..], &["best"]].concat());
    let finished = [&["search", "work"][..], &curves, &["reliability"]].concat();
    assert_eq!(of(format!("/runs/{}", first.id())).await, finished);
    assert_eq!(of(format!("/compare?a={}&b={}", first.id(), second.id())).await, ["accuracy", "loss"]);
    assert_eq!(of("/models/classifier/1".into()).await, ["confusion-matrix", "classes"]);
}

#[tokio::test]
async fn what_was_not_tested_has_no_empty_charts() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = bench.queued_run(&dataset);
    let mut untested = Results { test_accuracy: None, ..searched(&dataset.manifest.id, run.id()) };
    if let Some(calibration) = &mut untested.calibration {
        calibration.bins.clear();
    }
    run.write_results(&untested).unwrap();
    run.write_status(&status(RunState::Succeeded)).unwrap();
    let ids = charts(&bench, &format!("/runs/{}", run.id())).await;
    assert!(!ids.iter().any(|id| id == "reliability" || id == "confusion-matrix"), "{ids:?}");
    let page = bench.get(&format!("/runs/{}", run.id())).await.text();
    assert!(page.contains("Expected calibration error") && !page.contains("Dots below the diagonal"));
    for file in ["reliability.csv", "reliability.svg", "confusion-matrix.csv"] {
        let answer = bench.get(&format!("/runs/{}/charts/{file}", run.id())).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{file}");
    }
}
