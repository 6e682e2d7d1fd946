//! A guest that misbehaves costs its own request an honest status, and nobody else anything, whether or not requests
//! share a sandbox.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    bench::{Bench, Caller, HOSTILE, PATIENCE, Setup},
    function::Function,
    registry::{CURRENT, Registry},
};

const ISOLATION: &str = "fovea.dev/isolation";
const MAX_REQUESTS: &str = "fovea.dev/max-requests";

/// The same function in both isolations.
async fn both(edit: impl Fn(Function) -> Function) -> (Bench, [Caller; 2]) {
    let isolations = ["request", "instance"];
    let manifests = isolations.map(|name| edit(Function::new(name).annotated(ISOLATION, name)).to_string());
    let bench = Setup::of(manifests.concat()).start().await;
    let callers = isolations.map(|name| bench.function(name));
    (bench, callers)
}

#[tokio::test]
async fn a_trap_is_a_500_for_that_request_alone() {
    let (_bench, callers) = both(|function| function).await;
    for caller in callers {
        caller.get("/trap").await.is_error(500, "internal", "failed while it worked on this request");
        caller.get("/").await.is_ok("well behaved");
    }
}

#[tokio::test]
async fn a_guest_that_allocates_without_end_fails_alone() {
    let (_bench, callers) = both(|function| function.memory("64Mi")).await;
    for caller in callers {
        let (hog, neighbour) = tokio::join!(caller.get("/hog"), caller.get("/"));
        hog.is_error(500, "internal", "more memory than the 64.0 MiB");
        neighbour.is_ok("well behaved");
        caller.get("/").await.is_ok("well behaved");
    }
}

#[tokio::test]
async fn a_guest_that_spins_is_stopped_in_time() {
    let (_bench, callers) = both(|function| function.timeout_seconds(1)).await;
    join_all(callers.map(async |caller| {
        let start = Instant::now();
        caller.get("/spin").await.is(504, "activator request timeout");
        assert!(start.elapsed() >= Duration::from_secs(1));
        caller.get("/").await.is_ok("well behaved");
    }))
    .await;
}

#[tokio::test]
async fn without_the_activator_in_the_path_the_instance_gives_up_instead() {
    let direct = |function: Function| {
        let function = function.annotated("autoscaling.knative.dev/target-burst-capacity", "0");
        function.annotated("autoscaling.knative.dev/min-scale", "1").timeout_seconds(1)
    };
    let (bench, callers) = both(direct).await;
    bench.until(|status| status.services.iter().all(|service| service.revisions[0].mode == "Serve")).await;
    join_all(callers.map(async |caller| {
        caller.get("/spin").await.is(504, "request timeout");
        caller.get("/").await.is_ok("well behaved");
    }))
    .await;
}

#[tokio::test]
async fn a_guest_that_never_answers_is_stopped_in_time() {
    let (_bench, callers) = both(|function| function.timeout_seconds(1)).await;
    join_all(callers.map(async |caller| {
        let (never, stalled) = tokio::join!(caller.get("/never"), caller.get("/stalled"));
        never.is(504, "activator request timeout");
        stalled.is(504, "activator request timeout");
        // Waiting for nothing at all is a trap.
        caller.get("/deadlock").await.is_error(500, "internal", "failed while it worked");
        caller.get("/").await.is_ok("well behaved");
    }))
    .await;
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let (_bench, callers) = both(|function| function.annotated("fovea.dev/max-response", "1MiB")).await;
    for caller in callers {
        caller.get("/endless").await.is_error(500, "internal", "larger than the 1.0 MiB");
        caller.get("/").await.is_ok("well behaved");
    }
}

#[tokio::test]
async fn a_flooded_log_is_bounded_and_the_request_answered() {
    let (_bench, callers) = both(|function| function.annotated("fovea.dev/max-log", "1KiB")).await;
    for caller in callers {
        caller.get("/flood").await.is_ok("flooded");
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up_and_holds_up_nobody() {
    let bench = Setup::of(Function::new(HOSTILE).concurrency(1).timeout_seconds(1)).start().await;
    let mut stream = TcpStream::connect(bench.at).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nhost: hostile.default.localhost\r\ncontent-length: 100\r\n\r\nand then";
    stream.write_all(head.as_bytes()).await.unwrap();
    bench.get("/").await.is_ok("well behaved");
    let mut answer = [0; 4096];
    let length = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("did not arrive within 1s"), "{answer}");
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_413_and_one_at_the_limit_is_not() {
    let bench = Setup::of(Function::new(HOSTILE).annotated("fovea.dev/max-body", "64KiB")).start().await;
    let caller = bench.function(HOSTILE);
    let whole = vec![7; 64 * 1024];
    let answer = caller.post("/echo", whole.clone()).await;
    assert_eq!((answer.status, answer.body), (200, whole));

    let more = vec![7; 64 * 1024 + 1];
    caller.post("/echo", more.clone()).await.is_error(413, "too_large", "larger than the 64.0 KiB");
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(more)]);
    let chunked = reqwest::Body::wrap_stream(chunks);
    caller.post("/echo", chunked).await.is_error(413, "too_large", "larger than the 64.0 KiB");
    caller.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn while_guests_spin_the_others_have_their_turn() {
    let threads = std::thread::available_parallelism().unwrap().get();
    let bench = Setup::of(Function::new(HOSTILE).timeout_seconds(600)).start().await;
    let spinners: Vec<_> = (0..threads + 2).map(|_| bench.spawn_get("/spin")).collect();
    bench.until_running(spinners.len() as u64).await;
    bench.get("/").await.is_ok("well behaved");
    for spinner in spinners {
        assert!(!spinner.is_finished());
        spinner.abort();
    }
}

#[tokio::test]
async fn while_all_places_are_taken_requests_wait_for_a_bounded_time_and_probes_do_not() {
    let bench = Setup::of(Function::new(HOSTILE).concurrency(1).timeout_seconds(2)).start().await;
    let spinner = bench.spawn_get("/spin");
    bench.until_running(1).await;
    let waiting = bench.spawn_get("/spin");
    bench.until_newest(HOSTILE, |revision| revision.waiting == 1).await;
    let probe = bench.client.get(format!("http://{}/", bench.at)).header("k-network-probe", "activator");
    let probe = timeout(Duration::from_secs(1), probe.send()).await.unwrap().unwrap();
    assert_eq!(probe.status().as_u16(), 200);
    spinner.await.unwrap().is(504, "activator request timeout");
    let waited = waiting.await.unwrap();
    waited.is(504, "activator request timeout");
    assert_eq!(waited.times()[0], "queue");
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_place_back() {
    let (bench, callers) = both(|function| function.concurrency(1).timeout_seconds(600)).await;
    for (caller, name) in callers.iter().zip(["request", "instance"]) {
        let spinner = caller.spawn_get("/spin");
        bench.until_newest(name, |revision| revision.running == 1).await;
        spinner.abort();
        caller.get("/").await.is_ok("well behaved");
    }
}

#[tokio::test]
async fn a_sandbox_of_its_own_for_every_request() {
    let bench = Setup::of(Function::new(HOSTILE).annotated(MAX_REQUESTS, "100").concurrency(1)).start().await;
    for _ in 0..5 {
        let answer = bench.get("/requests").await;
        answer.is_ok("1");
        assert!(answer.times().contains(&"sandbox"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_shared_sandbox_is_reused_up_to_its_share() {
    let shared = Function::new(HOSTILE).annotated(ISOLATION, "instance").annotated(MAX_REQUESTS, "3");
    let bench = Setup::of(shared.concurrency(1)).start().await;
    let mut most = 0;
    for _ in 0..60 {
        let answer = bench.get("/requests").await;
        let request: u32 = answer.text().parse().unwrap();
        assert_eq!(answer.times().contains(&"sandbox"), request == 1, "{answer:?}");
        most = most.max(request);
    }
    assert_eq!(most, 3);
}

#[tokio::test]
async fn a_shared_sandbox_is_not_reused_after_it_was_stopped() {
    let shared = Function::new(HOSTILE).annotated(ISOLATION, "instance").memory("64Mi");
    let bench = Setup::of(shared.concurrency(1).timeout_seconds(1)).start().await;
    for misdeed in ["/spin", "/hog", "/trap", "/never", "/deadlock", "/endless", "/stalled"] {
        assert!(bench.get(misdeed).await.status >= 500);
        for _ in 0..5 {
            // A spoilt sandbox would say so.
            bench.get("/").await.is_ok("well behaved");
        }
    }
}

#[tokio::test]
async fn a_guest_sees_its_mount_its_environment_and_nothing_else() {
    let registry = Registry::with("one");
    fs::write(registry.path().join("secret"), "").unwrap();
    let (_bench, callers) = {
        let isolations = ["request", "instance"];
        let functions = isolations.map(|name| {
            let function = Function::new(name).annotated(ISOLATION, name).mounting(CURRENT);
            function.env("ONLY", "this").to_string()
        });
        let bench = Setup::of(functions.concat()).claim(registry.path()).start().await;
        let callers = isolations.map(|name| (name, bench.function(name)));
        (bench, callers)
    };
    for (name, caller) in callers {
        caller.get("/version").await.is_ok("one");
        let report = caller.get("/sandbox").await;
        let (refused, environment) = report.text().split_once("env ").unwrap();
        let refused: Vec<&str> = refused.lines().collect();
        assert_eq!(refused.len(), 5, "{refused:?}");
        for (line, what) in refused.iter().zip(["write", "read outside", "climb out", "connect", "fetch"]) {
            assert!(line.starts_with(&format!("{what}: refused: ")), "{line}");
        }
        let mut environment: Vec<&str> = environment.lines().map(|line| line.trim_start_matches("env ")).collect();
        environment.sort_unstable();
        let own = [format!("K_CONFIGURATION={name}"), format!("K_REVISION={name}-00001"), format!("K_SERVICE={name}")];
        assert_eq!(environment[..3], own);
        assert_eq!(environment[3..], ["ONLY=this", "PORT=8080"]);
        assert!(!registry.current().join("written").exists());
    }
}

#[tokio::test]
async fn many_clients_are_all_answered() {
    let (_bench, callers) = both(|function| function).await;
    for caller in callers {
        let answers: Vec<_> = (0..100).map(|n| caller.spawn_get(&format!("/busy?{}", n % 7))).collect();
        for answer in answers {
            timeout(PATIENCE, answer).await.unwrap().unwrap().is_ok("done");
        }
    }
}
