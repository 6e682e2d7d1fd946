//! What a cluster has before anybody installs anything: Kubernetes, Knative, Kourier and their settings.

use axum::{
    Json,
    http::{Method, StatusCode},
    response::IntoResponse,
};
use serde_json::{Value, json};

use crate::server::Server;

const SETTINGS: &str = "/api/v1/namespaces/knative-serving/configmaps";

fn deployment(server: &Server, namespace: &str, name: &str) {
    server.put(
        &format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
        json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/version": "1.23.0"}},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": name, "image": name}]}}},
            "status": {"availableReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]},
        }),
    );
}

/// What is there before anybody installs anything.
pub fn foundations(server: &Server) {
    let version = json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "",
    });
    server.say("/version", &version.to_string());
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    server.put(crds, json!({"metadata": {"name": "services.serving.knative.dev"}}));
    for name in ["activator", "autoscaler", "controller", "webhook", "net-kourier-controller"] {
        deployment(server, "knative-serving", name);
    }
    deployment(server, "kourier-system", "3scale-kourier-gateway");
    set(server, "config-network", json!({"ingress-class": "kourier.ingress.networking.knative.dev"}));
    set(server, "config-features", json!({"kubernetes.podspec-persistent-volume-claim": "enabled"}));
    set(server, "config-autoscaler", json!({"stable-window": "60s", "_example": "long"}));
    server.put(
        "/api/v1/namespaces/kourier-system/services",
        json!({
            "metadata": {"name": "kourier"},
            "spec": {"ports": [{"name": "http2", "port": 80, "nodePort": 31080}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.1.2.3"}]}},
        }),
    );
    let addresses = json!([{"type": "Hostname", "address": "one"}, {"type": "InternalIP", "address": "172.18.0.2"}]);
    server.put("/api/v1/nodes", json!({"metadata": {"name": "one"}, "status": {"addresses": addresses}}));
    set(server, "config-domain", json!({"example.com": "", "_example": "long"}));
    server.put(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        json!({
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4", "ports": [{"name": "https", "port": 16443}],
            "endpoints": [{"addresses": ["203.0.113.7"]}, {"addresses": ["203.0.113.8"]}],
        }),
    );
    server.put(
        "/api/v1/namespaces/default/services",
        json!({"metadata": {"name": "kubernetes"}, "spec": {"clusterIPs": ["198.51.100.1", "2001:db8::1"], "ports": [{"port": 443}]}}),
    );
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    server.put(
        "/apis/storage.k8s.io/v1/storageclasses",
        json!({"metadata": {"name": "standard", "annotations": default}, "provisioner": "csi.example.com"}),
    );
    server.answer(Method::POST, "/apis/authorization.k8s.io/v1/subjectaccessreviews", |review| {
        (StatusCode::CREATED, Json(json!({"spec": review["spec"], "status": {"allowed": true}}))).into_response()
    });
}

/// Settings of Knative Serving.
pub fn set(server: &Server, name: &str, data: Value) {
    server.put(SETTINGS, json!({"metadata": {"name": name}, "data": data}));
}
