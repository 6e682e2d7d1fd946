//! The real program on a real port.

use std::{process::Stdio, time::Duration};

use api::train::RunState;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};

use crate::bench::{Bench, eventually, trainer};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fovea-web"));
    command.arg("--trainer").arg(trainer("waits")).kill_on_drop(true).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

async fn serving(data: &std::path::Path) -> (Child, String) {
    let mut child = program().args(["--listen", "127.0.0.1:0", "--data"]).arg(data).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect("the program says where it listens");
    (child, line.strip_prefix("fovea-web listens on ").unwrap().to_owned())
}

#[tokio::test]
async fn it_serves_until_told_to_stop_and_takes_its_trainers_along() {
    let bench = Bench::new();
    let dataset = bench.dataset().manifest.id;
    let (mut child, url) = serving(bench.volumes.volume1()).await;
    let http = reqwest::Client::new();
    assert_eq!(http.get(&url).send().await.unwrap().status(), 200);
    let asked = serde_json::json!({"dataset": dataset});
    let created = http.post(format!("{url}/api/runs")).json(&asked).send().await.unwrap();
    let run = created.json::<serde_json::Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    bench.until(&run, RunState::Running).await;
    let mut events = http.get(format!("{url}/api/runs/{run}/events")).send().await.unwrap();

    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), Signal::TERM).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await.expect("it stops").unwrap();
    assert!(status.success(), "{status}");
    while events.chunk().await.unwrap().is_some() {}
    assert_eq!(bench.volumes.run(&run).unwrap().written_status().unwrap().state, RunState::Cancelled);
}

#[tokio::test]
async fn a_trainer_outlives_a_killed_service_and_the_next_service_looks_after_it() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = bench.queued_run(&dataset);
    std::fs::create_dir(bench.volumes.staging1().join("left-by-a-crash")).unwrap();
    std::fs::write(bench.volumes.staging1().join("left-by-a-crash/.writer"), "").unwrap();
    let (mut first, _) = serving(bench.volumes.volume1()).await;
    bench.nothing_is_left_aside();
    bench.until(run.id(), RunState::Running).await;
    first.kill().await.unwrap();
    assert!(run.is_locked(), "the trainer lives on");

    let (second, _) = serving(bench.volumes.volume1()).await;
    bench.let_go(run.id());
    eventually("the run is marked failed", || (run.written_status().unwrap().state == RunState::Failed).then_some(()))
        .await;
    drop(second);
}

#[tokio::test]
async fn a_taken_port_is_a_clear_sentence() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let output =
        program().args(["--listen", &format!("127.0.0.1:{port}"), "--data"]).arg(data.path()).output().await.unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&format!("if port {port} is taken, choose another with --listen")), "{text}");
}

#[tokio::test]
async fn it_prints_the_description_of_its_interface() {
    let output = Command::new(env!("CARGO_BIN_EXE_fovea-web")).arg("openapi").output().await.unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), web::openapi().to_pretty_json().unwrap());
}
