//! Services make revisions, traffic finds them, and no request notices.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::functions::{Phase, TrafficTarget};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    bench::{Answer, Bench, HOSTILE, PATIENCE, Setup, service, shares},
    function::Function,
    registry::{CURRENT, Registry},
};

const ONE: &str = "hostile-00001";
const TWO: &str = "hostile-00002";
const THREE: &str = "hostile-00003";

fn serving_current() -> Function {
    Function::new(HOSTILE).mounting(CURRENT).ready_at("/health/ready")
}

async fn serve(registry: &Registry) -> Bench {
    Setup::of(serving_current()).claim(registry.path()).start().await
}

/// Asks until the version is this one.
async fn until_version(bench: &Bench, version: &str) {
    let ask = async { while bench.get("/version").await.text() != version {} };
    timeout(PATIENCE, ask).await.unwrap();
}

/// Waits until this revision is the latest that is ready.
async fn until_ready(bench: &Bench, revision: &str) {
    bench.until(|status| service(status, HOSTILE).latest_ready.as_deref() == Some(revision)).await;
}

fn part(revision: &str, percent: i64) -> TrafficTarget {
    TrafficTarget { revision_name: Some(revision.to_owned()), percent: Some(percent), ..TrafficTarget::default() }
}

fn tagged(target: TrafficTarget, tag: &str) -> TrafficTarget {
    TrafficTarget { tag: Some(tag.to_owned()), ..target }
}

fn latest(percent: i64) -> TrafficTarget {
    TrafficTarget { latest_revision: Some(true), percent: Some(percent), ..TrafficTarget::default() }
}

/// Who answers this many requests: how often `hostile-00001`, how often `hostile-00002`.
async fn sample(bench: &Bench, requests: usize) -> [usize; 2] {
    let mut counts = [0; 2];
    for _ in 0..requests {
        let answer = bench.get("/version").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        match answer.revision.as_str() {
            ONE => counts[0] += 1,
            TWO => counts[1] += 1,
            other => panic!("{other} should have no traffic"),
        }
    }
    counts
}

#[tokio::test]
async fn publishing_under_load_fails_no_request_and_lets_none_wait_for_a_cold_start() {
    let registry = Registry::with("one");
    let bench = Arc::new(serve(&registry).await);
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (caller, done) = (bench.function(HOSTILE), Arc::clone(&done));
            tokio::spawn(async move {
                let mut answers = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = caller.get("/version").await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    // Odd revisions serve `one`, even ones `two`.
                    let number: u64 = answer.revision.trim_start_matches("hostile-").parse().unwrap();
                    assert_eq!(answer.text(), if number % 2 == 1 { "one" } else { "two" }, "{answer:?}");
                    assert!(!answer.times().contains(&"cold"), "{answer:?}");
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for _ in 0..3 {
        registry.publish("two");
        until_version(&bench, "two").await;
        registry.publish("one");
        until_version(&bench, "one").await;
    }
    let told = bench.service(HOSTILE).await;
    assert_eq!(told.latest_ready.as_deref(), Some("hostile-00007"));
    assert_eq!(told.revisions[0].mounted, [registry.path().join("one").to_str().unwrap()]);
    assert_eq!(told.revisions.iter().map(|revision| revision.failures).sum::<u64>(), 0);
    done.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_request_in_flight_finishes_on_its_revision() {
    let registry = Registry::with("one");
    let bench = serve(&registry).await;
    let slow = bench.spawn_get("/wait?3000");
    bench.until_running(1).await;
    registry.publish("two");
    until_version(&bench, "two").await;
    assert!(!slow.is_finished(), "the machine is too slow for this test to mean anything");
    let slow = slow.await.unwrap();
    slow.is_ok("waited");
    assert_eq!(slow.revision, ONE);
}

#[tokio::test]
async fn a_function_serves_before_its_mount_is_there_and_after_it_is_gone() {
    let registry = Registry::empty();
    let bench = Setup::of(Function::new(HOSTILE).mounting(CURRENT)).claim(registry.path()).start().await;
    assert_eq!(bench.get("/version").await.status, 503);
    registry.publish("one");
    until_version(&bench, "one").await;
    fs::remove_file(registry.current()).unwrap();
    timeout(PATIENCE, async { while bench.get("/version").await.status != 503 {} }).await.unwrap();
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn a_version_that_does_not_become_ready_leaves_the_old_revision_serving() {
    let registry = Registry::with("one");
    let bench = serve(&registry).await;
    registry.publish("broken");
    let broken = bench.until_newest(HOSTILE, |revision| revision.phase == Phase::Failed).await;
    let reason = broken.reason.unwrap();
    assert!(reason.contains("/health/ready is answered 500"), "{reason}");
    assert!(reason.contains("the model is broken"), "{reason}");
    for _ in 0..20 {
        let answer = bench.get("/version").await;
        answer.is_ok("one");
        assert_eq!(answer.revision, ONE);
    }
    let told = bench.service(HOSTILE).await;
    assert_eq!((told.ready, shares(&told)), (false, vec![(ONE, 100)]));
    registry.publish("two");
    until_ready(&bench, THREE).await;
    until_version(&bench, "two").await;
    assert!(bench.service(HOSTILE).await.ready);
}

#[tokio::test]
async fn a_canary_gets_its_part_is_promoted_and_rolled_back() {
    let registry = Registry::with("one");
    let bench = serve(&registry).await;
    assert_eq!(bench.traffic(HOSTILE, &[part(ONE, 100)]).await.status, 200);
    registry.publish("two");
    until_ready(&bench, TWO).await;
    assert_eq!(sample(&bench, 50).await, [50, 0], "a pinned revision keeps its traffic");

    let answer = bench.traffic(HOSTILE, &[part(ONE, 90), tagged(part(TWO, 10), "canary")]).await;
    let told: api::functions::ServiceStatus = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(shares(&told), [(ONE, 90), (TWO, 10)]);
    let url = format!("http://canary-hostile.default.localhost:{}/", bench.at.port());
    assert!(url.starts_with(told.traffic[1].url.as_deref().unwrap()), "{told:?}");
    // 50 of 500 are to be expected; that it is off by 35 happens once in ten million times.
    let [_, canary] = sample(&bench, 500).await;
    assert!((15..=85).contains(&canary), "{canary} of 500");
    for _ in 0..20 {
        let answer = bench.host("canary-hostile.default.localhost").get("/version").await;
        answer.is_ok("two");
        assert_eq!(answer.revision, TWO);
    }

    assert_eq!(bench.traffic(HOSTILE, &[latest(100)]).await.status, 200);
    assert_eq!(sample(&bench, 50).await, [0, 50]);
    assert_eq!(bench.host("canary-hostile.default.localhost").get("/").await.status, 404);
    assert_eq!(bench.traffic(HOSTILE, &[part(ONE, 100)]).await.status, 200);
    assert_eq!(sample(&bench, 50).await, [50, 0]);
}

#[tokio::test]
async fn traffic_that_cannot_be_is_refused_and_changes_nothing() {
    let bench = Setup::of(Function::new(HOSTILE)).start().await;
    let before = shares(&bench.service(HOSTILE).await).len();
    let wrong = [part(ONE, 90), tagged(part(ONE, 20), "Not A Tag")];
    let refused = bench.traffic(HOSTILE, &wrong).await;
    refused.is_error(400, "bad_request", "Traffic targets sum to 110, want 100");
    refused.is_error(400, "bad_request", "not a DNS 1035 label");
    refused.is_error(400, "bad_request", "spec.traffic.tag[1]");
    bench.traffic("nobody", &[part(ONE, 100)]).await.is_error(404, "not_found", "there is no function default/nobody");
    let url = bench.admin("/admin/services/default/hostile/traffic");
    let unknown = bench.client.put(url).json(&json!([{ "percentage": 100 }])).send().await.unwrap();
    assert_eq!(unknown.status().as_u16(), 400);
    assert!(unknown.text().await.unwrap().contains("unknown field `percentage`"));
    let told = bench.service(HOSTILE).await;
    assert_eq!((before, shares(&told), told.ready), (1, vec![(ONE, 100)], true));
}

#[tokio::test]
async fn the_same_manifest_again_changes_nothing_and_another_template_is_another_revision() {
    let bench = Setup::of(Function::new(HOSTILE)).start().await;
    assert_eq!(bench.apply(Function::new(HOSTILE)).await.status, 200);
    assert_eq!(bench.service(HOSTILE).await.revisions.len(), 1);
    assert_eq!(bench.apply(Function::new(HOSTILE).concurrency(7)).await.status, 200);
    until_ready(&bench, TWO).await;
    assert_eq!(bench.get("/").await.revision, TWO);
}

#[tokio::test]
async fn what_is_wrong_with_manifests_is_told_all_at_once_and_nothing_of_them_is_done() {
    let bench = Setup::of(Function::new(HOSTILE)).start().await;
    let before = bench.service(HOSTILE).await;
    let check = async |manifests: String, complaints: &[&str]| {
        let refused: Answer = bench.apply(&manifests).await;
        for complaint in complaints {
            refused.is_error(400, "bad_request", complaint);
        }
        let status = bench.status().await;
        assert_eq!(status.services.len(), 1, "{complaints:?}");
        assert_eq!(service(&status, HOSTILE).revisions.len(), before.revisions.len());
        bench.get("/").await.is_ok("well behaved");
    };
    let good = Function::new("good").to_string();
    let changed = Function::new(HOSTILE).concurrency(7).to_string();

    // What is no manifest.
    let (first, second) = (Function::new("first").misspelt("imago"), Function::new("second").misspelt("comand"));
    check([good.clone(), first.to_string(), second.to_string()].concat(), &["imago", "comand"]).await;
    check("a: [".to_owned(), &["the request:"]).await;

    // What Knative refuses.
    let first = Function::new("first").concurrency(5000).timeout_seconds(5000);
    let second = Function::new("second").annotated("autoscaling.knative.dev/window", "1s");
    let second = second.annotated("autoscaling.knative.dev/target", "0");
    check(
        [good.clone(), changed.clone(), first.to_string(), second.to_string()].concat(),
        &[
            "default/first: ",
            "expected 0 <= 5000 <= 1000: spec.template.spec.containerConcurrency",
            "expected 0 <= 5000 <= 600: spec.template.spec.timeoutSeconds",
            "default/second: ",
            "expected 6s <= 1s <= 1h0m0s: spec.template.metadata.annotations.autoscaling.knative.dev/window",
            "target 0 should be at least 0.01",
        ],
    )
    .await;

    // What cannot be had here.
    let unknown = [
        Function::new("outside").annotated("fovea.dev/component", "../secret"),
        Function::new("shared").annotated("fovea.dev/isolation", "none"),
        Function::new("sized").annotated("fovea.dev/max-body", "much"),
        Function::new("never").annotated("fovea.dev/max-requests", "0"),
        Function::new("mounting").mounting(CURRENT),
        Function::new("nowhere").env("FOVEA_MODEL_PATH", "/models/current"),
    ];
    let unknown: String = unknown.iter().map(Function::to_string).collect();
    check(
        [good, changed, unknown].concat(),
        &[
            "default/outside: fovea.dev/component is \"../secret\"",
            "default/shared: fovea.dev/isolation is \"none\"; expected request or instance",
            "default/sized: fovea.dev/max-body is \"much\"; expected a size such as 64MiB",
            "default/never: fovea.dev/max-requests is \"0\"; expected a whole number of at least 1",
            "default/mounting: the volume claim models stands for no folder here; name one with --claim models=FOLDER",
            "default/nowhere: FOVEA_MODEL_PATH is /models/current, which no mounted volume claim holds",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_function_sees_the_model_that_its_variable_names_and_not_the_variable() {
    let registry = Registry::with("one");
    let bench = Setup::of(Function::new(HOSTILE).modelled(CURRENT)).claim(registry.path()).start().await;
    bench.get("/version").await.is_ok("one");
    let sandbox = bench.get("/sandbox").await;
    assert!(sandbox.text().contains("env K_REVISION=") && !sandbox.text().contains("FOVEA_"), "{}", sandbox.text());
    registry.publish("two");
    until_version(&bench, "two").await;
    assert_eq!(bench.service(HOSTILE).await.revisions.len(), 2);
}

#[tokio::test]
async fn links_that_lead_out_of_their_claim_are_refused() {
    let registry = Registry::empty();
    std::os::unix::fs::symlink("/", registry.current()).unwrap();
    let bench = Setup::of(Function::new("other")).claim(registry.path()).start().await;
    bench.apply(serving_current()).await.is_error(400, "bad_request", "leads out of");
    bench.apply(Function::new(HOSTILE).mounting("..")).await.is_error(400, "bad_request", "..");
}

#[tokio::test]
async fn a_link_that_comes_to_lead_out_of_its_claim_is_not_followed() {
    let registry = Registry::with("one");
    let bench = serve(&registry).await;
    fs::remove_file(registry.current()).unwrap();
    std::os::unix::fs::symlink("/", registry.current()).unwrap();
    // Long enough for several looks at it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    bench.get("/version").await.is_ok("one");
    assert_eq!(bench.service(HOSTILE).await.revisions.len(), 1);
    fs::remove_file(registry.current()).unwrap();
    registry.publish("two");
    until_version(&bench, "two").await;
}

#[tokio::test]
async fn a_deleted_function_is_gone_once_its_requests_are_answered() {
    let state = tempfile::tempdir().unwrap();
    let functions = [Function::new(HOSTILE).concurrency(1), Function::new("other")];
    let functions: String = functions.iter().map(Function::to_string).collect();
    let bench = Setup::of(functions).state(state.path()).start().await;
    let slow = bench.spawn_get("/wait?500");
    bench.until_running(1).await;
    let waiting = bench.spawn_get("/");
    bench.until_newest(HOSTILE, |revision| revision.waiting == 1).await;

    let url = bench.admin("/admin/services/default/hostile");
    assert_eq!(bench.client.delete(&url).send().await.unwrap().status().as_u16(), 204);
    bench.get("/").await.is(404, "there is no function at this host\n");
    assert_eq!(waiting.await.unwrap().status, 404);
    slow.await.unwrap().is_ok("waited");
    assert_eq!(bench.client.delete(&url).send().await.unwrap().status().as_u16(), 404);
    bench.function("other").get("/").await.is_ok("well behaved");
    bench.stop().await;

    let bench = Setup::of("").state(state.path()).start().await;
    let names: Vec<_> = bench.status().await.services.into_iter().map(|service| service.name).collect();
    assert_eq!(names, ["other"]);
    bench.get("/").await.is(404, "there is no function at this host\n");
}

#[tokio::test]
async fn functions_revisions_and_traffic_survive_a_restart() {
    let (state, registry) = (tempfile::tempdir().unwrap(), Registry::with("one"));
    let setup = |manifests: String| Setup::of(manifests).claim(registry.path()).state(state.path());
    let bench = setup(serving_current().to_string()).start().await;
    registry.publish("two");
    until_ready(&bench, TWO).await;
    let edited = bench.traffic(HOSTILE, &[part(ONE, 100), tagged(part(TWO, 0), "next")]).await;
    assert_eq!(edited.status, 200);
    bench.until(|status| service(status, HOSTILE).ready).await;
    let before = bench.service(HOSTILE).await;
    bench.stop().await;

    let bench = setup(String::new()).start().await;
    let after = bench.service(HOSTILE).await;
    assert_eq!(after.traffic, before.traffic);
    let names = |told: &api::functions::ServiceStatus| -> Vec<_> {
        told.revisions.iter().map(|revision| (revision.name.clone(), revision.desired)).collect()
    };
    assert_eq!(names(&after), names(&before));
    bench.get("/version").await.is_ok("one");
    bench.host("next-hostile.default.localhost").get("/version").await.is_ok("two");
    // The link is still one.
    registry.publish("three");
    until_ready(&bench, THREE).await;
    bench.get("/version").await.is_ok("one");
    // The manifest as it was takes the traffic back to the latest.
    assert_eq!(bench.apply(serving_current()).await.status, 200);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_set_aside_and_the_others_serve() {
    let state = tempfile::tempdir().unwrap();
    Setup::of(Function::new(HOSTILE)).state(state.path()).start().await.stop().await;
    fs::write(state.path().join("default.lost.json"), "{").unwrap();
    let bench = Setup::of("").state(state.path()).start().await;
    bench.get("/").await.is_ok("well behaved");
    assert!(state.path().join("default.lost.unreadable").exists());
    assert!(!state.path().join("default.lost.json").exists());
}
