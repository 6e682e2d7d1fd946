//! Every object against the JSON schema of its kind, which refuses what it does not know.

use std::{collections::BTreeMap, env};

use boon::{Compiler, SchemaIndex, Schemas};
use serde::Deserialize;

use super::*;

/// Kinds that have no schema in the folder; the test `alerts` reads them.
const WITHOUT_SCHEMA: [&str; 1] = ["PrometheusRule"];

/// The schemas of all kinds.
struct Kinds {
    schemas: Schemas,
    indices: BTreeMap<(String, String), SchemaIndex>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    file: PathBuf,
    api_version: String,
    kind: String,
}

impl Kinds {
    fn read() -> Option<Self> {
        let shared = env::var_os("FOVEA_KNATIVE_DATA").map(PathBuf::from);
        let folder = shared.unwrap_or_else(|| knative().join("../../shared/knative")).join("schemas");
        let Ok(index) = fs::read_to_string(folder.join("index.json")) else {
            eprintln!("SKIPPED: there are no schemas in {}; manifests were not held against them", folder.display());
            return None;
        };
        let entries: Vec<Entry> = serde_json::from_str(&index).unwrap();
        let (mut schemas, mut compiler, mut indices) = (Schemas::new(), Compiler::new(), BTreeMap::new());
        for (number, Entry { file, api_version, kind }) in entries.into_iter().enumerate() {
            let mut schema: Value = serde_json::from_str(&fs::read_to_string(folder.join(file)).unwrap()).unwrap();
            // Under names of our own, so that none is ever looked for elsewhere.
            schema.as_object_mut().unwrap().remove("$id");
            let location = format!("schema:///{number}.json");
            compiler.add_resource(&location, schema).unwrap();
            indices.insert((api_version, kind), compiler.compile(&location, &mut schemas).unwrap());
        }
        Some(Self { schemas, indices })
    }

    fn check(&self, object: &Value) -> Result<(), String> {
        let key = (text(object, "/apiVersion").to_owned(), text(object, "/kind").to_owned());
        if WITHOUT_SCHEMA.contains(&key.1.as_str()) {
            return Ok(());
        }
        let Some(index) = self.indices.get(&key) else { return Err(format!("no schema for {key:?}")) };
        self.schemas.validate(object, *index).map_err(|error| format!("{}: {error}", name(object)))
    }
}

/// The same with a field called otherwise, wherever it is.
fn misspelt(value: &Value, field: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| {
                let key = if key == field { format!("{key}s") } else { key.clone() };
                (key, misspelt(value, field))
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(|item| misspelt(item, field)).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_object_is_what_a_cluster_takes() {
    let Some(kinds) = Kinds::read() else { return };
    let problems: Vec<String> = all()
        .iter()
        .flat_map(|(place, objects)| objects.iter().map(move |object| (place, object)))
        .filter_map(|(place, object)| Some(format!("{place}: {}", kinds.check(object).err()?)))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_misspelt_field_is_refused() {
    let Some(kinds) = Kinds::read() else { return };
    let written = written();
    for (object, field) in [
        ("Namespace ml-app", "labels"),
        ("ConfigMap app-config", "data"),
        ("PersistentVolumeClaim models", "accessModes"),
        ("Role web", "verbs"),
        ("RoleBinding web", "subjects"),
        ("NetworkPolicy functions", "namespaceSelector"),
        ("PodDisruptionBudget web", "maxUnavailable"),
        ("ServiceAccount web", "automountServiceAccountToken"),
        ("Deployment web", "readOnlyRootFilesystem"),
        ("Service web", "targetPort"),
        ("CronJob train", "activeDeadlineSeconds"),
        ("CronJob bake", "secretName"),
        ("Knative Service inference", "containerConcurrency"),
        ("Knative Service inference", "readinessProbe"),
        ("Knative Service preprocess", "seccompProfile"),
    ] {
        let object = find(&written, object);
        let changed = misspelt(object, field);
        assert_ne!(&changed, object, "it has no {field}");
        assert!(kinds.check(&changed).is_err(), "{} with {field}s was taken", name(object));
    }
}

#[test]
fn what_only_some_clusters_want_is_valid_too() {
    let Some(kinds) = Kinds::read() else { return };
    let place = tempfile::tempdir().unwrap();
    // Kustomize takes no absolute path, but one that climbs to the top and down again.
    let up = "../".repeat(place.path().canonicalize().unwrap().components().count() - 1);
    let knative = format!("{up}{}", knative().canonicalize().unwrap().display().to_string().trim_start_matches('/'));
    let kustomization = format!(
        "resources: ['{knative}/base', '{knative}/features']\n\
         components: ['{knative}/components/read-write-once', '{knative}/components/monitoring']\n"
    );
    fs::write(place.path().join("kustomization.yaml"), kustomization).unwrap();
    let Some(rendered) = render_in(place.path()) else { return };
    let rendered = objects(&rendered);
    for object in &rendered {
        kinds.check(object).unwrap();
    }
    let pinned = |object: &&Value| {
        pod(object).is_some_and(|pod| text(pod, "/nodeSelector/fovea.dev~1volumes") == "here")
            == pod(object).is_some_and(|pod| pod["volumes"].is_array())
    };
    assert!(rendered.iter().all(|object| pinned(&object)), "what mounts a volume stays where it is");
    for claim in ["PersistentVolumeClaim data", "PersistentVolumeClaim models"] {
        assert_eq!(find(&rendered, claim)["spec"]["accessModes"][0], "ReadWriteOnce");
    }
}
