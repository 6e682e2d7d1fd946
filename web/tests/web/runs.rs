//! Training over REST, and the launcher beneath.

use std::time::Duration;

use api::{
    ErrorCode,
    train::{Progress, Results, RunState, RunStatus},
};
use axum::body::Body;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use store::{MAX_ATTEMPTS, Run};
use web::launcher::Launcher;

use crate::bench::{Answer, Bench, epoch, eventually, request, status, trainer};

async fn start(bench: &Bench, dataset: &str) -> String {
    let answer = bench.post_json("/api/runs", &json!({"dataset": dataset})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    answer.json::<Value>()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_run_begins_and_a_trainer_that_ends_without_a_word_has_failed() {
    let bench = Bench::new();
    let dataset = bench.dataset().manifest.id;
    let asked = json!({"dataset": dataset, "hyperparameters": {"family": "cnn", "epochs": 3}, "model": "pets"});
    let created = bench.post_json("/api/runs", &asked).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let view: Value = created.json();
    assert_eq!((&view["model"], &view["hyperparameters"]["epochs"]), (&"pets".into(), &3.into()));
    assert_eq!(created.header(header::LOCATION), view["links"]["self"]);
    let run = view["id"].as_str().unwrap();
    bench.until(run, RunState::Running).await;
    assert_eq!(bench.get(&format!("/api/runs/{run}")).await.json::<Value>()["status"]["state"], "running");

    bench.let_go(run);
    let status = bench.until(run, RunState::Failed).await;
    assert_eq!(status.reason.as_deref(), Some("the trainer ended without finishing the run"));
    assert!(status.ended.is_some());
}

#[tokio::test]
async fn a_crashed_trainer_leaves_its_exit_code_and_last_words() {
    let bench = Bench::with(|config| config.trainer = trainer("crashes"));
    let run = start(&bench, &bench.dataset().manifest.id).await;
    let reason = bench.until(&run, RunState::Failed).await.reason.unwrap();
    assert_eq!(reason, "the trainer ended with exit code 3; its last words: boom: the loss is not a number");
    let log = bench.get(&format!("/api/runs/{run}/log")).await;
    assert_eq!(log.text(), "epoch 1\nboom: the loss is not a number\n");
}

#[tokio::test]
async fn a_killed_trainer_is_told_by_its_signal() {
    let bench = Bench::with(|config| config.trainer = trainer("killed"));
    let run = start(&bench, &bench.dataset().manifest.id).await;
    let reason = bench.until(&run, RunState::Failed).await.reason.unwrap();
    assert_eq!(reason, "the trainer was killed by signal 9 (SIGKILL; often because memory ran out)");
}

#[tokio::test]
async fn a_trainer_that_is_not_there_is_named() {
    let bench = Bench::with(|config| config.trainer = "/nowhere/trainer".into());
    let run = start(&bench, &bench.dataset().manifest.id).await;
    let reason = bench.until(&run, RunState::Failed).await.reason.unwrap();
    assert!(reason.starts_with("cannot start the trainer /nowhere/trainer: No such file"), "{reason}");
}

#[tokio::test]
async fn a_running_and_a_waiting_run_can_be_cancelled() {
    let bench = Bench::with(|config| config.trainers = 1);
    let dataset = bench.dataset().manifest.id;
    let first = start(&bench, &dataset).await;
    bench.until(&first, RunState::Running).await;
    let second = start(&bench, &dataset).await;
    assert_eq!(bench.volumes.run(&second).unwrap().status().unwrap().state, RunState::Queued);
    for run in [&second, &first] {
        let answer = bench.post(&format!("/api/runs/{run}/cancel"), "", "").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        bench.until(run, RunState::Cancelled).await;
    }
    let again = bench.post(&format!("/api/runs/{first}/cancel"), "", "").await;
    assert_eq!(again.json::<Value>()["status"]["state"], "cancelled");
}

#[tokio::test]
async fn a_waiting_run_begins_when_there_is_room() {
    let bench = Bench::with(|config| config.trainers = 1);
    let dataset = bench.dataset().manifest.id;
    let first = start(&bench, &dataset).await;
    let second = start(&bench, &dataset).await;
    bench.until(&first, RunState::Running).await;
    bench.let_go(&first);
    bench.until(&second, RunState::Running).await;
    bench.let_go(&second);
    bench.until(&second, RunState::Failed).await;
}

#[tokio::test]
async fn a_trainer_that_hears_nothing_is_killed_with_its_children_when_the_service_stops() {
    let bench = Bench::with(|config| config.trainer = trainer("deaf"));
    let run = start(&bench, &bench.dataset().manifest.id).await;
    let child = bench.volumes.run(&run).unwrap().dir.join("child");
    let child =
        eventually("the trainer has a child", || std::fs::read_to_string(&child).ok()?.trim().parse::<i32>().ok())
            .await;
    bench.launcher.shutdown(Duration::ZERO).await;
    assert_eq!(bench.volumes.run(&run).unwrap().status().unwrap().state, RunState::Cancelled);
    eventually("the child is gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok();
        stat.is_none_or(|stat| stat.contains(") Z ")).then_some(())
    })
    .await;
    let dataset = &bench.volumes.datasets().unwrap()[0].manifest.id;
    let refused = bench.post_json("/api/runs", &json!({"dataset": dataset})).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text());
}

#[tokio::test]
async fn a_run_whose_trainer_is_killed_is_taken_up_by_another() {
    let bench = Bench::with(|config| config.trainer = trainer("dies"));
    std::fs::write(bench.volumes.runs_dir().join("heals"), b"").unwrap();
    let run = start(&bench, &bench.dataset().manifest.id).await;
    assert_eq!(bench.until(&run, RunState::Succeeded).await.attempts, 3);
    assert_eq!(bench.volumes.run(&run).unwrap().log_tail(1000), "attempt 1\nattempt 2\nattempt 3\n");
}

#[tokio::test]
async fn a_run_that_kills_every_trainer_fails_after_the_third() {
    let bench = Bench::with(|config| config.trainer = trainer("dies"));
    let run = start(&bench, &bench.dataset().manifest.id).await;
    let status = bench.until(&run, RunState::Failed).await;
    assert_eq!(status.attempts, MAX_ATTEMPTS);
    let reason = "the trainer was killed by signal 9 (SIGKILL; often because memory ran out); it was the trainer number 3 on \
                  this run; its last words: attempt 3";
    assert_eq!(status.reason.as_deref(), Some(reason));
}

#[tokio::test]
async fn runs_wait_in_the_order_of_their_creation_and_say_how_many_are_in_front() {
    let bench = Bench::with(|config| config.trainers = 1);
    let dataset = bench.dataset().manifest.id;
    let mut runs = vec![];
    for _ in 0..4 {
        runs.push(start(&bench, &dataset).await);
    }
    bench.until(&runs[0], RunState::Running).await;
    let waits = "waiting for another run to end, as many trainers work as may at once; ";
    for (run, ahead, front) in [
        (&runs[1], 0, "it is the next one"),
        (&runs[2], 1, "1 run is in front of this one"),
        (&runs[3], 2, "2 runs are in front of this one"),
    ] {
        let view: Value = bench.get(&format!("/api/runs/{run}")).await.json();
        assert_eq!((&view["ahead"], &view["hindrance"]), (&json!(ahead), &json!(format!("{waits}{front}"))));
    }
    let listed: Vec<Value> = bench.get("/api/runs").await.json();
    let ahead: Vec<_> = listed.iter().map(|view| view["ahead"].as_u64()).collect();
    assert_eq!(ahead, [Some(2), Some(1), Some(0), None], "newest first");
    for n in 0..3 {
        bench.let_go(&runs[n]);
        bench.until(&runs[n + 1], RunState::Running).await;
    }
    bench.let_go(&runs[3]);
    bench.until(&runs[3], RunState::Failed).await;
}

#[tokio::test]
async fn a_new_service_starts_what_waited_goes_on_with_the_dead_and_looks_after_the_living() {
    let bench = Bench::with(|config| config.trainers = 3);
    let dataset = bench.dataset();
    let waiting = bench.queued_run(&dataset);
    let dead = bench.queued_run(&dataset);
    dead.write_status(&RunStatus { attempts: 1, ..status(RunState::Running) }).unwrap();
    let hopeless = bench.queued_run(&dataset);
    let last = RunStatus { attempts: MAX_ATTEMPTS, ..status(RunState::Running) };
    hopeless.write_status(&last).unwrap();
    let unwanted = bench.queued_run(&dataset);
    unwanted.request_cancel().unwrap();
    let living = bench.queued_run(&dataset);
    let lock = living.lock().unwrap();
    living.write_status(&last).unwrap();
    let finished = bench.finished_run(&dataset);

    bench.launcher.recover().await.unwrap();
    bench.until(waiting.id(), RunState::Running).await;
    eventually("another trainer has the dead one's run", || dead.is_locked().then_some(())).await;
    let reason = hopeless.written_status().unwrap().reason.unwrap();
    let unseen =
        "the trainer ended while the service was not there to see why; it was the trainer number 3 on this run";
    assert_eq!(reason, unseen);
    assert_eq!(unwanted.written_status().unwrap().state, RunState::Cancelled);
    assert_eq!(living.written_status().unwrap().state, RunState::Running);
    assert_eq!(finished.written_status().unwrap().state, RunState::Succeeded);

    drop(lock);
    eventually("the death of the living is noticed", || {
        (living.written_status().unwrap().state == RunState::Failed).then_some(())
    })
    .await;
    for run in [&waiting, &dead] {
        bench.let_go(run.id());
        bench.until(run.id(), RunState::Failed).await;
    }
}

#[tokio::test]
async fn settings_out_of_range_are_refused_with_their_ranges() {
    let bench = Bench::with(|config| config.backbones.clear());
    let dataset = bench.dataset().manifest.id;
    let refused = |body: Value| {
        let bench = &bench;
        async move { bench.post_json("/api/runs", &body).await.error() }
    };
    let error = refused(json!({"dataset": dataset, "hyperparameters": {"epochs": 0, "dropout": 2}})).await;
    assert_eq!(error.code, ErrorCode::Unprocessable);
    assert_eq!(error.message, "epochs is 0; expected 1 to 1000; dropout is 2; expected 0 to 0.9");
    let error = refused(json!({"dataset": dataset, "hyperparameters": {"family": "linear"}})).await;
    assert!(error.message.contains("is not installed"), "{}", error.message);
    let error = refused(json!({"dataset": dataset, "model": "../up"})).await;
    assert_eq!(error.code, ErrorCode::Unprocessable);
    assert_eq!(refused(json!({"dataset": "ds-0"})).await.code, ErrorCode::NotFound);
    assert_eq!(refused(json!({"dataset": dataset, "epochs": 3})).await.code, ErrorCode::Unprocessable);
    assert_eq!(bench.post("/api/runs", "application/json", "{").await.error().code, ErrorCode::BadRequest);
    assert_eq!(bench.post("/api/runs", "text/plain", "{}").await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(bench.volumes.runs().unwrap().is_empty());
}

#[tokio::test]
async fn results_are_told_only_of_a_run_that_succeeded() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let finished = bench.finished_run(&dataset);
    let path = |run: &Run| format!("/api/runs/{}/results", run.id());
    assert_eq!(bench.get(&path(&finished)).await.json::<Results>().run, finished.id());
    let run = bench.queued_run(&dataset);
    let mut told = vec![bench.get(&path(&run)).await.error()];
    run.bury(RunState::Failed, "the disk is full").unwrap();
    told.push(bench.get(&path(&run)).await.error());
    assert!(told.iter().all(|error| error.code == ErrorCode::Conflict));
    assert_eq!(told[0].message, format!("run {} has not begun; its results will be here when it has ended", run.id()));
    assert_eq!(told[1].message, format!("run {} failed: the disk is full", run.id()));
}

fn events(answer: &Answer) -> Vec<(u64, Progress)> {
    let text = answer.text();
    let field = |block: &str, name: &str| -> Option<String> {
        block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_start().to_owned())
    };
    let event = |block| {
        let data = field(block, "data:")?;
        Some((field(block, "id:").unwrap().parse().unwrap(), serde_json::from_str(&data).unwrap()))
    };
    text.split("\n\n").filter_map(event).collect()
}

#[tokio::test]
async fn progress_is_replayed_from_the_start_or_from_the_last_event_seen() {
    let bench = Bench::new();
    let run = bench.finished_run(&bench.dataset());
    let mut told: Vec<_> = (1..=3).map(|n| Progress::Epoch(epoch(n))).collect();
    told.push(Progress::End { state: RunState::Succeeded, reason: None, version: Some(1), seconds: 9.0 });
    for line in &told {
        run.append_progress(line).unwrap();
    }
    let path = format!("/api/runs/{}/events", run.id());
    let all = bench.get(&path).await;
    assert_eq!(all.header(header::CONTENT_TYPE), "text/event-stream");
    assert_eq!(events(&all), (1..).zip(told.clone()).collect::<Vec<_>>());

    let from = |id: &str| request(Method::GET, &path).header("last-event-id", id).body(Body::empty()).unwrap();
    assert_eq!(events(&bench.send(from("2")).await), [(3, told[2].clone()), (4, told[3].clone())]);
    assert_eq!(bench.send(from("4")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(events(&bench.send(from("nonsense")).await).len(), 4);
}

#[tokio::test]
async fn a_run_without_a_last_word_gets_its_end_from_its_status() {
    let bench = Bench::new();
    let run = bench.queued_run(&bench.dataset());
    run.append_progress(&Progress::Epoch(epoch(1))).unwrap();
    run.bury(RunState::Failed, "killed").unwrap();
    let told = events(&bench.get(&format!("/api/runs/{}/events", run.id())).await);
    assert_eq!(told.len(), 2);
    let Progress::End { state, reason, .. } = &told[1].1 else { panic!("{told:?}") };
    assert_eq!((state, reason.as_deref()), (&RunState::Failed, Some("killed")));
}

#[tokio::test]
async fn progress_is_followed_while_it_is_made() {
    let bench = Bench::new();
    let run = start(&bench, &bench.dataset().manifest.id).await;
    bench.until(&run, RunState::Running).await;
    let folder = bench.volumes.run(&run).unwrap();
    folder.append_progress(&Progress::Epoch(epoch(1))).unwrap();
    let path = format!("/api/runs/{run}/events");
    let (answer, ()) = tokio::join!(bench.get(&path), async {
        folder.append_progress(&Progress::Epoch(epoch(2))).unwrap();
        bench.let_go(&run);
    });
    let told = events(&answer);
    assert_eq!(told[..2], [(1, Progress::Epoch(epoch(1))), (2, Progress::Epoch(epoch(2)))]);
    assert!(matches!(told[2].1, Progress::End { state: RunState::Failed, .. }));
    assert_eq!(bench.get(&format!("/api/runs/{run}")).await.json::<Value>()["epoch"]["epoch"], 2);
    assert_eq!(bench.get("/api/runs").await.json::<Vec<Value>>().len(), 1);
}

#[tokio::test]
async fn followers_are_let_go_when_the_service_stops() {
    let bench = Bench::new();
    let run = bench.queued_run(&bench.dataset());
    let path = format!("/api/runs/{}/events", run.id());
    let (answer, ()) = tokio::join!(bench.get(&path), async { bench.state.stopping.cancel() });
    assert_eq!(events(&answer), []);
}

#[tokio::test]
async fn runs_that_are_not_there_are_not_found() {
    let bench = Bench::new();
    for path in ["", "/events", "/results", "/log"] {
        assert_eq!(bench.get(&format!("/api/runs/20260101{path}")).await.error().code, ErrorCode::NotFound, "{path}");
    }
    assert_eq!(bench.post("/api/runs/20260101/cancel", "", "").await.error().code, ErrorCode::NotFound);
}
