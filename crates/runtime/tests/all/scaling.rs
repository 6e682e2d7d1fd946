//! From zero and back to zero, and what the runtime tells of it.

use std::collections::BTreeMap;
use std::time::Duration;

use api::functions::{Activity, Phase};
use tokio::time::timeout;

use crate::{
    bench::{Bench, HOSTILE, PATIENCE, Setup, service},
    function::{Function, config_autoscaler},
};

/// Functions that begin at zero.
fn at_zero(function: &Function) -> String {
    config_autoscaler(&[("initial-scale", "0"), ("allow-zero-initial-scale", "true")]) + &function.to_string()
}

async fn until_zero(bench: &Bench) {
    bench
        .until_newest(HOSTILE, |revision| {
            (revision.desired, revision.ready, revision.activity) == (0, 0, Activity::Inactive)
        })
        .await;
}

#[tokio::test]
async fn an_idle_function_goes_to_zero_and_wakes_for_the_next_request() {
    let function = Function::new(HOSTILE).annotated("autoscaling.knative.dev/window", "6s");
    let bench = Setup::of(function).start().await;
    let warm = bench.get("/").await;
    warm.is_ok("well behaved");
    assert_eq!(warm.times(), ["queue", "sandbox", "total"], "{warm:?}");
    assert_eq!(warm.revision, "hostile-00001");
    until_zero(&bench).await;
    let told = bench.service(HOSTILE).await;
    assert!(told.ready, "a function at zero is ready: {told:?}");
    assert_eq!((told.revisions[0].phase, told.revisions[0].cold_starts), (Phase::Ready, 0));
    let decision = &told.revisions[0].decisions[0];
    assert_eq!((decision.desired, decision.reason.is_empty()), (0, false), "{decision:?}");

    let cold = bench.get("/").await;
    cold.is_ok("well behaved");
    assert_eq!(cold.times(), ["cold", "queue", "sandbox", "total"], "{cold:?}");
    let revision = bench.until_newest(HOSTILE, |revision| revision.ready == 1).await;
    assert_eq!((revision.cold_starts, revision.desired), (1, 1));
    assert!(revision.last_cold_start_ms.unwrap() > 0.0);
    assert_eq!(bench.get("/").await.times(), ["queue", "sandbox", "total"]);
    until_zero(&bench).await;
}

#[tokio::test]
async fn a_burst_at_zero_is_answered_in_full() {
    let function = Function::new(HOSTILE).concurrency(1).annotated("autoscaling.knative.dev/max-scale", "4");
    let bench = Setup::of(at_zero(&function)).start().await;
    assert_eq!(bench.service(HOSTILE).await.revisions[0].ready, 0);
    let burst: Vec<_> = (0..200).map(|_| bench.spawn_get("/busy?2")).collect();
    let mut cold = 0;
    for answer in burst {
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        answer.is_ok("done");
        cold += u64::from(answer.times().contains(&"cold"));
    }
    let revision = bench.until_newest(HOSTILE, |revision| revision.requests == 200).await;
    assert_eq!((revision.failures, revision.running, revision.waiting), (0, 0, 0));
    assert!(cold >= 1 && revision.cold_starts == cold, "{cold} {revision:?}");
    assert!((1..=4).contains(&revision.ready), "{revision:?}");
    assert!(revision.decisions.iter().any(|decision| decision.desired > 0), "{revision:?}");
}

#[tokio::test]
async fn more_requests_than_sandboxes_are_all_answered() {
    let bench = Setup::of(Function::new(HOSTILE)).start().await;
    let crowd: Vec<_> = (0..1100).map(|_| bench.spawn_get("/wait?3000")).collect();
    for answer in crowd {
        timeout(PATIENCE, answer).await.unwrap().unwrap().is_ok("waited");
    }
}

#[tokio::test]
async fn a_function_that_was_unloaded_is_mapped_again_for_the_next_request() {
    let setup = Setup::of(at_zero(&Function::new(HOSTILE))).unload_after(Duration::ZERO);
    let bench = setup.start().await;
    let answer = bench.get("/").await;
    answer.is_ok("well behaved");
    assert!(answer.times().contains(&"cold"), "{answer:?}");
}

#[tokio::test]
async fn a_function_at_zero_is_at_zero_after_a_restart_and_wakes() {
    let state = tempfile::tempdir().unwrap();
    let bench = Setup::of(at_zero(&Function::new(HOSTILE))).state(state.path()).start().await;
    bench.stop().await;
    let bench = Setup::of("").state(state.path()).start().await;
    let revision = bench.service(HOSTILE).await.revisions.remove(0);
    assert_eq!((revision.desired, revision.ready, revision.phase), (0, 0, Phase::Ready));
    let answer = bench.get("/").await;
    answer.is_ok("well behaved");
    assert!(answer.times().contains(&"cold"), "{answer:?}");
}

#[tokio::test]
async fn instances_there_were_are_there_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let function = Function::new(HOSTILE).annotated("autoscaling.knative.dev/max-scale", "5");
    let function = function.annotated("autoscaling.knative.dev/initial-scale", "3");
    let bench = Setup::of(function).state(state.path()).start().await;
    assert_eq!(bench.service(HOSTILE).await.revisions[0].ready, 3);
    bench.stop().await;
    let bench = Setup::of("").state(state.path()).start().await;
    let revision = bench.until_newest(HOSTILE, |revision| revision.ready > 0).await;
    assert_eq!((revision.desired, revision.ready), (3, 3));
}

#[tokio::test]
async fn what_was_saved_of_traffic_and_scale_is_not_lost_without_a_farewell() {
    let state = tempfile::tempdir().unwrap();
    let bench = Setup::of(Function::new(HOSTILE)).state(state.path()).start().await;
    // As if killed: nothing is asked to stop.
    drop(bench);
    let bench = Setup::of("").state(state.path()).start().await;
    bench.get("/").await.is_ok("well behaved");
}

/// Samples by name and labels; panics at a line that OpenMetrics has not.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (lines, end) = text.trim_end_matches('\n').rsplit_once('\n').unwrap();
    assert_eq!(end, "# EOF");
    let mut samples = BTreeMap::new();
    for line in lines.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let keyword = comment.split(' ').next().unwrap();
            assert!(["HELP", "TYPE", "UNIT"].contains(&keyword), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(samples.insert(name.to_owned(), value).is_none(), "{line} comes twice");
    }
    samples
}

#[tokio::test]
async fn metrics_are_as_prometheus_reads_them() {
    let bench = Setup::of(Function::new(HOSTILE)).start().await;
    for _ in 0..3 {
        bench.get("/").await.is_ok("well behaved");
    }
    assert_eq!(bench.get("/trap").await.status, 500);
    bench.until_newest(HOSTILE, |revision| revision.running == 0).await;
    let answer = bench.client.get(bench.admin("/metrics")).send().await.unwrap();
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.text().await.unwrap();
    let samples = samples(&text);
    let find = |name: &str, label: &str| -> f64 {
        let prefix = format!("{name}{{");
        let found: Vec<_> = samples.iter().filter(|(key, _)| key.starts_with(&prefix) && key.contains(label)).collect();
        let [(key, value)] = found[..] else { panic!("{name} {label}: {found:?} in\n{text}") };
        assert!(key.contains("hostile-00001"), "{key}");
        *value
    };
    for (name, expected) in [
        ("kn_revision_pods_desired", 1.0),
        ("kn_revision_pods_count", 1.0),
        ("kn_revision_pods_terminating_count", 0.0),
        ("kn_revision_panic_mode", 0.0),
        ("kn_revision_request_concurrency", 0.0),
        ("kn_serving_queue_depth", 0.0),
        ("kn_revision_concurrency_target", 70.0),
        ("fovea_cold_starts_total", 0.0),
    ] {
        assert_eq!(find(name, ""), expected, "{name}");
    }
    let count = "http_server_request_duration_seconds_count";
    assert_eq!(find(count, "http_response_status_code=\"200\""), 3.0);
    assert_eq!(find(count, "http_response_status_code=\"500\""), 1.0);
    assert!(samples["process_resident_memory_bytes"] > 1e6);
}

#[tokio::test]
async fn the_status_tells_how_a_function_stands() {
    let bench = Setup::of(Function::new(HOSTILE)).start().await;
    assert_eq!(bench.get("/trap").await.status, 500);
    bench.get("/").await.is_ok("well behaved");
    let status = bench.until(|status| service(status, HOSTILE).revisions[0].running == 0).await;
    assert!(status.at_unix_ms > 1_700_000_000_000 && status.resident_bytes > 1 << 20);
    let told = service(&status, HOSTILE);
    assert_eq!((told.namespace.as_str(), told.ready, told.reason.as_deref()), ("default", true, None));
    assert_eq!(told.url, format!("http://hostile.default.localhost:{}/", bench.at.port()));
    assert_eq!(told.latest_created.as_deref(), Some("hostile-00001"));
    let revision = &told.revisions[0];
    assert_eq!((revision.requests, revision.failures, revision.cold_starts), (2, 1, 0));
    assert_eq!((revision.phase, revision.activity), (Phase::Ready, Activity::Active));
    assert!(revision.reachable && revision.mode == "Proxy", "{revision:?}");
    assert!(bench.client.get(bench.admin("/health/live")).send().await.unwrap().status().is_success());
}
