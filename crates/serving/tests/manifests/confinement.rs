//! What pods may do, and who may reach them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The user that every program runs as.
const USER: u64 = 65532;

/// A setting of a container's, or else of its pod's, security context.
fn security<'a>(pod: &'a Value, container: &'a Value, setting: &str) -> &'a Value {
    let pointer = format!("/securityContext/{setting}");
    container.pointer(&pointer).or_else(|| pod.pointer(&pointer)).unwrap_or(&Value::Null)
}

fn unconfined(object: &Value) -> Vec<String> {
    let Some(pod) = pod(object) else { return Vec::new() };
    let mut problems = Vec::new();
    for container in containers(pod) {
        let holds = [
            ("runs as root", security(pod, container, "runAsNonRoot") == true),
            ("runs as another user", security(pod, container, "runAsUser") == USER),
            ("runs in another group", security(pod, container, "runAsGroup") == USER),
            ("may write to its root", security(pod, container, "readOnlyRootFilesystem") == true),
            ("may gain rights", security(pod, container, "allowPrivilegeEscalation") == false),
            ("keeps capabilities", security(pod, container, "capabilities/drop")[0] == "ALL"),
            ("may make any system call", security(pod, container, "seccompProfile/type") == "RuntimeDefault"),
            ("asks for no memory", container["resources"]["requests"]["memory"].is_string()),
            ("asks for no CPU", container["resources"]["requests"]["cpu"].is_string()),
            ("has all memory", container["resources"]["limits"]["memory"].is_string()),
            ("mounts a part of a volume", container["volumeMounts"].as_array().into_iter().flatten().all(no_sub_path)),
        ];
        problems.extend(holds.into_iter().filter(|(_, holds)| !holds).map(|(problem, _)| problem.to_owned()));
    }
    let speaks = pod["automountServiceAccountToken"] == true;
    if speaks != (name(object) == "Deployment web") {
        problems.push("speaks to the Kubernetes API, or should and cannot".into());
    }
    if pod["volumes"].as_array().into_iter().flatten().any(|volume| volume.get("hostPath").is_some()) {
        problems.push("sees the node's files".into());
    }
    problems
}

fn no_sub_path(mount: &Value) -> bool {
    mount.get("subPath").is_none()
}

#[test]
fn every_pod_is_confined() {
    for (place, objects) in all() {
        for object in &objects {
            let problems = unconfined(object);
            assert!(problems.is_empty(), "{place}: {} {}", name(object), problems.join(", "));
        }
    }
}

#[test]
fn a_pod_that_is_not_confined_is_noticed() {
    let written = written();
    for (object, pointer) in [
        ("Knative Service inference", "/spec/template/spec/containers/0/securityContext/runAsUser"),
        ("Deployment web", "/spec/template/spec/securityContext/seccompProfile"),
        ("CronJob train", "/spec/jobTemplate/spec/template/spec/containers/0/resources/limits"),
    ] {
        let mut object = find(&written, object).clone();
        *object.pointer_mut(pointer).unwrap() = Value::Null;
        assert!(!unconfined(&object).is_empty(), "{pointer}");
    }
}

#[test]
fn functions_only_read_what_is_published() {
    let written = written();
    for function in ["Knative Service preprocess", "Knative Service inference"] {
        let pod = pod(find(&written, function)).unwrap();
        for mount in containers(pod)[0]["volumeMounts"].as_array().unwrap() {
            let writable = mount["readOnly"] != true;
            assert_eq!(writable, mount["name"] == "cache", "{function}: {mount}");
        }
    }
}

#[test]
fn the_web_may_do_what_it_does_and_nothing_else() {
    let written = written();
    let rules = find(&written, "Role web")["rules"].as_array().unwrap();
    let words = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let allowed: BTreeMap<String, Vec<String>> = rules
        .iter()
        .map(|rule| {
            let (groups, resources) = (words(rule, "apiGroups"), words(rule, "resources"));
            assert_eq!((groups.len(), resources.len()), (1, 1), "one resource a rule");
            (format!("{}/{}", groups[0], resources[0]), words(rule, "verbs"))
        })
        .collect();
    let look: &[&str] = &["get", "list", "watch"];
    let expected: [(&str, &[&str]); 7] = [
        ("/events", look),
        ("/pods", look),
        ("/pods/log", &["get"]),
        ("batch/cronjobs", &["get"]),
        ("batch/jobs", &["create", "get", "list", "watch", "delete"]),
        ("serving.knative.dev/revisions", look),
        ("serving.knative.dev/services", &["get", "list", "watch", "patch"]),
    ];
    let expected =
        expected.map(|(resource, verbs)| (resource.to_owned(), verbs.iter().map(|v| (*v).to_owned()).collect()));
    assert_eq!(allowed, BTreeMap::from(expected));
    assert!(!written.iter().any(|object| text(object, "/kind").starts_with("Cluster")), "nothing beyond the namespace");
}

#[test]
fn nobody_but_the_web_reaches_out_and_nobody_but_knative_reaches_functions() {
    for (place, objects) in all() {
        let policies: BTreeMap<&str, &Value> = objects
            .iter()
            .filter(|object| {
                text(object, "/kind") == "NetworkPolicy" && text(object, "/metadata/namespace") == "ml-app"
            })
            .map(|policy| (text(policy, "/metadata/name"), &policy["spec"]))
            .collect();
        if policies.is_empty() {
            continue;
        }
        let nothing = policies["nothing"];
        assert_eq!(nothing["podSelector"], serde_json::json!({}), "{place}: all pods");
        assert_eq!(nothing["policyTypes"], serde_json::json!(["Ingress", "Egress"]), "{place}");
        assert!(nothing.get("ingress").is_none() && nothing.get("egress").is_none(), "{place}");

        let reach_out = policies.iter().filter(|(_, spec)| spec.get("egress").is_some()).map(|(name, _)| *name);
        let expected: &[&str] = if place == "overlays/spin-container" { &["registry", "web"] } else { &["web"] };
        assert_eq!(reach_out.collect::<BTreeSet<_>>(), expected.iter().copied().collect(), "{place}");

        let callers = policies["functions"]["ingress"][0]["from"].as_array().unwrap();
        let from_knative = callers[0].pointer("/namespaceSelector/matchExpressions/0/values");
        let from_web = callers[0].pointer("/podSelector/matchLabels/app.kubernetes.io~1name");
        assert_eq!(callers.len(), 1, "{place}");
        match place.starts_with("overlays/spin") {
            true => assert_eq!(from_web.unwrap(), "web", "{place}"),
            false => assert_eq!(from_knative.unwrap(), &serde_json::json!(["knative-serving", "kourier-system"])),
        }
    }
}

#[test]
fn preprocess_has_no_host_outside_the_cluster() {
    for place in ["base", "overlays/minikube", "overlays/production"] {
        let Some(rendered) = render(place) else { return };
        let rendered = objects(&rendered);
        let visibility = "/metadata/labels/networking.knative.dev~1visibility";
        assert_eq!(text(find(&rendered, "Knative Service preprocess"), visibility), "cluster-local", "{place}");
        assert_eq!(text(find(&rendered, "Knative Service inference"), visibility), "", "{place}");
    }
}
