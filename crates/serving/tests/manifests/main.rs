//! The manifests of `knative/`, as they are written and as kustomize renders them: they must be what a cluster takes,
//! what the embedded runtime takes, and agree with each other.
//!
//! Rendering needs `kubectl`; the schemas lie beside the project, in the folder that `FOVEA_KNATIVE_DATA` names or in
//! `../shared/knative`. Where one of them is not, the tests say so and look at the rest.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agreement;
mod alerts;
mod confinement;
mod kinds;
mod own_parser;
mod schemas;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// What `kubectl kustomize` is asked to render.
const RENDERED: [&str; 6] =
    ["base", "features", "overlays/minikube", "overlays/production", "overlays/spin", "overlays/spin-container"];

fn knative() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../knative")
}

/// A file or a folder as kustomize sees it; `None`, and a word about it, where there is no `kubectl`.
fn render(folder: &str) -> Option<String> {
    render_in(&knative().join(folder))
}

fn render_in(folder: &Path) -> Option<String> {
    let Ok(said) = Command::new("kubectl").arg("kustomize").arg(folder).output() else {
        eprintln!("SKIPPED: {} was not rendered, for there is no kubectl", folder.display());
        return None;
    };
    assert!(said.status.success(), "{}: {}", folder.display(), String::from_utf8_lossy(&said.stderr));
    Some(String::from_utf8(said.stdout).unwrap())
}

fn objects(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// All objects of the files in `knative/base`, before any patch.
fn written() -> Vec<Value> {
    let files = fs::read_dir(knative().join("base")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| !file.ends_with("kustomization.yaml"));
    files.flat_map(|file| objects(&fs::read_to_string(file).unwrap())).collect()
}

/// The objects of everything that can be rendered here, and always those of the base.
fn all() -> Vec<(String, Vec<Value>)> {
    let rendered = RENDERED.iter().filter_map(|folder| Some(((*folder).to_owned(), objects(&render(folder)?))));
    [("base as written".to_owned(), written())].into_iter().chain(rendered).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `kind name`, with the group where kinds of two groups have the same name.
fn name(object: &Value) -> String {
    let kind = match (text(object, "/apiVersion"), text(object, "/kind")) {
        ("serving.knative.dev/v1", "Service") => "Knative Service",
        (_, kind) => kind,
    };
    format!("{kind} {}", text(object, "/metadata/name"))
}

#[track_caller]
fn find<'a>(objects: &'a [Value], wanted: &str) -> &'a Value {
    objects.iter().find(|object| name(object) == wanted).unwrap_or_else(|| panic!("there is no {wanted}"))
}

/// The pod that an object makes, if it makes any.
fn pod(object: &Value) -> Option<&Value> {
    match text(object, "/kind") {
        "Deployment" | "Service" => object.pointer("/spec/template/spec"),
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template/spec"),
        _ => None,
    }
}

fn containers(pod: &Value) -> &[Value] {
    pod["containers"].as_array().unwrap()
}
