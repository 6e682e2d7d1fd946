//! A guest that misbehaves costs its own request an honest status, and nobody else anything.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::bench::{Bench, PATIENCE};

#[tokio::test]
async fn a_trap_is_a_500_for_that_request_alone() {
    let bench = Bench::serve("").await;
    bench.get("/trap").await.is_error(500, "internal", "failed while it worked on this request");
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn a_guest_that_allocates_without_end_fails_alone() {
    let bench = Bench::serve(",memory=64MiB,concurrency=2").await;
    let (hog, neighbour) = tokio::join!(bench.get("/hog"), bench.get("/"));
    hog.is_error(500, "internal", "more memory than the 64.0 MiB");
    neighbour.is_ok("well behaved");
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn a_guest_that_spins_is_stopped_in_time() {
    let bench = Bench::serve(",timeout=300ms").await;
    let start = Instant::now();
    bench.get("/spin").await.is_error(504, "timeout", "no answer within 300ms");
    assert!(start.elapsed() >= Duration::from_millis(300));
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn a_guest_that_never_answers_is_stopped_in_time() {
    let bench = Bench::serve(",timeout=300ms").await;
    bench.get("/never").await.is_error(504, "timeout", "no answer within 300ms");
    bench.get("/stalled").await.is_error(504, "timeout", "no answer within 300ms");
    // Waiting for nothing at all is a trap.
    bench.get("/deadlock").await.is_error(500, "internal", "failed while it worked");
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let bench = Bench::serve(",max-response=1MiB").await;
    bench.get("/endless").await.is_error(500, "internal", "larger than the 1.0 MiB");
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn a_flooded_log_is_bounded_and_the_request_answered() {
    let bench = Bench::serve(",max-log=1KiB").await;
    bench.get("/flood").await.is_ok("flooded");
}

#[tokio::test]
async fn while_guests_spin_the_others_have_their_turn() {
    let threads = std::thread::available_parallelism().unwrap().get();
    let bench = Bench::serve(&format!(",concurrency={},timeout=60s", threads + 3)).await;
    let spinners: Vec<_> = (0..threads + 2).map(|_| bench.spawn_get("/spin")).collect();
    // The instance that was started first is taken once a spinner has its place.
    bench.until_idle(0).await;
    bench.get("/").await.is_ok("well behaved");
    for spinner in spinners {
        assert!(!spinner.is_finished());
        spinner.abort();
    }
}

#[tokio::test]
async fn while_all_places_are_taken_requests_wait_for_a_bounded_time_and_probes_do_not() {
    let bench = Bench::serve(",concurrency=1,timeout=60s,queue-timeout=200ms").await;
    let spinner = bench.spawn_get("/spin");
    bench.until_idle(0).await;
    let waited = bench.get("/").await;
    waited.is_error(503, "unavailable", "none became free within 200ms");
    assert!(waited.timing.starts_with("queue;dur=2"), "{}", waited.timing);
    let probe = bench.client.get(bench.url("/")).header("k-network-probe", "queue").send();
    let probe = timeout(Duration::from_secs(5), probe).await.unwrap().unwrap();
    assert_eq!((probe.status().as_u16(), probe.text().await.unwrap().as_str()), (200, "queue"));
    spinner.abort();
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_place_back() {
    let bench = Bench::serve(",concurrency=1,timeout=1h,queue-timeout=60s").await;
    let spinner = bench.spawn_get("/spin");
    bench.until_idle(0).await;
    spinner.abort();
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_413_and_one_at_the_limit_is_not() {
    let bench = Bench::serve(",max-body=64KiB").await;
    let whole = vec![7; 64 * 1024];
    let answer = bench.post("/echo", whole.clone()).await;
    assert_eq!((answer.status, answer.body), (200, whole.clone()));

    let more = vec![7; 64 * 1024 + 1];
    bench.post("/echo", more.clone()).await.is_error(413, "too_large", "larger than the 64.0 KiB");
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(more)]);
    let chunked = reqwest::Body::wrap_stream(chunks);
    bench.post("/echo", chunked).await.is_error(413, "too_large", "larger than the 64.0 KiB");
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn instances_are_reused_up_to_their_share_and_never_after_a_trap() {
    let bench = Bench::serve(",reuse=3,concurrency=1").await;
    for expected in ["1", "2", "3", "1"] {
        bench.get("/requests").await.is_ok(expected);
    }
    bench.get("/trap").await.is_error(500, "internal", "failed");
    bench.get("/requests").await.is_ok("1");
}

#[tokio::test]
async fn only_an_instance_that_had_to_be_started_reports_its_start() {
    let bench = Bench::serve(",reuse=2,concurrency=1").await;
    let timings = [bench.get("/").await.timing, bench.get("/").await.timing, bench.get("/").await.timing];
    let started: Vec<bool> = timings.iter().map(|timing| timing.contains("start;dur=")).collect();
    assert_eq!(started, [false, false, true], "{timings:?}");
    assert!(timings.iter().all(|timing| timing.contains("total;dur=")), "{timings:?}");
}

#[tokio::test]
async fn idle_instances_are_dropped() {
    let bench = Bench::serve(",idle=1ms").await;
    bench.get("/").await.is_ok("well behaved");
    bench.until_idle(0).await;
    bench.get("/requests").await.is_ok("1");
}

#[tokio::test]
async fn a_guest_sees_its_mount_its_environment_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "").unwrap();
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("version"), "one").unwrap();
    let bench = Bench::serve(&format!(",mount={}:/model,env=ONLY=this", model.display())).await;
    bench.get("/version").await.is_ok("one");

    let report = bench.get("/sandbox").await;
    let lines: Vec<&str> = report.text().lines().collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    for (line, what) in lines.iter().zip(["write", "read outside", "climb out", "connect", "fetch"]) {
        assert!(line.starts_with(&format!("{what}: refused: ")), "{line}");
    }
    assert_eq!(lines[5], "env ONLY=this");
    assert!(!model.join("written").exists());
}

#[tokio::test]
async fn many_clients_are_all_answered() {
    let bench = Bench::serve("").await;
    let answers: Vec<_> = (0..200).map(|n| bench.spawn_get(&format!("/busy?{}", n % 7))).collect();
    for answer in answers {
        timeout(PATIENCE, answer).await.unwrap().unwrap().is_ok("done");
    }
}
