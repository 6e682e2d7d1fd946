//! Trainer Jobs: made once whoever makes them, found again, and what keeps or ends them in sentences.

use axum::http::Method;
use cluster::{JobState, error::Refusal, trainers::Trainers};
use serde_json::{Value, json};

use crate::{
    server::{JOBS, PODS, Server, TEMPLATES},
    stage::{container, end, pod, templates, warn},
};

const RUN: &str = "20261123-064512-123";
const JOB: &str = "train-20261123-064512-123";

async fn bench() -> (Server, Trainers) {
    let server = Server::start().await;
    templates(&server);
    let trainers = Trainers::new(server.cluster());
    (server, trainers)
}

async fn state(trainers: &Trainers) -> JobState {
    let mut jobs = trainers.observe().await.unwrap();
    assert_eq!(jobs.len(), 1);
    jobs.remove(0).state
}

#[tokio::test]
async fn a_job_is_the_template_with_its_run() {
    let (server, trainers) = bench().await;
    assert!(trainers.start(RUN, 1).await.unwrap());
    let job = server.get(JOBS, JOB).unwrap();
    let spec = format!("--spec=/models/runs/{RUN}/run.json");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["--datasets=/data", "--models=/models", spec, "--keep-current"]));
    assert_eq!(container["image"], "fovea/trainer:1");
    assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError");
    assert_eq!((&job["spec"]["backoffLimit"], &job["spec"]["activeDeadlineSeconds"]), (&json!(0), &json!(3600)));
    assert_eq!(job["metadata"]["annotations"]["fovea.dev/run"], RUN);
    assert_eq!(job["metadata"]["labels"]["app.kubernetes.io/name"], "train", "the template's own labels stay");
}

#[tokio::test]
async fn two_replicas_that_start_a_run_start_it_once() {
    let (server, one) = bench().await;
    let two = Trainers::new(server.cluster());
    let (first, second) = tokio::join!(one.start(RUN, 1), two.start(RUN, 1));
    assert_ne!(first.unwrap(), second.unwrap(), "one of them made it");
    assert_eq!(server.names(JOBS), [JOB]);
}

#[tokio::test]
async fn jobs_are_found_again_by_who_never_made_them() {
    let (server, trainers) = bench().await;
    trainers.start(RUN, 1).await.unwrap();
    server.put(JOBS, json!({"metadata": {"name": "someone-elses"}, "spec": {"template": {}}}));
    pod(&server, JOB, container("Running", json!({"running": {}})));
    let restarted = Trainers::new(server.cluster());
    let jobs = restarted.observe().await.unwrap();
    assert_eq!(jobs.iter().map(|job| (job.run.as_str(), &job.state)).collect::<Vec<_>>(), [(RUN, &JobState::Running)]);
    end(&server, JOB, "Complete", "CompletionsReached");
    assert_eq!(state(&restarted).await, JobState::Succeeded);
}

#[tokio::test]
async fn cancelling_deletes_the_job_and_twice_is_no_error() {
    let (server, trainers) = bench().await;
    trainers.start(RUN, 1).await.unwrap();
    pod(&server, JOB, container("Running", json!({"running": {}})));
    trainers.cancel(RUN, 1).await.unwrap();
    assert!(server.names(JOBS).is_empty() && server.names(PODS).is_empty());
    trainers.cancel(RUN, 1).await.unwrap();
}

#[track_caller]
fn says(state: &JobState, parts: &[&str]) {
    let (JobState::Waiting(Some(said)) | JobState::Failed(said)) = state else { panic!("{state:?} says nothing") };
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {said:?}");
    }
}

#[tokio::test]
async fn what_keeps_a_trainer_from_beginning_is_said_while_it_waits() {
    let unschedulable = |message: &str| {
        let condition =
            json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]);
        json!({"phase": "Pending", "conditions": condition})
    };
    let waiting =
        |reason: &str, message: &str| container("Pending", json!({"waiting": {"reason": reason, "message": message}}));
    let stories: [(Value, &[&str]); 6] = [
        (
            unschedulable("0/1 nodes are available: 1 Insufficient cpu."),
            &["a node with room", "Insufficient cpu", "CronJob train"],
        ),
        (
            unschedulable("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
            &["cannot get its volumes", "unbound immediate", "kubectl get pvc"],
        ),
        (
            waiting("ImagePullBackOff", "manifest unknown"),
            &["fovea/trainer:1 cannot be pulled", "manifest unknown", "push it"],
        ),
        (waiting("ErrImageNeverPull", "not present"), &["minikube image load fovea/trainer:1"]),
        (waiting("InvalidImageName", "couldn't parse"), &["not valid", "mend it"]),
        (waiting("CreateContainerConfigError", "secret \"x\" not found"), &["secret \"x\" not found", "fovea doctor"]),
    ];
    for (status, parts) in stories {
        let (server, trainers) = bench().await;
        trainers.start(RUN, 1).await.unwrap();
        pod(&server, JOB, status);
        let state = state(&trainers).await;
        assert!(matches!(state, JobState::Waiting(_)), "{state:?}");
        says(&state, parts);
    }
}

#[tokio::test]
async fn what_only_events_tell_is_said_too() {
    let (server, trainers) = bench().await;
    trainers.start(RUN, 1).await.unwrap();
    assert_eq!(state(&trainers).await, JobState::Waiting(None));
    warn(&server, JOB, "FailedCreate", "pods \"x\" is forbidden: exceeded quota: team");
    says(&state(&trainers).await, &["no pod can be made for the trainer", "exceeded quota: team"]);

    pod(&server, JOB, container("Pending", json!({"waiting": {"reason": "ContainerCreating"}})));
    warn(&server, "unrelated", "FailedMount", "not ours");
    warn(&server, &format!("{JOB}-x"), "FailedMount", "MountVolume.SetUp failed for volume \"data\": no such host nfs");
    says(&state(&trainers).await, &["cannot get its volumes", "no such host nfs"]);
}

#[tokio::test]
async fn how_a_trainer_failed_becomes_a_sentence() {
    let terminated = |reason: &str, code: i32, message: &str| {
        container("Failed", json!({"terminated": {"reason": reason, "exitCode": code, "message": message}}))
    };
    let disrupted = json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}]);
    let stories: [(Value, &[&str]); 7] = [
        (
            terminated("OOMKilled", 137, "epoch 3\nlogits\n"),
            &["limit of 2Gi", "OOMKilled", "smaller batches", "its last words: logits"],
        ),
        (
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
            &["evicted", "low on resource: memory", "try again"],
        ),
        (json!({"phase": "Failed", "conditions": disrupted}), &["its node was drained", "Eviction API", "try again"]),
        (
            json!({"phase": "Failed", "reason": "NodeLost", "message": "Node n1 is gone"}),
            &["node went away", "Node n1 is gone"],
        ),
        (
            terminated("Error", 1, "cannot read /data: Permission denied"),
            &["exit code 1", "its last words: cannot read /data: Permission denied"],
        ),
        (
            terminated("StartError", 128, "exec format error"),
            &["could not be started", "kind of machine", "exec format error"],
        ),
        (terminated("Error", 143, ""), &["SIGTERM", "deleted its pod"]),
    ];
    for (status, parts) in stories {
        let (server, trainers) = bench().await;
        trainers.start(RUN, 1).await.unwrap();
        pod(&server, JOB, status);
        end(&server, JOB, "Failed", "BackoffLimitExceeded");
        let state = state(&trainers).await;
        assert!(matches!(state, JobState::Failed(_)), "{state:?}");
        says(&state, parts);
    }
}

#[tokio::test]
async fn a_job_that_ended_without_a_trace_of_its_pod_still_says_why() {
    let (server, trainers) = bench().await;
    trainers.start(RUN, 1).await.unwrap();
    end(&server, JOB, "Failed", "DeadlineExceeded");
    says(&state(&trainers).await, &["after 3600 s, its deadline", "activeDeadlineSeconds"]);
    end(&server, JOB, "Failed", "BackoffLimitExceeded");
    says(&state(&trainers).await, &["its pod is gone", "Job has reached its end"]);
}

#[tokio::test]
async fn refusals_say_who_may_not_do_what_and_what_mends_it() {
    let (server, trainers) = bench().await;
    let message = "jobs.batch is forbidden: User \"system:serviceaccount:ml-app:web\" cannot create resource \"jobs\" in \
                   API group \"batch\" in the namespace \"ml-app\"";
    server.refuse(Method::POST, JOBS, 1, 403, "Forbidden", message);
    let error = trainers.start(RUN, 1).await.unwrap_err();
    assert!(error.is(Refusal::Forbidden) && !error.is_passing());
    assert!(error.to_string().contains("add the verb create for jobs"), "{error}");

    server.refuse(
        Method::POST,
        JOBS,
        1,
        422,
        "Invalid",
        "Job is invalid: spec.template.spec.containers: Required value",
    );
    let error = trainers.start(RUN, 1).await.unwrap_err();
    assert_eq!(error.to_string(), "Job is invalid: spec.template.spec.containers: Required value");

    server.remove(TEMPLATES, "train");
    let error = trainers.start(RUN, 1).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no cronjob train in namespace ml-app; apply the manifests of knative/");
}

#[tokio::test]
async fn a_template_that_does_not_say_where_the_models_are_is_refused_before_any_job() {
    let (server, trainers) = bench().await;
    server.edit(TEMPLATES, "train", |template| {
        template["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"] = json!([]);
    });
    let error = trainers.start(RUN, 1).await.unwrap_err().to_string();
    assert!(error.contains("CronJob) train must have an argument --models="), "{error}");
    assert!(server.names(JOBS).is_empty());
}

#[tokio::test]
async fn a_server_that_is_away_is_told_as_that_and_may_be_asked_again() {
    let cluster = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let error = Trainers::new(cluster::Cluster::new(cluster, "ml-app")).observe().await.unwrap_err();
    assert!(error.is_passing());
    assert!(error.to_string().starts_with("the Kubernetes API server does not answer (Connection refused"), "{error}");
}

#[tokio::test]
async fn the_log_is_the_newest_pods_and_its_last_whole_lines() {
    let (server, trainers) = bench().await;
    assert_eq!(trainers.log(RUN, 1, 100).await.unwrap(), "", "there is no pod");
    trainers.start(RUN, 1).await.unwrap();
    pod(&server, JOB, container("Running", json!({"running": {}})));
    server.say(&format!("{PODS}/{JOB}-x/log"), "first line\nsecond line\n");
    assert_eq!(trainers.log(RUN, 1, 100).await.unwrap(), "first line\nsecond line\n");
    assert_eq!(trainers.log(RUN, 1, 15).await.unwrap(), "second line\n");
}
