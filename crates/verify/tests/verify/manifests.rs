//! What would be applied: everything in the run's namespace, from the registry that was named, valid by the strict schemas
//! of every kind, and nothing else changed.

#[path = "../../../serving/tests/manifests/kinds.rs"]
mod kinds;

use clap::Parser;
use serde_json::{Value, json};
use verify::{
    api_server::ApiServer,
    manifests::{Changes, Manifests},
    options::{AccessMode, Options},
};

use crate::world::{RUN, rendered};
use kinds::Kinds;

fn options(flags: &[&str]) -> Options {
    Options::try_parse_from(["fovea-verify-cluster"].iter().chain(flags)).unwrap()
}

fn fitted(namespace: &str, flags: &[&str]) -> Manifests {
    let options = options(flags);
    let access_mode = AccessMode::ReadWriteOnce;
    let api_server = ApiServer::default();
    let changes = Changes { run: RUN, namespace, install: &options.install, access_mode, api_server: &api_server };
    Manifests::new(rendered(), &changes).unwrap()
}

fn all(manifests: &Manifests) -> Vec<Value> {
    let objects = std::iter::once(&manifests.namespace).chain(&manifests.objects);
    objects.map(|object| object.value.clone()).collect()
}

fn find<'a>(manifests: &'a Manifests, title: &str) -> &'a Value {
    let found = manifests.objects.iter().find(|object| object.title() == title && !object.is("", "Service"));
    &found.unwrap_or_else(|| panic!("there is no {title}")).value
}

const EVERYTHING: [&str; 12] = [
    "--registry",
    "r.example/x",
    "--tag",
    "7",
    "--pull-policy",
    "Always",
    "--pull-secret",
    "regcred",
    "--storage-class",
    "fast",
    "--node",
    "one",
];

#[test]
fn what_is_applied_is_what_a_cluster_takes() {
    let Some(kinds) = Kinds::read() else { return };
    for flags in [&["--registry", "r.example/x"][..], &EVERYTHING] {
        let manifests = fitted("other", flags);
        let objects = all(&manifests);
        assert_eq!(objects.len(), rendered().len());
        for object in objects {
            kinds.check(&object).unwrap();
        }
    }
}

#[test]
fn nothing_speaks_of_the_namespace_that_the_base_is_written_for() {
    for object in all(&fitted("other", &[])) {
        assert!(!object.to_string().contains("ml-app"), "{object}");
        let namespace =
            if object["kind"] == "Namespace" { &object["metadata"]["name"] } else { &object["metadata"]["namespace"] };
        assert_eq!(namespace, "other", "{object}");
    }
    let manifests = fitted("other", &[]);
    let config = &find(&manifests, "ConfigMap app-config")["data"];
    assert_eq!(config["INFERENCE_URL"], "http://inference.other.svc.cluster.local");
    assert_eq!(find(&manifests, "RoleBinding web")["subjects"][0]["namespace"], "other");
}

#[test]
fn images_volumes_and_places_are_those_that_were_told() {
    let manifests = fitted("other", &EVERYTHING);
    let expected = ["inference", "preprocess", "trainer", "web"].map(|name| format!("r.example/x/fovea/{name}:7"));
    assert_eq!(manifests.images(), expected);
    for name in ["data", "models"] {
        let spec = &find(&manifests, &format!("PersistentVolumeClaim {name}"))["spec"];
        assert_eq!((&spec["accessModes"], &spec["storageClassName"]), (&json!(["ReadWriteOnce"]), &json!("fast")));
    }
    for (title, pod) in [
        ("Service inference", "/spec/template/spec"),
        ("Deployment web", "/spec/template/spec"),
        ("CronJob train", "/spec/jobTemplate/spec/template/spec"),
    ] {
        let pod = find(&manifests, title).pointer(pod).unwrap();
        assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/hostname": "one"}), "{title}");
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always", "{title}");
    }
}

#[test]
fn what_is_to_be_verified_stays_as_it_is() {
    let before = rendered();
    let after = all(&fitted("ml-app", &["--tag", env!("CARGO_PKG_VERSION")]));
    let find = |objects: &[Value], kind: &str, name: &str| {
        let is_it = |object: &&Value| {
            object["kind"] == kind && object["metadata"]["name"] == name && object["spec"]["ports"].is_null()
        };
        objects.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))["spec"].clone()
    };
    for (kind, name) in
        [("Service", "inference"), ("Service", "preprocess"), ("Deployment", "web"), ("NetworkPolicy", "functions")]
    {
        assert_eq!(find(&before, kind, name), find(&after, kind, name), "{kind} {name}");
    }
    let limits = |objects: &[Value]| {
        find(objects, "CronJob", "train")["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].clone()
    };
    assert_eq!(limits(&before), limits(&after));
}

#[test]
fn what_would_be_left_behind_is_refused() {
    let options = options(&[]);
    let (access_mode, api_server) = (AccessMode::ReadWriteMany, ApiServer::default());
    let changes =
        Changes { run: RUN, namespace: "other", install: &options.install, access_mode, api_server: &api_server };
    let with = |object: Value| {
        let mut objects = rendered();
        objects.push(object);
        Manifests::new(objects, &changes).unwrap_err().says
    };
    let role =
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all"}});
    assert_eq!(with(role), "ClusterRole all is not in the namespace ml-app, so it would be left behind");
    let policy = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more", "namespace": "ml-app"},
        "data": {"key": "ask ml-app"},
    });
    assert_eq!(with(policy), "ConfigMap more still speaks of ml-app, which this run has nothing to do with");
}
