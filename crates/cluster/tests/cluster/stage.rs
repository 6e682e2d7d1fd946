//! What tests put on the fake server, and the controllers they play.

use serde_json::{Value, json};

use crate::server::{EVENTS, JOBS, PODS, REVISIONS, SERVICES, Server, TEMPLATES};

/// A template of Jobs: a suspended CronJob.
pub fn template(name: &str, container: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"schedule": "@yearly", "suspend": true, "jobTemplate": {
            "metadata": {"labels": {"app.kubernetes.io/name": name}},
            "spec": {"backoffLimit": 0, "activeDeadlineSeconds": 3600, "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": name}},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            }},
        }},
    })
}

/// Both templates, as the manifests have them.
pub fn templates(server: &Server) {
    let trainer =
        json!({"name": "trainer", "image": "fovea/trainer:1", "args": ["--datasets=/data", "--models=/models"]});
    server.put(TEMPLATES, template("train", trainer));
    let env = json!([{"name": "FOVEA_MODEL_PATH", "value": "/models/models/classifier/current"}]);
    let bake = json!({"name": "bake", "image": "fovea/inference:0", "args": ["bake"], "env": env});
    server.put(TEMPLATES, template("bake", bake));
}

/// A pod of a Job with this status.
pub fn pod(server: &Server, job: &str, status: Value) {
    let labels = server.get(JOBS, job).expect("the Job is there")["spec"]["template"]["metadata"]["labels"].clone();
    let name = format!("{job}-x");
    let mut pod = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "trainer", "image": "fovea/trainer:1", "resources": {"limits": {"memory": "2Gi"}}}]},
        "status": status,
    });
    pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] = json!(job);
    server.put(PODS, pod);
}

/// The state of a pod's container.
pub fn container(phase: &str, state: Value) -> Value {
    let container = json!({
        "name": "trainer", "image": "fovea/trainer:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    });
    json!({"phase": phase, "containerStatuses": [container]})
}

/// A Job that has ended.
pub fn end(server: &Server, job: &str, condition: &str, reason: &str) {
    let condition =
        json!([{"type": condition, "status": "True", "reason": reason, "message": "Job has reached its end"}]);
    server.edit(JOBS, job, |job| job["status"] = json!({"conditions": condition}));
}

/// A warning about an object.
pub fn warn(server: &Server, about: &str, reason: &str, message: &str) {
    let name = format!("{about}.{}", server.names(EVENTS).len());
    server.put(
        EVENTS,
        json!({
            "metadata": {"name": name}, "type": "Warning", "reason": reason, "message": message,
            "involvedObject": {"name": about}, "lastTimestamp": "2026-11-23T06:46:00Z",
        }),
    );
}

/// The inference function, following `current`, its first revision ready.
pub fn inference(server: &Server) {
    server.put(
        SERVICES,
        json!({
            "metadata": {"name": "inference"},
            "spec": {"template": {
                "metadata": {"annotations": {"autoscaling.knative.dev/target": "1"}},
                "spec": {"containerConcurrency": 1, "containers": [{
                    "image": "fovea/inference:1",
                    "env": [
                        {"name": "FOVEA_CACHE", "value": "/cache"},
                        {"name": "FOVEA_MODEL_PATH", "value": "/models/models/classifier/current"},
                    ],
                    "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": true}],
                }]},
            }},
        }),
    );
    reconcile(server, "True");
}

/// What Knative's controller does after an edit: a revision of a new template, with this readiness, and the routes.
pub fn reconcile(server: &Server, ready: &str) {
    let service = server.get(SERVICES, "inference").expect("the Service is there");
    let template = &service["spec"]["template"];
    let mut status = service["status"].clone();
    let latest = status["latestCreatedRevisionName"].as_str().and_then(|name| server.get(REVISIONS, name));
    let is_new = latest.is_none_or(|latest| {
        latest["spec"] != template["spec"] || latest["metadata"]["annotations"] != template["metadata"]["annotations"]
    });
    if is_new {
        let n = server.names(REVISIONS).len() + 1;
        let name = format!("inference-{n:05}");
        let labels = json!({
            "serving.knative.dev/service": "inference",
            "serving.knative.dev/configurationGeneration": n.to_string(),
            "serving.knative.dev/routingState": "active",
        });
        let metadata = json!({"name": name, "labels": labels, "annotations": template["metadata"]["annotations"]});
        server.put(REVISIONS, json!({"metadata": metadata, "spec": template["spec"]}));
        status["latestCreatedRevisionName"] = json!(name);
    }
    let created = status["latestCreatedRevisionName"].as_str().expect("there is one").to_owned();
    server.edit(REVISIONS, &created, |revision| {
        let message = if ready == "False" { "Container failed with: no such version" } else { "" };
        revision["status"] = json!({
            "conditions": [{"type": "Ready", "status": ready, "message": message}, {"type": "Active", "status": "False"}],
            "actualReplicas": 0, "desiredReplicas": 0,
        });
    });
    if ready == "True" {
        status["latestReadyRevisionName"] = json!(created);
    }
    let latest_ready = status["latestReadyRevisionName"].clone();
    let wished = service["spec"]["traffic"].as_array().cloned();
    let wished = wished.unwrap_or_else(|| vec![json!({"latestRevision": true, "percent": 100})]);
    let routed = wished.into_iter().map(|mut target| {
        if target["revisionName"].is_null() {
            target["revisionName"] = latest_ready.clone();
        }
        target
    });
    status["traffic"] = routed.collect();
    status["url"] = json!("http://inference.ml-app.example.com");
    status["conditions"] = json!([{"type": "Ready", "status": ready}]);
    status["observedGeneration"] = service["metadata"]["generation"].clone();
    server.edit(SERVICES, "inference", |service| service["status"] = status);
}

/// Traffic as it is wished for: revision (none: the latest), percent.
pub fn traffic(server: &Server) -> Vec<(Option<String>, i64)> {
    let service = server.get(SERVICES, "inference").expect("the Service is there");
    let targets = service["spec"]["traffic"].as_array().cloned().unwrap_or_default();
    let told =
        |target: &Value| (target["revisionName"].as_str().map(str::to_owned), target["percent"].as_i64().unwrap_or(0));
    targets.iter().map(told).collect()
}
