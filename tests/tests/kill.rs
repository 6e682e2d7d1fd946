//! kill -9 at twenty moments each of the trainer, the web service and the runtime: whatever was published stays whole,
//! and a restart goes on as if nothing had been.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use store::Volumes;
use tests::{
    house::{House, PATIENCE, children_of, kill, name_of},
    pictures,
};

const ROUNDS: u32 = 20;

/// A run of about two seconds, most of them spent with files on the way.
fn short() -> Value {
    json!({"family": "cnn", "epochs": 4, "input_size": 16, "patience": 0})
}

/// Moments spread over `span`, in an order that does not follow the round.
fn moment(round: u32, span: Duration) -> Duration {
    span * (round * 7 % ROUNDS) / ROUNDS
}

fn everything_published_verifies(data: &Path) {
    let volumes = Volumes::under(data);
    for id in volumes.dataset_ids().unwrap() {
        volumes.dataset(&id).unwrap().verify().unwrap();
    }
    for name in volumes.model_names().unwrap() {
        for n in volumes.version_numbers(&name).unwrap() {
            volumes.version(&name, n).unwrap().verify().unwrap();
        }
        if let Some(current) = volumes.current(&name).unwrap() {
            volumes.version(&name, current).unwrap();
        }
    }
}

async fn succeeds(house: &House, run: &str) {
    let status = house.wait_for_run(run).await.unwrap();
    assert_eq!(status["state"], "succeeded", "{status}");
}

async fn wait_until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_trainer_is_followed_by_another_and_leaves_no_half_model() {
    let data = tempfile::tempdir().unwrap();
    let house = House::start(data.path()).await.unwrap();
    let dataset = house.upload(pictures::archive(12, 0)).await.unwrap();
    let dataset = dataset["id"].as_str().unwrap();
    let started = std::time::Instant::now();
    let run = house.train(dataset, short()).await.unwrap();
    succeeds(&house, &run).await;
    let span = started.elapsed();

    let mut killed = 0;
    for round in 0..ROUNDS {
        let run = house.train(dataset, short()).await.unwrap();
        let web = house.children("fovea-web");
        let trainer = wait_until("the trainer", || {
            let mut children = web.iter().flat_map(|pid| children_of(*pid));
            children.find(|pid| name_of(*pid).as_deref() == Some("fovea-trainer"))
        });
        let trainer = tokio::time::timeout(Duration::from_secs(5), trainer).await;
        tokio::time::sleep(moment(round, span)).await;
        if let Ok(trainer) = trainer {
            let _ = kill(trainer, Signal::KILL);
        }
        let status = house.wait_for_run(&run).await.unwrap();
        assert_eq!(status["state"], "succeeded", "{status}");
        if status["attempts"].as_u64().unwrap() > 1 {
            killed += 1;
        }
        everything_published_verifies(data.path());
    }
    assert!(killed >= ROUNDS / 4, "only {killed} of {ROUNDS} runs were hit before their end");
    let run = house.train(dataset, short()).await.unwrap();
    succeeds(&house, &run).await;
    assert!(house.stop().await.unwrap().success());
}

/// Does some work while the supervisor's child of this name is killed after `delay`; returns when another has taken its
/// place and everything answers, with everything published as it was. The work may be cut off.
async fn struck(house: &mut House, program: &str, delay: Duration, data: &Path, work: impl AsyncFnOnce(&House)) {
    let victims = house.children(program);
    assert!(!victims.is_empty(), "{program} runs");
    let strike = async {
        tokio::time::sleep(delay).await;
        for pid in &victims {
            kill(*pid, Signal::KILL).unwrap();
        }
    };
    tokio::join!(work(house), strike);
    wait_until("another process", || {
        let now = house.children(program);
        (!now.is_empty() && now != victims).then_some(())
    })
    .await;
    house.wait_until_up().await.unwrap();
    everything_published_verifies(data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_web_service_comes_back_with_everything_published() {
    let data = tempfile::tempdir().unwrap();
    let mut house = House::start(data.path()).await.unwrap();
    let first = house.upload(pictures::archive(8, 0)).await.unwrap();
    let dataset = first["id"].as_str().unwrap().to_owned();
    let started = std::time::Instant::now();
    house.upload(pictures::archive(8, 100)).await.unwrap();
    let span = started.elapsed() * 2;
    for round in 0..ROUNDS {
        if round % 4 == 0 {
            house.train(&dataset, short()).await.unwrap();
        }
        struck(&mut house, "fovea-web", moment(round, span), data.path(), async |house| {
            let _cut_off_or_not = house.upload(pictures::archive(8, 1000 * u64::from(round + 1))).await;
        })
        .await;
        house.get(&format!("/api/datasets/{dataset}")).await.unwrap();
    }
    let runs = house.get("/api/runs").await.unwrap();
    for run in runs.as_array().unwrap() {
        let status = house.wait_for_run(run["id"].as_str().unwrap()).await.unwrap();
        assert!(status["state"] == "succeeded" || !status["reason"].is_null(), "an end with a reason: {status}");
    }
    let last = house.upload(pictures::archive(8, 900_000)).await.unwrap();
    assert_eq!(last["pictures"], 24);
    assert!(house.stop().await.unwrap().success());
    let staging = std::fs::read_dir(data.path().join(".staging")).unwrap().count();
    assert!(staging <= 1, "{staging} half-made things were not swept at a start");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runtime_comes_back_and_answers() {
    let data = tempfile::tempdir().unwrap();
    let mut house = House::start(data.path()).await.unwrap();
    let dataset = house.upload(pictures::archive(12, 0)).await.unwrap();
    let run = house.train(dataset["id"].as_str().unwrap(), short()).await.unwrap();
    succeeds(&house, &run).await;
    for round in 0..ROUNDS {
        let delay = moment(round, Duration::from_millis(400));
        struck(&mut house, "fovea-runtime", delay, data.path(), async |house| {
            let url = format!("{}/predict", house.inference);
            let picture = pictures::png("circle", u64::from(round));
            let _answered_or_cut_off = house.http.post(url).body(picture).send().await;
        })
        .await;
        house.wait_for_version(1).await.unwrap();
    }
    assert!(house.stop().await.unwrap().success());
}
