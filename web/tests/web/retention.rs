//! What is deleted by itself, and above all what is not.

use api::train::{RunState, RunStatus};
use store::{ModelDraft, Run, Volumes};
use web::retention::{Deleted, Keep, tidy};

use crate::bench::{Bench, results, status};

fn keeping(runs: Option<usize>, versions: Option<usize>) -> Bench {
    Bench::with(|config| config.keep = Keep { runs, versions })
}

/// The next version of a run.
fn version_of(bench: &Bench, run: &Run) -> u32 {
    let dataset = bench.volumes.dataset(&run.spec.dataset).unwrap();
    let mut manifest = bench.model(&dataset).manifest;
    bench.volumes.delete_version(&manifest.name, manifest.version).unwrap();
    manifest.run = run.id().to_owned();
    let results = results(&run.spec.dataset, run.id());
    let draft = ModelDraft { manifest, onnx: b"not really a network", results: &results };
    bench.volumes.publish_model(draft).unwrap().manifest.version
}

fn versions(volumes: &Volumes) -> Vec<u32> {
    volumes.version_numbers("classifier").unwrap()
}

#[tokio::test]
async fn nothing_is_deleted_unless_somebody_asked_for_it() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    for _ in 0..3 {
        bench.finished_run(&dataset);
        bench.model(&dataset);
    }
    assert_eq!(tidy(&bench.state).await.unwrap(), Deleted::default());
    assert_eq!((bench.volumes.runs().unwrap().len(), versions(&bench.volumes)), (3, vec![3, 2, 1]));
}

#[tokio::test]
async fn old_versions_go_but_never_the_one_in_use_the_one_before_it_or_that_of_a_living_run() {
    let bench = keeping(None, Some(1));
    let dataset = bench.dataset();
    let ended = bench.finished_run(&dataset);
    let living = bench.queued_run(&dataset);
    living.write_status(&RunStatus { attempts: 1, ..status(RunState::Running) }).unwrap();
    let before = version_of(&bench, &ended);
    let unused = version_of(&bench, &ended);
    let current = version_of(&bench, &ended);
    let made = version_of(&bench, &living);
    let newest = version_of(&bench, &ended);
    for version in [before, current] {
        bench.volumes.set_current("classifier", version).unwrap();
    }
    let deleted = tidy(&bench.state).await.unwrap();
    assert_eq!(deleted.versions, [("classifier".to_owned(), unused)]);
    assert_eq!(versions(&bench.volumes), [newest, made, current, before]);
    living.bury(RunState::Failed, "no").unwrap();
    assert_eq!(tidy(&bench.state).await.unwrap().versions, [("classifier".to_owned(), made)]);
    assert_eq!(tidy(&bench.state).await.unwrap(), Deleted::default());
}

#[tokio::test]
async fn old_runs_go_but_never_one_without_an_end_or_of_a_version_in_use() {
    let bench = keeping(Some(1), None);
    let dataset = bench.dataset();
    let waiting = bench.queued_run(&dataset);
    let [serving, old, newest] = [(); 3].map(|()| bench.finished_run(&dataset));
    let version = version_of(&bench, &serving);
    bench.volumes.set_current("classifier", version).unwrap();
    assert_eq!(tidy(&bench.state).await.unwrap().runs, [old.id()]);
    let left: Vec<_> = bench.volumes.runs().unwrap().into_iter().map(|run| run.spec.run).collect();
    assert_eq!(left, [newest.id(), serving.id(), waiting.id()]);
    bench.nothing_is_left_aside();
}

#[tokio::test]
async fn versions_stay_while_nobody_tells_who_gets_requests() {
    let bench = Bench::with(|config| {
        config.keep = Keep { runs: None, versions: Some(1) };
        config.admin_url = Some("http://127.0.0.1:1/".parse().unwrap());
    });
    let dataset = bench.dataset();
    for _ in 0..3 {
        bench.model(&dataset);
    }
    assert!(tidy(&bench.state).await.is_err());
    assert_eq!(versions(&bench.volumes), [3, 2, 1]);
}

#[tokio::test]
async fn a_run_that_ends_makes_room() {
    let bench = keeping(Some(1), None);
    let dataset = bench.dataset();
    let tidier = tokio::spawn(web::retention::keep_tidy(bench.state.clone()));
    let old = bench.finished_run(&dataset);
    let body = serde_json::json!({"dataset": dataset.manifest.id});
    let answer = bench.post_json("/api/runs", &body).await.json::<serde_json::Value>();
    let run = answer["id"].as_str().unwrap();
    bench.until(run, RunState::Running).await;
    bench.let_go(run);
    crate::bench::eventually("the old run is gone", || (!old.dir.exists()).then_some(())).await;
    assert!(bench.volumes.run(run).is_ok());
    bench.state.stopping.cancel();
    tidier.await.unwrap();
}
