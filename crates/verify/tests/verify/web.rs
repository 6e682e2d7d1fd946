//! The web, as far as a run asks it, behind the API server's proxy.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{
    ErrorBody, ErrorCode, ErrorDetail, PreprocessSpec,
    dataset::{ClassCount, DatasetManifest, Provenance, SplitPolicy},
    diagnosis::{Answering, Diagnosis, InUse},
};
use axum::{
    Json,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    server::{Asked, Server},
    world::{BAKING, Fault, State, TRAINING, WEB_STARTS, inside},
};

/// Making a data set takes this long.
const INGEST: Duration = Duration::from_secs(5);

pub fn proxy() -> String {
    inside("", "services/web:80/proxy")
}

pub fn serve(server: &Server, state: Arc<Mutex<State>>) {
    server.on(&proxy(), move |_, asked| {
        let mut state = state.lock().unwrap();
        if state.applied.is_none_or(|applied| applied.elapsed() < WEB_STARTS) {
            let message = "no endpoints available for service \"web\"";
            return Some(crate::server::status(503, "ServiceUnavailable", message));
        }
        let path = asked.uri.path().strip_prefix(&proxy()).unwrap_or_default().to_owned();
        Some(answer(&mut state, asked, &path))
    });
}

fn answer(state: &mut State, asked: &Asked, path: &str) -> Response {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (&asked.method, parts.as_slice()) {
        (&Method::GET, ["health", "live"]) => told(200, &json!({"status": "live"})),
        (&Method::GET, ["api", "diagnosis"]) => told(200, &diagnosis(state)),
        (&Method::POST, ["api", "datasets"]) => {
            state.wake("preprocess");
            state.uploads.push((Instant::now(), asked.body.to_vec()));
            told(202, &upload(state))
        }
        (&Method::GET, ["api", "uploads", "up-1"]) => told(200, &upload(state)),
        (&Method::GET, ["api", "datasets", "ds-1"]) => told(200, &manifest(&state.uploads[0].1)),
        (&Method::POST, ["api", "runs"]) => {
            let wish: Value = serde_json::from_slice(&asked.body).unwrap();
            assert_eq!(wish["dataset"], "ds-1");
            let id = format!("run-{}", wish["hyperparameters"]["seed"]);
            state.runs.push((id.clone(), Instant::now()));
            told(201, &training(state, &id))
        }
        (&Method::GET, ["api", "runs", id]) => told(200, &training(state, id)),
        (&Method::GET, ["api", "models", "classifier"]) => told(200, &model(state)),
        (&Method::PUT, ["api", "models", "classifier", "current"]) => {
            let wish: Value = serde_json::from_slice(&asked.body).unwrap();
            publish(state, wish["version"].as_u64().unwrap() as u32, wish["percent"].as_u64().unwrap() as u32)
        }
        _ => told(404, &ErrorBody::from(ErrorDetail::new(ErrorCode::NotFound, format!("nothing at {path}")))),
    }
}

fn told(status: u16, body: &impl Serialize) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn upload(state: &State) -> Value {
    let is_done = state.uploads[0].0.elapsed() >= INGEST;
    let links = json!({"self": "/api/uploads/up-1", "events": "/api/uploads/up-1/events", "page": "/uploads/up-1"});
    match is_done {
        true => json!({
            "id": "up-1", "state": "succeeded", "stage": "publish", "done": 1, "total": 1, "dataset": "ds-1",
            "existed": false, "links": links,
        }),
        false => json!({"id": "up-1", "state": "working", "stage": "process", "done": 3, "total": 72, "links": links}),
    }
}

/// Of what is in the tar file.
fn manifest(archive: &[u8]) -> DatasetManifest {
    let mut counts = BTreeMap::<String, u64>::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let path = entry.unwrap().path().unwrap().to_str().unwrap().to_owned();
        *counts.entry(path.split('/').next().unwrap().to_owned()).or_default() += 1;
    }
    let class = |(name, n): (String, u64)| ClassCount { name, train: n - 10, validation: 5, test: 5 };
    DatasetManifest {
        schema: 1,
        id: "ds-1".into(),
        name: "verify".into(),
        created: "2026-11-23T06:45:12Z".into(),
        pictures: counts.values().sum(),
        classes: counts.into_iter().map(class).collect(),
        preprocess: PreprocessSpec::square(64),
        split: SplitPolicy { given: vec![], validation_ratio: 0.15, test_ratio: 0.15 },
        provenance: Provenance { source: "verify".into(), files: 72, made_by: "fovea".into(), derived_from: None },
        rejected: vec![],
        near_duplicates: vec![],
        files: BTreeMap::new(),
    }
}

fn training(state: &State, id: &str) -> Value {
    let at = state.runs.iter().position(|(run, _)| run == id).unwrap();
    let status = match (state.runs[at].1.elapsed() >= TRAINING, state.has(Fault::TrainerOutOfMemory)) {
        (false, _) if state.runs[at].1.elapsed() < TRAINING / 2 => json!({"state": "queued"}),
        (false, _) => json!({"state": "running", "started": "2026-11-23T06:45:12Z"}),
        (true, false) => json!({"state": "succeeded", "version": at + 1}),
        (true, true) => json!({
            "state": "failed",
            "reason": "the trainer needed more memory than its limit of 4Gi and was killed (OOMKilled)",
        }),
    };
    json!({
        "id": id, "dataset": "ds-1", "model": "classifier", "hyperparameters": {}, "created": "", "status": status,
        "hindrance": "the trainer waits for a node with room", "links": {},
    })
}

fn model(state: &State) -> Value {
    let shares: Vec<_> =
        state.split().iter().map(|(version, percent)| json!({"version": version, "percent": percent})).collect();
    let coming = state.splits.last().filter(|(from, _)| *from > Instant::now());
    let publication = |stage: &str, reason: Value| json!([{"model": "classifier", "version": state.versions(), "percent": 20, "stage": stage, "reason": reason}]);
    let publications = match coming {
        Some(_) => publication("baking", Value::Null),
        None if state.has(Fault::BakingFails) && state.versions() > 0 => {
            publication("failed", json!("baking was killed by signal 9"))
        }
        None => json!([]),
    };
    json!({"name": "classifier", "current": 1, "shares": shares, "publications": publications, "versions": []})
}

fn publish(state: &mut State, version: u32, percent: u32) -> Response {
    let now = state.split();
    let is_served = now.iter().any(|(serves, _)| *serves == version) || state.splits.len() > 2;
    let mut split = vec![(version, percent)];
    if percent < 100 {
        let other = now.iter().find(|(serves, _)| *serves != version).unwrap().0;
        split.push((other, 100 - percent));
    }
    let from = Instant::now() + if is_served { Duration::from_secs(2) } else { BAKING };
    state.splits.push((from, split));
    told(202, &json!({"name": "classifier", "version": version, "percent": percent}))
}

fn diagnosis(state: &mut State) -> Diagnosis {
    let answering = ["preprocess", "inference"].map(|name| {
        state.wake(name);
        Answering { name: name.into(), url: format!("http://{name}"), milliseconds: 3.0, problem: None }
    });
    Diagnosis {
        version: env!("CARGO_PKG_VERSION").into(),
        at_unix_ms: jiff::Timestamp::now().as_millisecond(),
        functions: answering.to_vec(),
        models: Vec::<InUse>::new(),
        volumes: None,
        cluster: state.has(Fault::WebCutOff).then(|| "it does not answer (deadline has elapsed)".into()),
    }
}
