//! `fovea doctor` and `fovea publish` as processes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../crates/cluster/tests/cluster/server.rs"]
#[expect(dead_code, reason = "shared with the tests of the crate that speaks to clusters")]
mod server;

use std::{
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use api::{
    ErrorBody, ErrorCode, ErrorDetail,
    functions::{Publication, Stage},
};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, put},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use server::Server;

fn fovea(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fovea"));
    command.args(arguments).env_remove("KUBECONFIG").env_remove("FOVEA_PAGE").env_remove("FOVEA_NAMESPACE");
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_what_fails_as_a_table_or_as_json_and_by_its_exit_code() {
    let server = Server::start().await;
    server.say("/version", &json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}).to_string());
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
    let kubeconfig = kubeconfig.to_str().unwrap().to_owned();
    let table = tokio::task::spawn_blocking({
        let kubeconfig = kubeconfig.clone();
        move || fovea(&["doctor", "--kubeconfig", &kubeconfig])
    });
    let table = table.await.unwrap();
    assert_eq!(table.status.code(), Some(1));
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("Kubernetes v1.36.0 answers"), "{text}");
    assert!(text.contains("failed   Knative Serving") && text.contains("mend: ./run.sh up"), "{text}");

    let told = tokio::task::spawn_blocking(move || fovea(&["doctor", "--json", "--kubeconfig", &kubeconfig]));
    let findings: Vec<Value> = serde_json::from_slice(&told.await.unwrap().stdout).unwrap();
    let knative = findings.iter().find(|finding| finding["check"] == "Knative Serving").unwrap();
    assert_eq!((&knative["outcome"], &knative["says"]), (&json!("failed"), &json!("Knative Serving is not installed")));
}

#[test]
fn doctor_without_a_cluster_says_how_to_name_one() {
    let output = fovea(&["doctor", "--kubeconfig", "/nowhere/config"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.starts_with("error: there is no usable way to a Kubernetes API server"), "{error}");
    assert!(error.contains("/nowhere/config"), "{error}");
}

/// A page that tells what it is told, one answer after the other; the last one again and again.
type Page = Arc<Mutex<(Vec<Value>, Option<Value>)>>;

async fn page(answers: Vec<Value>) -> (String, Page) {
    let page: Page = Arc::new(Mutex::new((answers, None)));
    let tell = async |State(page): State<Page>| {
        let answers = &mut page.lock().unwrap().0;
        Json(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    };
    let take = async |State(page): State<Page>, Json(wish): Json<Value>| {
        if wish["version"] == 9 {
            let detail = ErrorDetail::new(ErrorCode::NotFound, "model classifier has no version 9");
            return (StatusCode::NOT_FOUND, Json(ErrorBody::from(detail))).into_response();
        }
        page.lock().unwrap().1 = Some(wish.clone());
        (StatusCode::ACCEPTED, Json(wish)).into_response()
    };
    let app = Router::new()
        .route("/api/models/classifier", get(tell))
        .route("/api/models/classifier/current", put(take))
        .with_state(page.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    (url, page)
}

fn on_its_way(stage: Stage, reason: Option<&str>) -> Value {
    let publication =
        Publication { model: "classifier".into(), version: 2, percent: 20, stage, reason: reason.map(str::to_owned) };
    json!({"shares": [{"version": 1, "percent": 100}], "publications": [publication]})
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_waits_until_the_version_has_its_part() {
    let live = json!({"shares": [{"version": 2, "percent": 20}, {"version": 1, "percent": 80}]});
    let (url, page) = page(vec![on_its_way(Stage::Baking, None), on_its_way(Stage::Starting, None), live]).await;
    let output =
        tokio::task::spawn_blocking(move || fovea(&["publish", "classifier", "v2", "--canary", "20", "--page", &url]));
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "classifier v2 gets 20 % of the requests\n");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told, "classifier v2 is being baked\nclassifier v2 is starting\n");
    assert_eq!(page.lock().unwrap().1, Some(json!({"version": 2, "percent": 20})));
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_fails_with_the_reason_it_is_told() {
    let (url, _) = page(vec![on_its_way(Stage::Failed, Some("baking needed more memory"))]).await;
    let failing = url.clone();
    let output = tokio::task::spawn_blocking(move || fovea(&["publish", "classifier", "2", "--page", &failing]));
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error, "error: classifier v2 was not published: baking needed more memory\n");
    let unknown = tokio::task::spawn_blocking(move || fovea(&["publish", "classifier", "9", "--page", &url]));
    let error = String::from_utf8(unknown.await.unwrap().stderr).unwrap();
    assert_eq!(error, "error: model classifier has no version 9\n");
}

#[test]
fn publish_without_a_page_says_how_to_get_one() {
    let output = fovea(&["publish", "classifier", "2", "--page", "http://127.0.0.1:1"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: nothing answers at http://127.0.0.1:1; start Fovea"), "{error}");
}
