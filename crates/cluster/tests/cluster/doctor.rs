//! The doctor: a cluster that is well, and each way in which it may not be.

mod inside;

use api::diagnosis::{Answering, Diagnosis, InUse};
use axum::{
    Json,
    http::{Method, StatusCode},
    response::IntoResponse,
};
use cluster::{
    Cluster,
    connection::Source,
    doctor::{Doctor, Finding, Outcome},
    functions::now_unix_ms,
};
use serde_json::{Value, json};

use crate::{
    server::{PODS, SERVICES, Server, TEMPLATES, status},
    stage::{inference, templates},
};

const VERSION: &str = "0.1.0";
const SERVING: &str = "/api/v1/namespaces/knative-serving/configmaps";
const CLAIMS: &str = "/api/v1/namespaces/ml-app/persistentvolumeclaims";
const SECRETS: &str = "/api/v1/namespaces/ml-app/secrets";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
const NODES: &str = "/api/v1/nodes";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const DIAGNOSIS: &str = "/api/v1/namespaces/ml-app/services/web:80/proxy/api/diagnosis";

fn deployments(namespace: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments")
}

fn deployment(server: &Server, namespace: &str, name: &str, image: &str) {
    let labels = json!({"app.kubernetes.io/version": "1.23.0"});
    let available = json!([{"type": "Available", "status": "True"}]);
    server.put(
        &deployments(namespace),
        json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": name, "image": image}]}}},
            "status": {"availableReplicas": 1, "conditions": available},
        }),
    );
}

fn diagnosis() -> Diagnosis {
    let function = |name: &str| Answering {
        name: name.into(),
        url: format!("http://{name}.ml-app.svc.cluster.local/"),
        milliseconds: 12.5,
        problem: None,
    };
    Diagnosis {
        version: VERSION.into(),
        at_unix_ms: now_unix_ms(),
        functions: vec![function("preprocess"), function("inference")],
        models: vec![InUse { name: "classifier".into(), version: 2, problem: None }],
        volumes: None,
        cluster: None,
    }
}

fn see(server: &Server, change: impl FnOnce(&mut Diagnosis)) {
    let mut diagnosis = diagnosis();
    change(&mut diagnosis);
    server.say(DIAGNOSIS, &serde_json::to_string(&diagnosis).unwrap());
}

/// A cluster that has all that Fovea needs.
async fn well() -> Server {
    let server = Server::start().await;
    let version = json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "",
    });
    server.say("/version", &version.to_string());
    server.put("/api/v1/namespaces", json!({"metadata": {"name": "ml-app"}}));
    server.put(CRDS, json!({"metadata": {"name": "services.serving.knative.dev"}}));
    for name in ["activator", "autoscaler", "controller", "webhook", "net-kourier-controller"] {
        deployment(&server, "knative-serving", name, "knative");
    }
    deployment(&server, "kourier-system", "3scale-kourier-gateway", "envoy");
    let class = "kourier.ingress.networking.knative.dev";
    server.put(SERVING, json!({"metadata": {"name": "config-network"}, "data": {"ingress-class": class}}));
    let flags = json!({"kubernetes.podspec-persistent-volume-claim": "enabled"});
    server.put(SERVING, json!({"metadata": {"name": "config-features"}, "data": flags}));
    for name in ["data", "models"] {
        server.put(
            CLAIMS,
            json!({"metadata": {"name": name}, "spec": {}, "status": {"phase": "Bound", "accessModes": ["ReadWriteMany"]}}),
        );
    }
    // 32 bytes.
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    server.put(SECRETS, json!({"metadata": {"name": "artefact-key"}, "data": {"key": key}}));
    allow(&server, |_| true);
    templates(&server);
    deployment(&server, "ml-app", "web", "registry.example/fovea/web:0.1.0");
    inference(&server);
    let mut preprocess = server.get(SERVICES, "inference").unwrap();
    preprocess["metadata"]["name"] = json!("preprocess");
    server.put(SERVICES, preprocess);
    server.edit(SERVICES, "preprocess", |service| {
        service["status"]["observedGeneration"] = service["metadata"]["generation"].clone();
    });
    see(&server, |_| {});
    server
}

/// Answers access reviews.
fn allow(server: &Server, allowed: fn(&Value) -> bool) {
    server.answer(Method::POST, REVIEWS, move |review| {
        assert_eq!(review["spec"]["user"], "system:serviceaccount:ml-app:web");
        let allowed = allowed(&review["spec"]["resourceAttributes"]);
        (StatusCode::CREATED, Json(json!({"spec": review["spec"], "status": {"allowed": allowed}}))).into_response()
    });
}

async fn examine(server: &Server) -> Vec<Finding> {
    Doctor::new(server.cluster(), VERSION).examine().await
}

#[tokio::test]
async fn a_cluster_that_has_everything_is_well() {
    let findings = examine(&well().await).await;
    for finding in &findings {
        assert_eq!(finding.outcome, Outcome::Ok, "{finding:?}");
    }
    let mut checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    checks.dedup();
    assert_eq!(
        checks,
        [
            "API server",
            "clocks",
            "Knative Serving",
            "ingress",
            "feature flags",
            "namespace",
            "volumes",
            "artefact key",
            "permissions",
            "Job templates",
            "web",
            "versions",
            "images",
            "functions",
            "clocks",
            "function URLs",
            "models",
        ]
    );
}

/// What is broken, and what is told then: the check, its outcome, a part of what it says and of what mends it.
type Story = (fn(&Server), &'static str, Outcome, &'static str, &'static str);

#[tokio::test]
async fn each_thing_that_is_amiss_is_told_with_what_mends_it() {
    let stories: [Story; 24] = [
        (
            |s| s.remove("/api/v1/namespaces", "ml-app"),
            "namespace",
            Outcome::Failed,
            "no namespace ml-app",
            "kubectl apply -k",
        ),
        (
            |s| s.remove(CRDS, "services.serving.knative.dev"),
            "Knative Serving",
            Outcome::Failed,
            "is not installed",
            "./run.sh up",
        ),
        (
            |s| s.edit(&deployments("knative-serving"), "webhook", |d| d["status"] = json!({})),
            "Knative Serving",
            Outcome::Failed,
            "webhook is not ready",
            "kubectl -n knative-serving describe deployment webhook",
        ),
        (
            |s| s.remove(&deployments("kourier-system"), "3scale-kourier-gateway"),
            "ingress",
            Outcome::Failed,
            "3scale-kourier-gateway is missing in kourier-system and knative-serving",
            "config-network",
        ),
        (
            |s| {
                let data = json!({"kubernetes.podspec-persistent-volume-claim": "allowed"});
                s.edit(SERVING, "config-features", |c| c["data"] = data);
            },
            "feature flags",
            Outcome::Failed,
            "kubernetes.podspec-persistent-volume-claim is off",
            "persistent-volume-claim\":\"enabled",
        ),
        (
            |s| s.edit(SERVING, "config-features", |c| c["data"] = json!({})),
            "feature flags",
            Outcome::Failed,
            "kubernetes.podspec-persistent-volume-claim is off",
            "kubectl -n knative-serving patch configmap config-features --type merge -p \
             '{\"data\":{\"kubernetes.podspec-persistent-volume-claim\":\"enabled\"}}'",
        ),
        (
            |s| s.edit(SERVICES, "inference", |f| f["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"})),
            "feature flags",
            Outcome::Failed,
            "kubernetes.podspec-nodeselector is off, and the functions use a node selector",
            "podspec-nodeselector\":\"enabled",
        ),
        (|s| s.remove(CLAIMS, "models"), "volumes", Outcome::Failed, "no claim models", "kubectl apply -k"),
        (
            |s| s.edit(CLAIMS, "data", |c| c["status"] = json!({"phase": "Pending"})),
            "volumes",
            Outcome::Failed,
            "the cluster has no default one",
            "is-default-class",
        ),
        (
            |s| {
                s.edit(CLAIMS, "data", |c| {
                    (c["spec"]["storageClassName"], c["status"]["phase"]) = (json!("nfs"), json!("Pending"));
                });
            },
            "volumes",
            Outcome::Failed,
            "no storage class nfs",
            "kubectl get storageclass",
        ),
        (
            |s| {
                s.put(CLASSES, json!({"metadata": {"name": "nfs"}, "provisioner": "nfs"}));
                s.edit(CLAIMS, "data", |c| {
                    (c["spec"]["storageClassName"], c["status"]["phase"]) = (json!("nfs"), json!("Pending"));
                });
            },
            "volumes",
            Outcome::Failed,
            "the claim data is Pending, not Bound",
            "kubectl -n ml-app describe pvc data",
        ),
        (
            |s| {
                s.put(NODES, json!({"metadata": {"name": "one"}}));
                s.put(NODES, json!({"metadata": {"name": "two"}}));
                s.edit(CLAIMS, "data", |c| c["status"]["accessModes"] = json!(["ReadWriteOnce"]));
            },
            "volumes",
            Outcome::Warning,
            "data can be mounted by one node (ReadWriteOnce), and there are 2",
            "read-write-once",
        ),
        (
            |s| s.remove(SECRETS, "artefact-key"),
            "artefact key",
            Outcome::Failed,
            "no Secret",
            "create secret generic artefact-key",
        ),
        (
            |s| s.edit(SECRETS, "artefact-key", |k| k["data"] = json!({"key": "AAAA"})),
            "artefact key",
            Outcome::Failed,
            "has 3 bytes; expected 32",
            "delete secret artefact-key",
        ),
        (
            |s| allow(s, |asked| asked["verb"] != "patch" && asked["subresource"] != "log"),
            "permissions",
            Outcome::Failed,
            "may not get pods/log, patch services",
            "which holds its Role",
        ),
        (|s| s.remove(TEMPLATES, "bake"), "Job templates", Outcome::Failed, "no CronJob bake", "kubectl apply -k"),
        (|s| s.remove(&deployments("ml-app"), "web"), "web", Outcome::Failed, "is not there", "kubectl apply -k"),
        (
            |s| deployment(s, "ml-app", "web", "fovea/web:0.0.9"),
            "versions",
            Outcome::Warning,
            "web is 0.0.9, and this program is 0.1.0",
            "./run.sh up",
        ),
        (
            |s| {
                let waiting = json!({"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}});
                let status = crate::stage::container("Pending", waiting);
                s.put(PODS, json!({"metadata": {"name": "web-1"}, "spec": {"containers": []}, "status": status}));
            },
            "images",
            Outcome::Failed,
            "web-1 waits for fovea/trainer:1: ErrImageNeverPull: not present",
            "minikube image load fovea/trainer:1",
        ),
        (
            |s| {
                s.edit(SERVICES, "inference", |f| {
                    f["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "RevisionFailed", "message": "no such image"}]);
                });
            },
            "functions",
            Outcome::Failed,
            "inference is not ready: RevisionFailed: no such image",
            "describe ksvc inference",
        ),
        (
            |s| see(s, |seen| seen.functions[1].problem = Some("connection refused".into())),
            "function URLs",
            Outcome::Failed,
            "inference does not answer at http://inference.ml-app.svc.cluster.local/: connection refused",
            "get ksvc inference",
        ),
        (
            |s| see(s, |seen| seen.cluster = Some("it does not answer (deadline has elapsed)".into())),
            "API access",
            Outcome::Failed,
            "asks the Kubernetes API in vain: it does not answer (deadline has elapsed)",
            "knative/components/cilium",
        ),
        (
            |s| see(s, |seen| seen.models[0].problem = Some("model.onnx is shorter".into())),
            "models",
            Outcome::Failed,
            "classifier v2 is damaged: model.onnx is shorter",
            "fovea publish classifier",
        ),
        (
            |s| see(s, |seen| seen.at_unix_ms -= 60_000),
            "clocks",
            Outcome::Warning,
            "the web service's clock is 60 s behind this machine's",
            "timedatectl set-ntp true",
        ),
    ];
    for (break_it, check, outcome, says, mend) in stories {
        let server = well().await;
        break_it(&server);
        let findings = examine(&server).await;
        let told = findings.iter().find(|finding| finding.check == check && finding.outcome == outcome);
        let told = told.unwrap_or_else(|| panic!("{check} is not {outcome:?} in {findings:#?}"));
        assert!(told.says.contains(says), "no {says:?} in {:?}", told.says);
        assert!(told.mend.as_ref().is_some_and(|told| told.contains(mend)), "no {mend:?} in {:?}", told.mend);
    }
}

#[tokio::test]
async fn what_fovea_stands_on_is_looked_at_before_anything_of_it_is_there() {
    let well = well().await;
    let before = well.requests().len();
    let findings = Doctor::new(well.cluster_in_process("nowhere-yet"), VERSION).foundations().await;
    let told: Vec<_> = findings.iter().map(|finding| (finding.check, finding.outcome)).collect();
    let expected = ["API server", "Knative Serving", "ingress", "feature flags"].map(|check| (check, Outcome::Ok));
    assert_eq!(told, expected, "{findings:?}");
    assert!(well.requests()[before..].iter().all(|request| request.starts_with("GET ")), "nothing is changed");
}

#[tokio::test]
async fn a_gateway_that_knatives_operator_installed_is_found() {
    let server = well().await;
    server.remove(&deployments("kourier-system"), "3scale-kourier-gateway");
    deployment(&server, "knative-serving", "3scale-kourier-gateway", "envoy");
    let findings = examine(&server).await;
    let ingress = findings.iter().find(|finding| finding.check == "ingress").unwrap();
    assert_eq!(ingress.outcome, Outcome::Ok, "{ingress:?}");
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_unknown_and_not_well() {
    let server = well().await;
    let message = "subjectaccessreviews.authorization.k8s.io is forbidden: User \"me\" cannot create resource \
                   \"subjectaccessreviews\" in API group \"authorization.k8s.io\" at the cluster scope";
    server.refuse(Method::POST, REVIEWS, 1, 403, "Forbidden", message);
    server.at(Method::GET, DIAGNOSIS, |_| {
        Some(status(503, "ServiceUnavailable", "no endpoints available for service \"web\""))
    });
    let findings = examine(&server).await;
    let unknown: Vec<_> = findings.iter().filter(|finding| finding.outcome == Outcome::Unknown).collect();
    assert_eq!(
        unknown.iter().map(|finding| finding.check).collect::<Vec<_>>(),
        ["permissions", "function URLs", "models"]
    );
    assert!(unknown[0].says.starts_with("me may not create subjectaccessreviews"), "{}", unknown[0].says);
    assert!(unknown[1].says.contains("no endpoints available"), "{}", unknown[1].says);
}

#[tokio::test]
async fn where_no_server_answers_nothing_else_is_looked_at() {
    let file = std::env::temp_dir().join(format!("fovea-doctor-{}", std::process::id()));
    let server = Server::start().await;
    std::fs::write(&file, server.kubeconfig().replace(server.port(), "1")).unwrap();
    let source = Source { kubeconfig: Some(&file), ..Source::default() };
    let cluster = Cluster::connect(source).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(cluster.namespace(), "ml-app", "the context's own");
    let findings = Doctor::new(cluster, VERSION).examine().await;
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].check, findings[0].outcome), ("API server", Outcome::Failed));
    assert!(findings[0].mend.as_ref().unwrap().contains("kubectl cluster-info"));
}
