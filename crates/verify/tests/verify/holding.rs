//! Runs in which everything holds.

use std::time::Duration;

use serde_json::json;
use verify::report::{Outcome, STEPS};

use crate::{
    gateway::{COLD, DIGEST, PICTURE, REGISTRY},
    world::{Fault, HOST, IDLE, NAMESPACE, NAMESPACES, RUN, World, inside},
};

#[tokio::test(start_paused = true)]
async fn a_cluster_that_does_everything_holds_in_every_step_and_is_left_empty() {
    let world = World::new(None);
    let report = world.verify(&[]).await;
    let outcomes: Vec<_> = report.steps.iter().map(|step| (step.step, step.outcome)).collect();
    assert_eq!(outcomes, STEPS.map(|step| (step, Outcome::Held)), "{report}");
    assert_eq!(report.exit_code(), 0);
    assert!(world.is_empty());
    let says = |step: &str| report.step(step).unwrap().told.says.clone();
    assert!(says("preconditions").contains("Kubernetes v1.36.0 answers"), "{}", says("preconditions"));
    assert!(says("preconditions").ends_with("volumes: ReadWriteOnce, of storage class standard (csi.example.com)"));
    assert!(says("manifests").contains("registry.example.com/fovea/trainer:"), "{}", says("manifests"));
    assert!(says("data set").starts_with("ds-1: 72 pictures"), "{}", says("data set"));
    assert!(says("training").ends_with("v1 came of the Job train-run-1"), "{}", says("training"));
    assert!(says("prediction").contains(&format!(
        "20 of 20 pictures were classified rightly by v1, through http://10.1.2.3 with Host {HOST}"
    )));
    assert!(says("canary").starts_with("v2 answered "), "{}", says("canary"));
    assert!(says("promotion").ends_with("came from v2") && says("roll back").ends_with("came from v1"));
}

#[tokio::test(start_paused = true)]
async fn figures_are_those_of_the_cluster() {
    let report = World::new(None).verify(&["--split-requests", "1000"]).await;
    let figure = |step: &str, name: &str| report.step(step).unwrap().figures[name];
    let near = |seen: f64, expected: f64| (seen - expected).abs() < 0.005;
    assert!(near(figure("cold request", "cold_seconds"), (COLD + PICTURE).as_secs_f64()), "{report}");
    assert!(near(figure("cold request", "warm_seconds"), PICTURE.as_secs_f64()), "{report}");
    assert_eq!(figure("burst", "most_pods"), 4.0);
    assert!((figure("canary", "canary_ratio") - 0.2).abs() < 0.06);
    let zero = report.step("to zero again").unwrap().seconds;
    assert!((IDLE.as_secs_f64() - 2.0..IDLE.as_secs_f64() + 2.0).contains(&zero), "{zero}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_while_something_is_waited_for() {
    let world = World::new(None);
    world.verify(&[]).await;
    let told = world.told.borrow();
    for line in [
        "==> ready",
        "  waiting for the web: 0 of 1 pods are ready, 0.0 s",
        "  waiting for the trainer: the trainer waits for a node with room, 10 s",
        "  waiting for the split v1 80 %, v2 20 %: v2 is being baked, 20 s",
    ] {
        assert!(told.iter().any(|told| told == line), "{line:?} is not in {told:#?}");
    }
    let zero =
        told.iter().filter(|line| line.starts_with("  waiting for zero pods: 2 left (inference-00001-0 Running, "));
    assert!(zero.count() > 0, "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn all_that_is_made_lies_in_the_namespace_and_bears_the_runs_labels() {
    let world = World::new(None);
    let report = world.verify(&["--keep"]).await;
    assert_eq!((report.exit_code(), report.steps.last().unwrap().outcome), (0, Outcome::Skipped));
    assert!(report.steps.last().unwrap().told.says.ends_with("kubectl --kubeconfig k.yaml delete namespace other"));
    let outside = world.changes().into_iter().filter(|request| !request.contains(&format!("/namespaces/{NAMESPACE}/")));
    assert_eq!(outside.collect::<Vec<_>>(), [format!("POST {NAMESPACES}")]);
    for (collection, name) in [
        (NAMESPACES.to_owned(), NAMESPACE),
        (inside("", "secrets"), "artefact-key"),
        (inside("", "configmaps"), "app-config"),
        (inside("serving.knative.dev/v1", "services"), "inference"),
        (inside("networking.k8s.io/v1", "networkpolicies"), "functions"),
        (inside("policy/v1", "poddisruptionbudgets"), "web"),
    ] {
        let object = world.server.get(&collection, name).unwrap_or_else(|| panic!("there is no {collection}/{name}"));
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/managed-by"], "fovea-verify", "{object}");
        assert_eq!(labels["fovea.dev/verify-run"], RUN, "{object}");
    }
    let key = world.server.get(&inside("", "secrets"), "artefact-key").unwrap();
    assert_eq!(key["data"]["key"].as_str().unwrap().len(), 44, "32 bytes as base64");
    let level = &world.server.get(NAMESPACES, NAMESPACE).unwrap()["metadata"]["labels"];
    assert_eq!(level["pod-security.kubernetes.io/enforce"], "restricted");
}

#[tokio::test(start_paused = true)]
async fn volumes_that_their_class_keeps_are_told() {
    let world = World::new(None);
    for (name, namespace, policy) in
        [("pv-1", NAMESPACE, "Retain"), ("pv-2", NAMESPACE, "Delete"), ("pv-3", "another", "Retain")]
    {
        let claim = json!({"namespace": namespace, "name": "data"});
        let spec = json!({"claimRef": claim, "persistentVolumeReclaimPolicy": policy});
        world.server.put("/api/v1/persistentvolumes", json!({"metadata": {"name": name}, "spec": spec}));
    }
    let report = world.verify(&[]).await;
    let says = &report.step("clean up").unwrap().told.says;
    assert!(says.ends_with("for you to remove: kubectl --kubeconfig k.yaml delete persistentvolume pv-1"), "{says}");
    assert_eq!(world.server.names("/api/v1/persistentvolumes").len(), 3, "they are not this run's to remove");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_is_looked_for_where_its_service_is_and_where_it_was_told() {
    let world = World::new(None);
    world.server.edit("/api/v1/namespaces/kourier-system/services", "kourier", |service| {
        service["status"]["loadBalancer"] = json!({"ingress": [{"ip": "10.9.9.9"}, {"ip": "10.1.2.3"}]});
    });
    let report = world.verify(&[]).await;
    assert_eq!(report.exit_code(), 0, "{report}");
    assert!(world.told.borrow().iter().any(|line| line == "  not by http://10.9.9.9: connection refused"));
    let report = World::new(None).verify(&["--gateway", "10.1.2.3:31080"]).await;
    assert!(report.step("prediction").unwrap().told.says.contains("through http://10.1.2.3:31080"), "{report}");
    assert!(report.seconds < Duration::from_secs(3600).as_secs_f64());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_told_and_does_not_answer_is_told_and_another_way_taken() {
    let world = World::new(None);
    let report = world.verify(&["--gateway", "10.9.9.9"]).await;
    assert_eq!(report.exit_code(), 0, "{report}");
    assert!(report.step("prediction").unwrap().told.says.contains("through http://10.1.2.3 with"), "{report}");
    let told = world.told.borrow();
    assert!(told.contains(&"  not by http://10.9.9.9: connection refused".to_owned()), "{told:#?}");
    assert!(told.contains(&"  note: not http://10.9.9.9 is used, which was told, but http://10.1.2.3".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_while_the_gateway_hears_of_a_split_ends_nothing() {
    let world = World::new(Fault::StumblesAtSplits);
    let report = world.verify(&[]).await;
    assert_eq!(report.exit_code(), 0, "{report}");
    let told = world.told.borrow();
    let said = |part: &str| told.iter().any(|line| line.contains(part));
    assert!(said("waiting for v1 to answer alone: of 10 requests to"), "{told:#?}");
    assert!(said("a picture was answered with 503 Service Unavailable: no healthy upstream, and is asked about once"));
}

#[tokio::test(start_paused = true)]
async fn a_function_that_waits_for_a_node_is_waited_for() {
    let report = World::new(Fault::NoRoomAtFirst).verify(&[]).await;
    assert_eq!(report.exit_code(), 0, "{report}");
}

#[tokio::test(start_paused = true)]
async fn images_of_a_registry_on_this_machine_are_applied_by_digest() {
    let world = World::new(None);
    let report = world.verify(&["--keep", "--registry", REGISTRY]).await;
    assert_eq!(report.exit_code(), 0, "{report}");
    let service = world.server.get(&inside("serving.knative.dev/v1", "services"), "inference").unwrap();
    let image = format!("{REGISTRY}/fovea/inference:{}@{DIGEST}", env!("CARGO_PKG_VERSION"));
    assert_eq!(service["spec"]["template"]["spec"]["containers"][0]["image"], image);
}

#[tokio::test(start_paused = true)]
async fn a_pull_secret_is_copied_to_where_the_pods_are() {
    let world = World::new(None);
    let data = json!({".dockerconfigjson": "e30="});
    let secret = json!({"metadata": {"name": "regcred"}, "type": "kubernetes.io/dockerconfigjson", "data": data});
    world.server.put("/api/v1/namespaces/default/secrets", secret);
    let report = world.verify(&["--keep", "--pull-secret", "regcred"]).await;
    assert_eq!(report.exit_code(), 0, "{report}");
    let copy = world.server.get(&inside("", "secrets"), "regcred").unwrap();
    assert_eq!((&copy["type"], &copy["data"]), (&json!("kubernetes.io/dockerconfigjson"), &data));
    assert_eq!(copy["metadata"]["labels"]["fovea.dev/verify-run"], RUN);
    let web = world.server.get(&inside("apps/v1", "deployments"), "web").unwrap();
    assert_eq!(web["spec"]["template"]["spec"]["imagePullSecrets"], json!([{"name": "regcred"}]));
}

#[tokio::test(start_paused = true)]
async fn the_web_is_let_to_where_the_api_server_is() {
    let world = World::new(None);
    assert_eq!(world.verify(&["--keep"]).await.exit_code(), 0);
    let policies = inside("networking.k8s.io/v1", "networkpolicies");
    let egress = world.server.get(&policies, "web").unwrap()["spec"]["egress"].clone();
    let rule = |cidrs: [&str; 2], port: u16| json!({"to": cidrs.map(|cidr| json!({"ipBlock": {"cidr": cidr}})), "ports": [{"port": port}]});
    let rules = egress.as_array().unwrap();
    assert!(rules.contains(&rule(["203.0.113.7/32", "203.0.113.8/32"], 16443)), "{egress}");
    assert!(rules.contains(&rule(["198.51.100.1/32", "2001:db8::1/128"], 443)), "{egress}");
    let ciliums = inside("cilium.io/v2", "ciliumnetworkpolicies");
    assert!(world.server.names(&ciliums).is_empty(), "there is no such kind");
}

#[tokio::test(start_paused = true)]
async fn where_cilium_is_its_own_policy_is_applied_too() {
    let world = World::new(None);
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.server.put(crds, json!({"metadata": {"name": "ciliumnetworkpolicies.cilium.io"}}));
    assert_eq!(world.verify(&["--keep"]).await.exit_code(), 0);
    let ciliums = inside("cilium.io/v2", "ciliumnetworkpolicies");
    let policy = world.server.get(&ciliums, "web-to-kubernetes-api").unwrap();
    assert_eq!(policy["spec"]["egress"], json!([{"toEntities": ["kube-apiserver"]}]));
    assert_eq!(policy["metadata"]["labels"]["fovea.dev/verify-run"], RUN);
}
