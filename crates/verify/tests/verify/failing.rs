//! Each way in which something does not hold, what is told of it, and what is left behind: nothing.

use std::time::Duration;

use axum::http::Method;
use serde_json::json;
use tokio::time::sleep;
use verify::report::{Outcome, Report, Step};

use crate::{
    foundations::set,
    server::status,
    world::{Fault, NAMESPACE, NAMESPACES, World, inside},
};

fn failed(report: &Report) -> Vec<&'static str> {
    let failed = report.steps.iter().filter(|step| step.outcome == Outcome::Failed);
    failed.map(|step| step.step).collect()
}

/// The step that fails where this goes wrong: no other does, and everything is removed.
async fn fails_alone(fault: Fault, step: &'static str, flags: &[&str]) -> (Report, Step) {
    let world = World::new(fault);
    let report = world.verify(flags).await;
    assert_eq!(failed(&report), [step], "{report}");
    assert_eq!(report.exit_code(), 1);
    assert_eq!(report.step("clean up").unwrap().outcome, Outcome::Held);
    assert!(world.is_empty());
    let step = report.step(step).unwrap().clone();
    (report, step)
}

#[track_caller]
fn contains(lines: &[String], part: &str) {
    assert!(lines.iter().any(|line| line.contains(part)), "{part:?} is not in {lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_takes_bad_manifests_fails_and_each_is_named() {
    let (report, step) = fails_alone(Fault::TakesEveryManifest, "bad manifests", &[]).await;
    assert!(step.told.says.starts_with("10 of 11 were not refused as they should be: "), "{}", step.told.says);
    contains(&step.told.seen, "containerConcurrency −1: it was taken");
    assert!(!step.told.says.contains("sees the node"), "{}", step.told.says);
    assert_eq!(report.step("roll back").unwrap().outcome, Outcome::Held, "the rest is tried all the same");
}

#[tokio::test(start_paused = true)]
async fn refusing_everything_is_no_refusal_of_what_is_wrong() {
    let world = World::new(None);
    let services = inside("serving.knative.dev/v1", "services");
    world.server.refuse(Method::POST, &services, u32::MAX, 403, "Forbidden", "you may not");
    let report = world.verify(&[]).await;
    let step = report.step("bad manifests").unwrap();
    let says = "the function as it should be was refused, in a dry run: you may not";
    assert_eq!((step.outcome, step.told.says.as_str()), (Outcome::Failed, says));
}

#[tokio::test(start_paused = true)]
async fn a_bad_manifest_that_is_refused_for_something_else_counts_as_taken() {
    let world = World::new(None);
    world.server.on(&inside("serving.knative.dev/v1", "services"), |_, asked| {
        let is_bad = String::from_utf8_lossy(&asked.body).contains("\"name\":\"refused\"");
        (asked.method == Method::POST && is_bad).then(|| status(403, "Forbidden", "exceeded quota"))
    });
    let report = world.verify(&[]).await;
    let told = &report.step("bad manifests").unwrap().told;
    assert!(told.says.starts_with("10 of 11 were not refused as they should be: "), "{}", told.says);
    contains(&told.seen, "an unknown field: it was refused, but not with \"unknown field\": exceeded quota");
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_runs_out_of_memory_tells_so_with_its_log_and_its_pod() {
    let world = World::new(Fault::TrainerOutOfMemory);
    world.server.say(&inside("", "pods/train-run-1-x/log"), "features 12 of 52\n");
    world.server.put(
        &inside("", "events"),
        json!({
            "metadata": {"name": "e1"}, "type": "Warning", "reason": "OOMKilling", "message": "Memory cgroup out of memory",
            "involvedObject": {"kind": "Pod", "name": "train-run-1-x"}, "lastTimestamp": "2026-11-23T06:46:00Z", "count": 2,
        }),
    );
    let report = world.verify(&[]).await;
    assert_eq!((failed(&report), report.exit_code()), (vec!["training"], 1));
    let told = &report.step("training").unwrap().told;
    assert!(told.says.contains("needed more memory than its limit of 4Gi"), "{}", told.says);
    contains(&told.seen, "trainer: features 12 of 52");
    contains(&told.seen, "pod train-run-1-x: Pending; trainer ended with exit code 137 (OOMKilled)");
    contains(&told.seen, "job train-run-1 failed: BackoffLimitExceeded");
    contains(
        &told.seen,
        "event at 2026-11-23T06:46:00Z: pod train-run-1-x: OOMKilling: Memory cgroup out of memory (2 times)",
    );
    contains(&told.mend, "kubectl --kubeconfig k.yaml -n other get events --sort-by .lastTimestamp");
    let skipped = report.step("burst").unwrap();
    assert_eq!(
        (skipped.outcome, skipped.told.says.as_str()),
        (Outcome::Skipped, "not tried, for \"training\" did not hold")
    );
    assert!(world.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pods_that_stay_are_named_and_the_cold_request_is_not_tried() {
    let world = World::new(Fault::NeverAtZero);
    let report = world.verify(&[]).await;
    assert_eq!(failed(&report), ["to zero", "to zero again"]);
    let told = &report.step("to zero").unwrap().told;
    assert!(told.says.starts_with("zero pods: not within 6 min: "), "{}", told.says);
    assert!(told.says.contains("inference-00001-0 Running"), "{}", told.says);
    contains(&told.seen, "config-autoscaler: stable-window: 60s");
    assert!(told.seen.iter().all(|line| !line.contains("_example")), "{:?}", told.seen);
    assert_eq!(report.step("cold request").unwrap().told.says, "not tried, for pods are left");
    assert_eq!(report.step("burst").unwrap().outcome, Outcome::Held);
    assert!(world.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_burst_with_a_503_fails_and_counts_them() {
    let (_, step) = fails_alone(Fault::RefusesInBurst, "burst", &[]).await;
    assert!(step.told.says.ends_with(" × 503 Service Unavailable: no healthy upstream"), "{}", step.told.says);
    assert!(step.seconds >= 10.0, "it goes on, so that the count says something");
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_brings_no_second_pod_fails_after_its_time() {
    let (_, step) = fails_alone(Fault::NeverScalesOut, "burst", &["--burst-within", "40s"]).await;
    assert!(step.told.says.starts_with("a second pod: not within 40 s: "), "{}", step.told.says);
    assert!(step.told.says.ends_with("answers, 1 pods ready"), "{}", step.told.says);
}

#[tokio::test(start_paused = true)]
async fn a_split_that_is_far_off_fails_with_its_probability() {
    let (report, step) = fails_alone(Fault::SplitsEvenly, "canary", &[]).await;
    assert!(step.told.says.contains("of 400 requests") && step.told.says.contains("p = "), "{}", step.told.says);
    assert_eq!(report.step("promotion").unwrap().outcome, Outcome::Skipped);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_still_answers_after_it_was_rolled_back_fails() {
    let (_, step) = fails_alone(Fault::StaysAfterRollBack, "roll back", &[]).await;
    assert!(step.told.says.contains("v1"), "{}", step.told.says);
}

#[tokio::test(start_paused = true)]
async fn baking_that_fails_is_told_before_the_time_is_over() {
    let (_, step) = fails_alone(Fault::BakingFails, "serving", &[]).await;
    assert!(step.told.says.ends_with("v1 cannot be served: baking was killed by signal 9"), "{}", step.told.says);
    assert!(step.seconds < 300.0, "{}", step.seconds);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_nowhere_is_told_before_the_time_is_over() {
    let (report, step) = fails_alone(Fault::NoSuchImage, "ready", &[]).await;
    assert!(step.told.says.ends_with("web-1: ImagePullBackOff: no such image: web:0.1.0"), "{}", step.told.says);
    assert!(step.seconds < 300.0);
    contains(&step.told.seen, "function inference is not ready: Deploying: waiting for pods");
    assert!(report.to_string().contains("seen when \"ready\" failed:\n"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_knative_cannot_look_up_is_told_before_the_time_is_over() {
    let (_, step) = fails_alone(Fault::NoDigest, "ready", &[]).await;
    assert!(
        step.told.says.contains("inference: RevisionFailed: Unable to fetch image: certificate"),
        "{}",
        step.told.says
    );
    assert!(step.seconds < 300.0);
    contains(&step.told.seen, "revision preprocess-00001: RevisionFailed: Unable to fetch image");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_made_is_told_before_the_time_is_over() {
    let world = World::new(Fault::NoVolume);
    let message = "failed to provision volume with StorageClass \"standard\": MULTI_NODE_MULTI_WRITER is not supported";
    world.server.put(
        &inside("", "events"),
        json!({
            "metadata": {"name": "e1"}, "type": "Warning", "reason": "ProvisioningFailed", "message": message,
            "involvedObject": {"kind": "PersistentVolumeClaim", "name": "models"},
            "lastTimestamp": "2026-11-23T06:46:00Z",
        }),
    );
    let report = world.verify(&[]).await;
    assert_eq!(failed(&report), ["ready"], "{report}");
    let step = report.step("ready").unwrap();
    assert!(step.told.says.contains(&format!("no volume for the claim models: {message}")), "{}", step.told.says);
    assert!(step.seconds < 300.0, "{}", step.seconds);
}

#[tokio::test(start_paused = true)]
async fn a_web_that_is_cut_off_from_the_api_server_ends_the_run_at_once() {
    let (report, step) = fails_alone(Fault::WebCutOff, "doctor", &[]).await;
    assert!(step.told.says.contains("asks the Kubernetes API in vain"), "{}", step.told.says);
    contains(&step.told.mend, "edit networkpolicy web");
    let skipped = report.step("data set").unwrap();
    assert_eq!(skipped.told.says, "not tried, for \"doctor\" did not hold");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_nowhere_is_told_with_every_way_that_was_tried() {
    let world = World::new(None);
    world.server.edit("/api/v1/namespaces/kourier-system/services", "kourier", |service| service["status"] = json!({}));
    let report = world.verify(&[]).await;
    let says = &report.step("prediction").unwrap().told.says;
    assert!(says.contains("http://172.18.0.2:31080: connection refused"), "{says}");
    assert!(says.contains("a port forwarded to kourier-system/kourier: kubectl cannot be started"), "{says}");
    assert_eq!(failed(&report), ["prediction"]);
}

/// What the cluster lacks, and what is told of it; nothing is made.
#[tokio::test(start_paused = true)]
async fn what_is_missing_ends_a_run_before_anything_is_made() {
    type Story = (fn(&World), &'static [&'static str], &'static str, &'static str);
    let stories: [Story; 9] = [
        (
            |world| set(&world.server, "config-features", json!({})),
            &[],
            "kubernetes.podspec-persistent-volume-claim is off",
            "patch configmap config-features",
        ),
        (
            |world| {
                set(&world.server, "config-network", json!({"ingress-class": "contour.ingress.networking.knative.dev"}))
            },
            &[],
            "ingress: ",
            "kourier.ingress.networking.knative.dev",
        ),
        (
            |world| set(&world.server, "config-autoscaler", json!({"enable-scale-to-zero": "false"})),
            &[],
            "it is turned off in config-autoscaler",
            "\"enable-scale-to-zero\":\"true\"",
        ),
        (|_| {}, &["--storage-class", "nfs"], "there is no storage class nfs; there are: standard", "--storage-class"),
        (
            |_| {},
            &["--registry", "localhost:5000"],
            "the registry at localhost:5000 does not tell the digest of fovea/inference:0.1.0: connection refused",
            "docker push localhost:5000/fovea/inference:0.1.0",
        ),
        (
            |_| {},
            &["--pull-secret", "team/regcred"],
            "there is no Secret regcred in namespace team",
            "-n team create secret docker-registry regcred",
        ),
        (
            |world| {
                world.server.put("/api/v1/nodes", json!({"metadata": {"name": "two"}}));
                let classes = "/apis/storage.k8s.io/v1/storageclasses";
                world.server.edit(classes, "standard", |class| class["provisioner"] = json!("ebs.csi.aws.com"));
            },
            &[],
            "a volume of storage class standard (ebs.csi.aws.com) is attached to one node at a time, and 2 nodes take",
            "--node one has everything on that node",
        ),
        (|_| {}, &["--node", "one"], "kubernetes.podspec-nodeselector is off", "podspec-nodeselector\":\"enabled"),
        (
            |world| world.server.remove("/apis/apps/v1/namespaces/knative-serving/deployments", "webhook"),
            &[],
            "its deployment webhook is missing",
            "kubectl",
        ),
    ];
    for (break_it, flags, says, mend) in stories {
        let world = World::new(None);
        break_it(&world);
        let report = world.verify(flags).await;
        assert_eq!((failed(&report), report.exit_code()), (vec!["preconditions"], 2), "{report}");
        let told = &report.step("preconditions").unwrap().told;
        assert!(told.says.contains(says), "{:?} is not in {:?}", says, told.says);
        contains(&told.mend, mend);
        assert_eq!(world.changes(), Vec::<String>::new());
        assert_eq!(report.step("clean up").unwrap().told.says, "nothing was made");
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_there_is_neither_used_nor_removed() {
    let labels = |run: &str| json!({"app.kubernetes.io/managed-by": "fovea-verify", "fovea.dev/verify-run": run});
    for (labels, says) in [
        (json!({}), "this run did not make it"),
        (labels("fff000"), "is of the run fff000, which may still be at work"),
    ] {
        let world = World::new(None);
        world.server.put(NAMESPACES, json!({"metadata": {"name": NAMESPACE, "labels": labels}}));
        let before = world.server.get(NAMESPACES, NAMESPACE);
        let report = world.verify(&[]).await;
        assert_eq!((failed(&report), report.exit_code()), (vec!["namespace"], 2), "{report}");
        let told = &report.step("namespace").unwrap().told;
        assert!(told.says.contains(says), "{}", told.says);
        assert!(report.step("clean up").unwrap().told.says.ends_with("was left alone"), "{report}");
        assert_eq!(world.changes(), [format!("POST {NAMESPACES}")], "the attempt to make it");
        assert_eq!(world.server.get(NAMESPACES, NAMESPACE), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_became_somebody_elses_is_left_alone() {
    let world = World::new(None);
    let namespace = format!("{NAMESPACES}/{NAMESPACE}");
    // Somebody takes it over while the run is at work, and the cluster refuses what the run does there.
    world.server.on(&format!("{namespace}/secrets"), |objects, _| {
        objects.put(NAMESPACES, json!({"metadata": {"name": NAMESPACE, "labels": {"team": "other"}}}));
        Some(status(422, "Invalid", "not here"))
    });
    let report = world.verify(&[]).await;
    assert_eq!(failed(&report), ["manifests"]);
    assert!(report.step("clean up").unwrap().told.says.ends_with("is not of this run, and was left alone"), "{report}");
    assert!(world.changes().iter().all(|request| !request.starts_with("DELETE")));
}

#[tokio::test(start_paused = true)]
async fn an_interruption_removes_what_was_made_by_then() {
    for (after, step) in [(5, "ready"), (60, "training"), (150, "to zero")] {
        let world = World::new(None);
        let report = verify::verify(&world.run(&[]), sleep(Duration::from_secs(after))).await;
        assert_eq!(failed(&report), [step], "{report}");
        assert_eq!(report.step(step).unwrap().told.says, "interrupted");
        assert_eq!((report.step("clean up").unwrap().outcome, report.exit_code()), (Outcome::Held, 1));
        assert!(world.is_empty(), "interrupted after {after} s");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interruption_before_anything_is_made_removes_nothing() {
    let world = World::new(None);
    let report = verify::verify(&world.run(&[]), std::future::ready(())).await;
    assert_eq!((report.step("clean up").unwrap().outcome, report.exit_code()), (Outcome::Skipped, 2));
    assert_eq!(world.changes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_does_not_go_is_told_with_what_keeps_it() {
    let world = World::new(None);
    world.server.at(Method::DELETE, &format!("{NAMESPACES}/{NAMESPACE}"), |objects| {
        let mut namespace = objects.find(NAMESPACES, NAMESPACE);
        let message = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
        namespace["status"]["conditions"] = json!([{
            "type": "NamespaceFinalizersRemaining", "status": "True", "reason": "SomeFinalizersRemain", "message": message,
            "lastTransitionTime": "2026-11-23T06:45:12Z",
        }]);
        objects.put(NAMESPACES, namespace.clone());
        Some(axum::response::IntoResponse::into_response(axum::Json(namespace)))
    });
    let report = world.verify(&["--clean-within", "30s"]).await;
    assert_eq!((failed(&report), report.exit_code()), (vec!["clean up"], 1));
    let told = &report.step("clean up").unwrap().told;
    assert!(told.says.contains("not within 30 s: Some content in the namespace has finalizers"), "{}", told.says);
    contains(&told.mend, "get namespace other -o yaml");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hesitates_is_asked_again() {
    let world = World::new(None);
    let hesitate = |method: Method, path: &str, times| {
        world.server.refuse(method, path, times, 503, "ServiceUnavailable", "the webhook is being started");
    };
    hesitate(Method::PATCH, &inside("serving.knative.dev/v1", "services/inference"), 5);
    // The first of them is the dry run of the good one.
    hesitate(Method::POST, &inside("serving.knative.dev/v1", "services"), 4);
    hesitate(Method::DELETE, &format!("{NAMESPACES}/{NAMESPACE}"), 3);
    let report = world.verify(&[]).await;
    assert_eq!(report.exit_code(), 0, "{report}");
    assert!(world.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_crashes_again_and_again_tells_its_last_words_of_before() {
    let world = World::new(Fault::WebCrashes);
    world.server.say(&inside("", "pods/web-1/log"), "error: cannot write to /data\n");
    let report = world.verify(&[]).await;
    let told = &report.step("ready").unwrap().told;
    assert!(told.says.ends_with("web-1: CrashLoopBackOff: back-off 40s"), "{}", told.says);
    contains(
        &told.seen,
        "web waits: CrashLoopBackOff: back-off 40s; web ended with exit code 1 (Error); web was restarted 3 times",
    );
    contains(&told.seen, "log before its restart of web-1/web ends:");
    contains(&told.seen, "    error: cannot write to /data");
}
