//! The functions as the runtime tells them: REST, events, the page and its form, against a small admin port.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use api::{
    ErrorBody, ErrorCode, ErrorDetail,
    functions::{Activity, Decision, Phase, RevisionStatus, ServiceStatus, Status, TrafficShare, TrafficTarget},
};
use axum::{
    Json, Router,
    body::{Body, BodyDataStream},
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use futures_util::StreamExt;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::time;
use tower::ServiceExt;

use crate::bench::{Answer, Bench, eventually, request, serve, stubborn_function};

const URLENCODED: &str = "application/x-www-form-urlencoded";

/// What the admin port serves.
#[derive(Clone)]
struct Runtime {
    status: Arc<Mutex<Status>>,
    /// How often it was looked at.
    looks: Arc<AtomicUsize>,
}

impl Runtime {
    fn edit(&self, edit: impl FnOnce(&mut Status)) {
        edit(&mut self.status.lock().unwrap());
    }

    fn traffic(&self) -> Vec<TrafficShare> {
        self.status.lock().unwrap().services[0].traffic.clone()
    }

    /// Waits until it was looked at again, from the beginning of a look to its end.
    async fn looked_at(&self) {
        let before = self.looks.load(Ordering::SeqCst);
        eventually("two more looks", || (self.looks.load(Ordering::SeqCst) >= before + 2).then_some(())).await;
    }
}

/// A service over an admin port with one function.
async fn bench() -> (Bench, Runtime) {
    let runtime = Runtime { status: Arc::new(Mutex::new(inference())), looks: Arc::default() };
    let app = Router::new()
        .route("/admin/status", get(tell))
        .route("/admin/services/{namespace}/{name}/traffic", put(set_traffic))
        .with_state(runtime.clone());
    let url = serve(app).await;
    (Bench::with(|config| config.admin_url = Some(url)), runtime)
}

async fn tell(State(runtime): State<Runtime>) -> Json<Status> {
    runtime.looks.fetch_add(1, Ordering::SeqCst);
    Json(runtime.status.lock().unwrap().clone())
}

/// Follows the wishes where they are 100 together.
async fn set_traffic(
    State(runtime): State<Runtime>,
    Path((namespace, name)): Path<(String, String)>,
    Json(targets): Json<Vec<TrafficTarget>>,
) -> Response {
    let refuse = |code: ErrorCode, message: String| {
        let status = StatusCode::from_u16(code.status()).unwrap();
        (status, Json(ErrorBody::from(ErrorDetail::new(code, message)))).into_response()
    };
    let mut status = runtime.status.lock().unwrap();
    let known = |service: &&mut ServiceStatus| service.namespace == namespace && service.name == name;
    let Some(service) = status.services.iter_mut().find(known) else {
        return refuse(ErrorCode::NotFound, format!("there is no service {namespace}/{name}"));
    };
    let sum: i64 = targets.iter().filter_map(|target| target.percent).sum();
    if sum != 100 {
        return refuse(ErrorCode::Unprocessable, format!("Traffic targets sum to {sum}, want 100: spec.traffic"));
    }
    let share = |target: &TrafficTarget| TrafficShare {
        revision: target.revision_name.clone().or_else(|| service.latest_ready.clone()).unwrap(),
        percent: u32::try_from(target.percent.unwrap()).unwrap(),
        latest: target.latest_revision.unwrap(),
        tag: target.tag.clone(),
        url: None,
    };
    service.traffic = targets.iter().map(share).collect();
    Json(service.clone()).into_response()
}

fn inference() -> Status {
    let revision = |name: &str| RevisionStatus {
        name: name.into(),
        phase: Phase::Ready,
        activity: Activity::Inactive,
        mode: "Proxy".into(),
        target_concurrency: 0.7,
        ..RevisionStatus::default()
    };
    let decision = Decision { at_unix_ms: 1_795_416_312_345, desired: 2, ready: 1, reason: "1.50 in <flight>".into() };
    let busy = RevisionStatus {
        activity: Activity::Active,
        desired: 2,
        ready: 1,
        running: 1,
        waiting: 3,
        stable_concurrency: 0.35,
        panic_concurrency: 2.254,
        panicking: true,
        requests: 128,
        failures: 2,
        cold_starts: 3,
        last_cold_start_ms: Some(4.125),
        decisions: vec![decision],
        ..revision("inference-00002")
    };
    let broken = RevisionStatus {
        phase: Phase::Failed,
        reason: Some("the component cannot be read".into()),
        ..revision("inference-00001")
    };
    let share = |revision: &str, percent| TrafficShare { revision: revision.into(), percent, ..Default::default() };
    let service = ServiceStatus {
        namespace: "default".into(),
        name: "inference".into(),
        url: "http://127.0.0.1:8082/".into(),
        ready: true,
        latest_ready: Some("inference-00002".into()),
        traffic: vec![
            TrafficShare { latest: true, ..share("inference-00002", 90) },
            TrafficShare {
                tag: Some("old".into()),
                url: Some("http://old.localhost/".into()),
                ..share("inference-00000", 10)
            },
        ],
        revisions: vec![busy, broken, revision("inference-00000")],
        ..ServiceStatus::default()
    };
    Status { at_unix_ms: 1_795_416_313_000, resident_bytes: 41 << 20, services: vec![service], ..Status::default() }
}

async fn put_traffic(bench: &Bench, path: &str, targets: &Value) -> Answer {
    let request = request(Method::PUT, path).header(header::CONTENT_TYPE, "application/json");
    bench.send(request.body(Body::from(targets.to_string())).unwrap()).await
}

#[track_caller]
fn shows(page: &Answer, texts: &[&str]) {
    let html = page.text();
    for text in texts {
        assert!(html.contains(text), "no {text:?} in {html}");
    }
    assert!(!html.contains("style=\""), "the content security policy forbids inline styles");
}

#[tokio::test]
async fn the_runtimes_word_is_passed_on() {
    let (bench, _) = bench().await;
    assert_eq!(bench.get("/api/functions").await.json::<Status>(), inference());
}

#[tokio::test]
async fn traffic_is_set_over_rest_and_refused_in_the_runtimes_words() {
    let (bench, runtime) = bench().await;
    let path = "/api/functions/default/inference/traffic";
    let set = put_traffic(&bench, path, &json!([{"latestRevision": true, "percent": 100}])).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    assert_eq!(set.json::<ServiceStatus>().traffic, runtime.traffic());
    assert_eq!((runtime.traffic().len(), runtime.traffic()[0].percent), (1, 100));

    let refused = put_traffic(&bench, path, &json!([{"latestRevision": true, "percent": 70}])).await.error();
    assert_eq!(refused.code, ErrorCode::Unprocessable);
    assert_eq!(refused.message, "Traffic targets sum to 70, want 100: spec.traffic");
    let unknown = put_traffic(&bench, "/api/functions/default/other/traffic", &json!([])).await.error();
    assert_eq!((unknown.code, unknown.message.as_str()), (ErrorCode::NotFound, "there is no service default/other"));
    let misspelt = put_traffic(&bench, path, &json!([{"percentage": 100}])).await.error();
    assert!(misspelt.message.contains("percentage"), "{}", misspelt.message);
    assert_eq!(runtime.traffic().len(), 1);
}

#[tokio::test]
async fn without_an_answer_of_a_runtime_rest_says_why_not() {
    for (url, code, said) in [
        (None, ErrorCode::Unavailable, "this service was not told where the functions' runtime is"),
        (Some("http://127.0.0.1:1/".parse().unwrap()), ErrorCode::Unavailable, "http://127.0.0.1:1 does not answer"),
        (Some(stubborn_function(StatusCode::OK, "hello").await), ErrorCode::BadGateway, "answered something else"),
        (Some(stubborn_function(StatusCode::NOT_FOUND, "").await), ErrorCode::BadGateway, "is it the runtime's admin"),
    ] {
        let bench = Bench::with(|config| config.admin_url = url);
        let error = bench.get("/api/functions").await.error();
        assert_eq!(error.code, code);
        assert!(error.message.contains(said), "{}", error.message);
        let page = bench.get("/functions").await;
        assert_eq!(page.status, StatusCode::OK);
        shows(&page, &["<p class=\"empty\">"]);
    }
    let nobody = Bench::new();
    assert_eq!(nobody.get("/api/functions/events").await.error().code, ErrorCode::Unavailable);
    assert!(!nobody.get("/functions").await.text().contains("live.js"), "there is nothing to follow");
}

async fn next_event(stream: &mut BodyDataStream) -> Value {
    let waiting = async {
        loop {
            let chunk = stream.next().await.expect("it goes on").unwrap();
            if let Some(data) = std::str::from_utf8(&chunk).unwrap().strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    };
    time::timeout(time::Duration::from_secs(30), waiting).await.expect("an event comes")
}

#[tokio::test]
async fn an_event_comes_at_once_and_whenever_something_changes() {
    let (bench, runtime) = bench().await;
    let asked = request(Method::GET, "/api/functions/events").body(Body::empty()).unwrap();
    let answer = bench.app.clone().oneshot(asked).await.unwrap();
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut events = answer.into_body().into_data_stream();
    assert_eq!(next_event(&mut events).await["services"][0]["revisions"][0]["ready"], 1);

    // Time and memory alone are no news.
    runtime.edit(|status| (status.at_unix_ms, status.resident_bytes) = (status.at_unix_ms + 1, 1));
    let following = async {
        runtime.looked_at().await;
        runtime.edit(|status| status.services[0].revisions[0].ready = 2);
    };
    let (event, ()) = tokio::join!(next_event(&mut events), following);
    assert_eq!(event["services"][0]["revisions"][0]["ready"], 2);

    bench.state.stopping.cancel();
    assert!(events.next().await.is_none(), "a stopping service lets nobody wait");
}

#[tokio::test]
async fn the_page_shows_everything_and_needs_no_script() {
    let (bench, _) = bench().await;
    let page = bench.get("/functions").await;
    shows(
        &page,
        &[
            "<a href=\"/functions\" aria-current=\"page\">Functions</a>",
            "<a href=\"http://127.0.0.1:8082/\">",
            "<caption>Revisions, newest first</caption>",
            "90 % latest",
            "<a href=\"http://old.localhost/\">@old</a>",
            "<span class=\"state good\">ready</span> active<small>Proxy <span class=\"state busy\">panic mode</span></small>",
            "1 of 2",
            "1, 3",
            "0.35, 2.25",
            "width=\"50\"",
            "3 <small>4.1 ms</small>",
            "128 <small>2 failed</small>",
            "inference-00001: the component cannot be read",
            "2026-11-23 06:45:12 UTC",
            "1 → 2",
            "1.50 in &#60;flight&#62;",
            "data-events=\"/api/functions/events\"",
        ],
    );
    let fragment = bench.get("/functions/live").await;
    shows(&fragment, &["inference-00002"]);
    assert!(!fragment.text().contains("<html"));
    assert!(page.text().contains(fragment.text().trim()), "the page holds the very fragment that renews it");
}

#[tokio::test]
async fn the_form_edits_percentages_and_keeps_tags() {
    let (bench, runtime) = bench().await;
    let path = "/functions/default/inference/traffic";
    let done = bench.post(path, URLENCODED, "latest=25&inference-00000=75&inference-00001=").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text());
    assert_eq!(done.header(header::LOCATION), "/functions#default.inference");
    let told = |runtime: &Runtime| -> Vec<_> {
        let shares = runtime.traffic().into_iter();
        shares.map(|share| (share.revision, share.percent, share.latest, share.tag.unwrap_or_default())).collect()
    };
    let share = |revision: &str, percent, latest, tag: &str| (revision.to_owned(), percent, latest, tag.to_owned());
    assert_eq!(told(&runtime), [share("inference-00002", 25, true, ""), share("inference-00000", 75, false, "old")]);

    bench.post(path, URLENCODED, "all=inference-00000").await;
    assert_eq!(told(&runtime), [share("inference-00000", 100, false, "old")]);
    shows(&bench.get("/functions").await, &["aria-label=\"Promote: send all requests of inference to the latest"]);
    bench.post(path, URLENCODED, "all=latest").await;
    assert_eq!(told(&runtime), [share("inference-00002", 100, true, ""), share("inference-00000", 0, false, "old")]);
    shows(
        &bench.get("/functions").await,
        &["aria-label=\"Roll back: send all requests of inference to inference-00000"],
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_split_is_said_in_its_place() {
    let (bench, runtime) = bench().await;
    let path = "/functions/default/inference/traffic";
    let refused = bench.post(path, URLENCODED, "latest=50&inference-00000=40").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let alert = "<p class=\"alert\" role=\"alert\">Traffic targets sum to 90, want 100: spec.traffic.</p>";
    shows(
        &refused,
        &["<details open>", alert, "name=\"inference-00000\" min=\"0\" max=\"100\" step=\"1\" value=\"40\""],
    );

    let unreadable = bench.post(path, URLENCODED, "latest=most").await;
    assert_eq!(unreadable.status, StatusCode::UNPROCESSABLE_ENTITY);
    let beside = "role=\"alert\">latest is &#34;most&#34;; expected a whole number from 0 to 100</strong>";
    shows(&unreadable, &["value=\"most\" aria-invalid=\"true\"", beside]);
    assert_eq!(runtime.traffic(), inference().services[0].traffic);

    let unknown = bench.post("/functions/default/other/traffic", URLENCODED, "latest=100").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    shows(&unknown, &["There is no function default/other."]);
}

#[tokio::test]
async fn another_sites_page_cannot_steer_functions() {
    let (bench, runtime) = bench().await;
    for (method, path) in [
        (Method::POST, "/functions/default/inference/traffic"),
        (Method::PUT, "/api/functions/default/inference/traffic"),
    ] {
        let foreign = request(method, path).header("sec-fetch-site", "cross-site");
        let answer = bench.send(foreign.body(Body::from("all=latest")).unwrap()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(runtime.traffic(), inference().services[0].traffic);
}

/// The function as it is after v1 of the model: its first revision has everything.
fn serving_v1() -> Status {
    let mut status = inference();
    let service = &mut status.services[0];
    let mut revision = service.revisions[2].clone();
    revision.mounted = vec!["/data/models/classifier/v1".into()];
    let newest = Some(revision.name.clone());
    (service.latest_created, service.latest_ready) = (newest.clone(), newest);
    service.traffic =
        vec![TrafficShare { revision: revision.name.clone(), percent: 100, latest: true, ..TrafficShare::default() }];
    service.revisions = vec![revision];
    status
}

async fn publish(bench: &Bench, version: u32, percent: u32) -> Answer {
    let request =
        request(Method::PUT, "/api/models/classifier/current").header(header::CONTENT_TYPE, "application/json");
    bench.send(request.body(Body::from(json!({"version": version, "percent": percent}).to_string())).unwrap()).await
}

#[tokio::test]
async fn a_canary_is_wished_for_before_the_pointer_moves() {
    let (bench, runtime) = bench().await;
    runtime.edit(|status| *status = serving_v1());
    let dataset = bench.dataset();
    bench.model(&dataset);
    bench.model(&dataset);
    bench.volumes.set_current("classifier", 1).unwrap();
    let taken = publish(&bench, 2, 20).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{}", taken.text());
    let told: Vec<_> = runtime.traffic().into_iter().map(|s| (s.revision, s.percent, s.latest)).collect();
    let first = "inference-00000".to_owned();
    assert_eq!(told, [(first.clone(), 20, true), (first, 80, false)], "until there is another, the first has all");
    assert_eq!(bench.volumes.current("classifier").unwrap(), Some(2));

    // The runtime follows the pointer.
    runtime.edit(|status| {
        let service = &mut status.services[0];
        let mut second = service.revisions[0].clone();
        (second.name, second.mounted) = ("inference-00001".into(), vec!["/data/models/classifier/v2".into()]);
        (service.latest_created, service.latest_ready) = (Some(second.name.clone()), Some(second.name.clone()));
        service.traffic[0].revision.clone_from(&second.name);
        service.revisions.insert(0, second);
    });
    shows(
        &bench.get("/models").await,
        &["20 % of requests", "80 % of requests", "name=\"percent\" min=\"1\" max=\"100\""],
    );
    let promoted = publish(&bench, 2, 100).await;
    assert_eq!(promoted.status, StatusCode::OK, "{}", promoted.text());
    assert_eq!((runtime.traffic().len(), runtime.traffic()[0].percent), (1, 100));
    let alone = publish(&bench, 2, 20).await.error();
    assert_eq!(alone.code, ErrorCode::Conflict);
    assert!(alone.message.starts_with("nothing else serves classifier"), "{}", alone.message);
}

#[tokio::test]
async fn a_version_or_a_runtime_that_is_not_there_leaves_the_pointer_where_it_is() {
    let (bench, runtime) = bench().await;
    runtime.edit(|status| *status = serving_v1());
    bench.model(&bench.dataset());
    assert_eq!(publish(&bench, 7, 100).await.error().code, ErrorCode::NotFound);
    let nobody = Bench::with(|config| config.admin_url = Some("http://127.0.0.1:1/".parse().unwrap()));
    nobody.model(&nobody.dataset());
    assert_eq!(publish(&nobody, 1, 100).await.error().code, ErrorCode::Unavailable);
    assert_eq!(nobody.volumes.current("classifier").unwrap(), None);
    shows(&nobody.get("/models").await, &["Who serves is not known.", "does not answer"]);
}
