//! Whole manifests: what is kept, what is passed over, what is wrong.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use super::*;

const HELLO: &str = "apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
spec:
  template:
    spec:
      containers:
      - image: example.com/fn:v1
";

fn names(manifests: &Manifests) -> Vec<String> {
    let name = |manifest: &ServiceManifest| {
        let metadata = &manifest.service.metadata;
        format!("{}/{} at {}", metadata.namespace, metadata.name, manifest.place)
    };
    manifests.services.iter().map(name).collect()
}

#[track_caller]
fn check_refused(text: &str, wanted: &str) {
    assert_eq!(Manifests::parse("f.yaml", text).unwrap_err().to_string(), wanted);
}

#[test]
fn a_stream_gives_services_settings_and_what_was_passed_over() {
    let stream = format!(
        "{HELLO}---
# nothing here
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: config-defaults, namespace: knative-serving}}
data:
  container-concurrency: \"7\"
  _example: |
    anything
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: other}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: models}}
"
    );
    let manifests = Manifests::parse("stream", &stream).unwrap();
    assert_eq!(names(&manifests), ["default/hello at stream:1"]);
    assert_eq!(manifests.config.defaults.container_concurrency, 7);
    let passed_over: Vec<String> = manifests.passed_over.iter().map(PassedOver::to_string).collect();
    assert_eq!(passed_over, ["stream:20: ConfigMap other", "stream:24: PersistentVolumeClaim models"]);
}

#[test]
fn a_folder_is_read_in_the_order_of_its_files_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("b.yaml", &HELLO.replace("hello", "second"));
    write("a.yml", &HELLO.replace("hello", "first, namespace: ns"));
    write("c.json", r#"{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "third"}}"#);
    write("kustomization.yaml", "resources: [b.yaml]");
    write("notes.txt", "no: [yaml");
    let manifests = Manifests::read(folder.path()).unwrap();
    let at = |file: &str| folder.path().join(file).display().to_string();
    assert_eq!(
        names(&manifests),
        [
            format!("ns/first at {}:1", at("a.yml")),
            format!("default/second at {}:1", at("b.yaml")),
            format!("default/third at {}:1", at("c.json")),
        ]
    );
    assert_eq!(Manifests::read(&folder.path().join("b.yaml")).unwrap().services.len(), 1);
}

#[test]
fn a_folder_without_manifests_or_a_file_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Manifests::read(folder.path()), Err(ManifestError::Empty(_))));
    assert!(matches!(Manifests::read(&folder.path().join("none.yaml")), Err(ManifestError::Read { .. })));
}

#[test]
fn a_list_is_as_good_as_its_items() {
    let list = "apiVersion: v1
kind: List
items:
- {apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a}}
- {apiVersion: v1, kind: Secret, metadata: {name: b}}
";
    let manifests = Manifests::parse("list", list).unwrap();
    assert_eq!(names(&manifests), ["default/a at list:1"]);
    assert_eq!(manifests.passed_over.len(), 1);
}

#[test]
fn wrong_syntax_is_told_with_its_line() {
    check_refused("a: 1\nb: [1,\n", "f.yaml:2:4: unclosed bracket '['");
    check_refused("a: 1\na: 2\n", "f.yaml:2:1: key \"a\" is given twice");
    check_refused("a:\n\tb: 1", "f.yaml:2:2: tabs disallowed within this context (block indentation)");
}

#[test]
fn everything_wrong_is_told_at_once() {
    let text = format!(
        "{}---\n{HELLO}---\n{HELLO}---\nkind: Service\n---\n{}---\n{}",
        HELLO.replace("hello", "typo").replace("containers", "contianers"),
        HELLO.replace("dev/v1", "dev/v1alpha1"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-defaults}\ndata: {container-concurrency: \"-1\"}\n",
    );
    check_refused(
        &text,
        "f.yaml:1: Service default/typo: unknown field \"spec.template.spec.contianers\"
f.yaml:19: Service default/hello is given twice, first at f.yaml:10
f.yaml:28: not an object of Kubernetes: apiVersion, kind and metadata.name must be given
f.yaml:30: Service hello: serving.knative.dev/v1alpha1 is not supported, only serving.knative.dev/v1 is
f.yaml:39: ConfigMap config-defaults: expected 0 <= -1 <= 1000: container-concurrency",
    );
}

#[test]
fn a_config_map_may_not_hold_numbers() {
    check_refused(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-gc}\ndata: {min-non-active-revisions: 2}\n",
        "f.yaml:1: ConfigMap config-gc: data.min-non-active-revisions: invalid type: integer `2`, expected a string; \
         put it in quotes",
    );
}

#[test]
fn the_same_name_in_two_namespaces_is_two_services() {
    let text = format!("{HELLO}---\n{}", HELLO.replace("hello", "hello, namespace: other"));
    let manifests = Manifests::parse("f", &text).unwrap();
    assert_eq!(names(&manifests), ["default/hello at f:1", "other/hello at f:10"]);
}
