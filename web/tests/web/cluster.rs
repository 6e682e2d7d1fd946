//! The service on a cluster: runs as Jobs, several replicas over the same volumes, and publishing with a canary, against a
//! small API server.

use std::time::Duration;

use ::cluster::trainers::Trainers;
use api::{
    ErrorCode,
    diagnosis::Diagnosis,
    functions::{Stage, Status},
    train::{RunState, RunStatus},
};
use axum::body::Body;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use store::{MAX_ATTEMPTS, Run};
use web::{
    config::{Config, EngineKind},
    engine::Engine,
    launcher::{ClusterJobs, Launcher},
};

use crate::{
    bench::{Answer, Bench, eventually, request, status},
    server::{EVENTS, JOBS, PODS, SERVICES, Server},
    stage::{container, end, inference, pod, reconcile, templates, traffic},
};

/// A service whose engine is a cluster, and that looks after it.
async fn bench() -> (Bench, Server) {
    let server = Server::start().await;
    templates(&server);
    inference(&server);
    let bench = on(&server);
    bench.state.launcher.recover().await.unwrap();
    let (functions, stopping) = (bench.state.functions.clone(), bench.state.stopping.clone());
    tokio::spawn(async move { functions.keep(stopping).await });
    (bench, server)
}

fn on(server: &Server) -> Bench {
    let change = |config: &mut Config| config.engine = EngineKind::Kubernetes;
    Bench::on(change, |config, _, _| Engine::kubernetes(config, server.cluster()))
}

/// Another replica over the volumes of a service.
fn replica(bench: &Bench, server: &Server) -> ClusterJobs {
    ClusterJobs::new(Trainers::new(server.cluster()), bench.volumes.clone())
}

async fn start(bench: &Bench) -> Run {
    let answer = bench.post_json("/api/runs", &json!({"dataset": bench.dataset().manifest.id})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    bench.volumes.run(answer.json::<Value>()["id"].as_str().unwrap()).unwrap()
}

fn job(run: &Run) -> String {
    format!("train-{}", run.id())
}

fn creations(server: &Server) -> usize {
    server.requests().iter().filter(|request| **request == format!("POST {JOBS}")).count()
}

#[tokio::test]
async fn a_run_is_a_job_and_what_keeps_it_is_on_its_page() {
    let (bench, server) = bench().await;
    let run = start(&bench).await;
    assert_eq!(server.names(JOBS), [job(&run)]);
    let waits = json!({"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}});
    pod(&server, &job(&run), container("Pending", waits));
    let path = format!("/api/runs/{}", run.id());
    let said = "the image fovea/trainer:1 cannot be pulled: manifest unknown";
    let view = loop {
        let view: Value = bench.get(&path).await.json();
        if view["hindrance"].as_str().is_some_and(|told| told.starts_with(said)) {
            break view;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(view["status"]["state"], "queued");
    for path in [format!("/runs/{}", run.id()), format!("/runs/{}/live", run.id())] {
        assert!(bench.get(&path).await.text().contains(said), "{path}");
    }
}

#[tokio::test]
async fn a_trainer_that_ran_out_of_memory_leaves_a_sentence_and_its_log() {
    let (bench, server) = bench().await;
    let run = start(&bench).await;
    let killed = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137, "message": "epoch 3"}});
    pod(&server, &job(&run), container("Failed", killed));
    server.say(&format!("{PODS}/{}-x/log", job(&run)), "epoch 2\nepoch 3\n");
    let log = format!("/api/runs/{}/log", run.id());
    assert_eq!(bench.get(&log).await.text(), "epoch 2\nepoch 3\n", "from the pod");
    end(&server, &job(&run), "Failed", "BackoffLimitExceeded");
    let reason = bench.until(run.id(), RunState::Failed).await.reason.unwrap();
    assert!(reason.contains("limit of 2Gi") && reason.ends_with("its last words: epoch 3"), "{reason}");
    server.remove(PODS, &format!("{}-x", job(&run)));
    assert_eq!(bench.get(&log).await.text(), "epoch 2\nepoch 3\n", "from the run's folder");
}

#[tokio::test]
async fn what_a_trainer_wrote_stands_whatever_becomes_of_its_job() {
    let (bench, server) = bench().await;
    let run = start(&bench).await;
    run.write_status(&status(RunState::Succeeded)).unwrap();
    end(&server, &job(&run), "Failed", "BackoffLimitExceeded");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(run.written_status().unwrap().state, RunState::Succeeded);
}

#[tokio::test]
async fn a_cancelled_run_loses_its_job_and_gets_no_other() {
    let (bench, server) = bench().await;
    let run = start(&bench).await;
    let answer = bench.post(&format!("/api/runs/{}/cancel", run.id()), "", "").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    let status = bench.until(run.id(), RunState::Cancelled).await;
    assert_eq!(status.reason.as_deref(), Some("cancelled"));
    assert!(server.names(JOBS).is_empty());
    assert_eq!(creations(&server), 1);
}

#[tokio::test]
async fn a_restarted_service_finds_its_runs_again() {
    let server = Server::start().await;
    templates(&server);
    let bench = on(&server);
    let dataset = bench.dataset();
    let [waiting, working, dead, lost] = [(); 4].map(|()| bench.queued_run(&dataset));
    for run in [&working, &dead] {
        Trainers::new(server.cluster()).start(run.id(), 1).await.unwrap();
    }
    let lock = working.lock().unwrap();
    for run in [&working, &dead, &lost] {
        run.write_status(&RunStatus { attempts: MAX_ATTEMPTS, ..status(RunState::Running) }).unwrap();
    }
    pod(&server, &job(&working), container("Running", json!({"running": {}})));
    end(&server, &job(&dead), "Failed", "DeadlineExceeded");

    bench.state.launcher.recover().await.unwrap();
    let reason = bench.until(dead.id(), RunState::Failed).await.reason.unwrap();
    assert!(reason.contains("its deadline"), "{reason}");
    let reason = bench.until(lost.id(), RunState::Failed).await.reason.unwrap();
    assert!(reason.starts_with("the trainer's Job is gone"), "{reason}");
    eventually("the waiting run has a Job", || server.get(JOBS, &job(&waiting))).await;
    assert_eq!(working.written_status().unwrap().state, RunState::Running);
    drop(lock);
    end(&server, &job(&working), "Complete", "CompletionsReached");
    let reason = bench.until(working.id(), RunState::Failed).await.reason.unwrap();
    assert_eq!(reason, "the trainer ended without finishing the run");
}

#[tokio::test]
async fn a_run_whose_pod_was_taken_away_gets_another_job_and_one_that_failed_by_itself_does_not() {
    let (bench, server) = bench().await;
    let run = start(&bench).await;
    let began = |n| run.write_status(&RunStatus { attempts: n, ..status(RunState::Running) }).unwrap();
    began(1);
    let drained = json!({"phase": "Failed", "reason": "NodeShutdown", "message": "node n1 goes down"});
    pod(&server, &job(&run), drained);
    end(&server, &job(&run), "Failed", "BackoffLimitExceeded");
    let second = format!("{}-2", job(&run));
    eventually("there is a second Job", || server.get(JOBS, &second)).await;
    assert_eq!(run.status().unwrap().state, RunState::Queued);
    began(2);
    let broken = json!({"terminated": {"reason": "Error", "exitCode": 1, "message": "the disk is full"}});
    pod(&server, &second, container("Failed", broken));
    end(&server, &second, "Failed", "BackoffLimitExceeded");
    let reason = bench.until(run.id(), RunState::Failed).await.reason.unwrap();
    assert_eq!(reason, "the trainer ended with exit code 1; its last words: the disk is full");
    assert_eq!(creations(&server), 2);
}

#[tokio::test]
async fn a_second_attempt_that_never_begins_is_the_last() {
    let (bench, server) = bench().await;
    let run = start(&bench).await;
    run.write_status(&RunStatus { attempts: 1, ..status(RunState::Running) }).unwrap();
    server.remove(JOBS, &job(&run));
    let second = format!("{}-2", job(&run));
    eventually("there is a second Job", || server.get(JOBS, &second)).await;
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "disk pressure"});
    pod(&server, &second, evicted);
    end(&server, &second, "Failed", "BackoffLimitExceeded");
    let reason = bench.until(run.id(), RunState::Failed).await.reason.unwrap();
    assert!(reason.starts_with("the node evicted the trainer: disk pressure"), "{reason}");
}

#[tokio::test]
async fn two_replicas_agree_and_a_run_is_marked_once() {
    let (bench, server) = bench().await;
    let other = replica(&bench, &server);
    other.recover().await.unwrap();
    let run = start(&bench).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(server.names(JOBS), [job(&run)]);
    // Both may have asked for it at the same moment; one of them was told that it is there.
    let asked = creations(&server);
    end(&server, &job(&run), "Failed", "DeadlineExceeded");
    let first = bench.until(run.id(), RunState::Failed).await;
    server.remove(JOBS, &job(&run));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(run.written_status().unwrap(), first, "who comes second changes nothing");
    assert_eq!(creations(&server), asked, "what has ended is not begun again");
}

#[tokio::test]
async fn a_run_that_another_replica_took_on_is_begun_by_who_lives() {
    let (bench, server) = bench().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Its replica died between making the run and making its Job.
    let run = bench.queued_run(&bench.dataset());
    eventually("it has a Job", || server.get(JOBS, &job(&run))).await;
}

#[tokio::test]
async fn a_missing_permission_ends_a_run_with_the_verb_that_is_missing() {
    let (bench, server) = bench().await;
    let message = "jobs.batch is forbidden: User \"system:serviceaccount:ml-app:web\" cannot create resource \"jobs\" in \
                   API group \"batch\" in the namespace \"ml-app\"";
    server.refuse(Method::POST, JOBS, 1, 403, "Forbidden", message);
    let run = start(&bench).await;
    let reason = bench.until(run.id(), RunState::Failed).await.reason.unwrap();
    assert!(reason.contains("add the verb create for jobs to its Role"), "{reason}");
}

#[tokio::test]
async fn a_cluster_that_is_away_for_a_moment_delays_a_run() {
    let (bench, server) = bench().await;
    // Each attempt is three tries.
    server.refuse(Method::POST, JOBS, 4, 503, "ServiceUnavailable", "etcd is away");
    let run = start(&bench).await;
    let told = bench.state.launcher.hindrance(run.id()).unwrap();
    assert!(told.contains("etcd is away") && told.ends_with("try again"), "{told}");
    eventually("it has a Job", || server.get(JOBS, &job(&run))).await;
    assert_eq!(run.written_status().unwrap().state, RunState::Queued);
}

#[tokio::test]
async fn stopping_the_service_leaves_trainers_alone() {
    let (bench, server) = bench().await;
    let run = start(&bench).await;
    bench.state.launcher.shutdown(Duration::from_secs(5)).await;
    assert_eq!(server.names(JOBS), [job(&run)]);
    assert!(!run.cancel_requested());
}

async fn put(bench: &Bench, body: &Value) -> Answer {
    let request =
        request(Method::PUT, "/api/models/classifier/current").header(header::CONTENT_TYPE, "application/json");
    bench.send(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn a_canary_is_published_promoted_and_shown_as_the_cluster_tells_it() {
    let (bench, server) = bench().await;
    let dataset = bench.dataset();
    let run = format!("/runs/{}", bench.finished_run(&dataset).id());
    bench.model(&dataset);
    bench.model(&dataset);
    assert!(bench.get(&run).await.text().contains(">not in use</span>"));
    for (version, percent, shown) in [(1, 100, &["in use"][..]), (2, 20, &["20 % of requests", "80 % of requests"])] {
        let taken = put(&bench, &json!({"version": version, "percent": percent})).await;
        assert_eq!(taken.status, StatusCode::ACCEPTED, "{}", taken.text());
        let view: Value = bench.get("/api/models/classifier").await.json();
        assert_eq!(view["publications"][0]["stage"], "baking");
        let page = bench.get(&run).await.text();
        assert!(page.contains(if version == 1 { ">baking</span>" } else { ">in use</span>" }), "{page}");
        assert!(page.contains("Classify with it") && !page.contains("Put into use"), "pictures wait: {page}");
        let bake = format!("bake-classifier-v{version}");
        end(&server, &bake, "Complete", "CompletionsReached");
        eventually("it is published", || server.get(JOBS, &bake).is_none().then_some(())).await;
        reconcile(&server, "True");
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let page = bench.get("/models").await.text();
        for text in shown {
            assert!(page.contains(text), "no {text:?} in {page}");
        }
    }
    let view: Value = bench.get("/api/models/classifier").await.json();
    assert_eq!(view["shares"], json!([{"version": 2, "percent": 20}, {"version": 1, "percent": 80}]));
    assert!(bench.get("/").await.text().contains("classifier v1"), "most requests are its");

    let promoted =
        bench.post("/models/classifier/current", "application/x-www-form-urlencoded", "version=2&percent=100");
    assert_eq!(promoted.await.status, StatusCode::SEE_OTHER);
    assert_eq!(traffic(&server), [(None, 100)]);
    assert_eq!(bench.volumes.current("classifier").unwrap(), Some(2));
}

#[tokio::test]
async fn a_percentage_out_of_range_and_a_version_that_is_not_there_are_refused() {
    let (bench, server) = bench().await;
    bench.model(&bench.dataset());
    let refused = put(&bench, &json!({"version": 1, "percent": 0})).await.error();
    assert_eq!((refused.code, refused.message.as_str()), (ErrorCode::Unprocessable, "percent is 0; expected 1 to 100"));
    assert_eq!(put(&bench, &json!({"version": 9})).await.error().message, "model classifier has no version 9");
    assert!(server.names(JOBS).is_empty());
}

#[tokio::test]
async fn a_publication_that_does_not_go_on_says_why() {
    let (bench, server) = bench().await;
    bench.model(&bench.dataset());
    let message = "services.serving.knative.dev \"inference\" is forbidden: User \"web\" cannot patch resource \"services\" \
                   in API group \"serving.knative.dev\" in the namespace \"ml-app\"";
    server.refuse(Method::PATCH, SERVICES, 100, 403, "Forbidden", message);
    put(&bench, &json!({"version": 1})).await;
    end(&server, "bake-classifier-v1", "Complete", "CompletionsReached");
    let told = loop {
        let status: Status = bench.get("/api/functions").await.json();
        if let Some(publication) = status.publications.into_iter().find(|p| p.reason.is_some()) {
            break publication;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(told.stage, Stage::Baking);
    assert!(told.reason.unwrap().contains("web may not patch services (API group serving.knative.dev)"));
}

#[tokio::test]
async fn the_first_version_is_published_by_itself() {
    let (bench, server) = bench().await;
    bench.model(&bench.dataset());
    bench.volumes.set_current("classifier", 1).unwrap();
    eventually("it is being baked", || server.get(JOBS, "bake-classifier-v1")).await;
    assert!(server.names(EVENTS).is_empty());
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_the_service_is_part_of_the_diagnosis() {
    let (well, _server) = bench().await;
    let told: Diagnosis = well.get("/api/diagnosis").await.json();
    assert_eq!(told.cluster, None);
    let server = Server::start().await;
    server.refuse(Method::GET, SERVICES, u32::MAX, 503, "ServiceUnavailable", "etcd is away");
    let told: Diagnosis = on(&server).get("/api/diagnosis").await.json();
    assert!(told.cluster.as_ref().is_some_and(|problem| problem.contains("etcd is away")), "{told:?}");
}
