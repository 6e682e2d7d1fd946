//! Every object against the JSON schema of its kind, which refuses what it does not know.

use super::{kinds::Kinds, *};

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
         components: ['{knative}/components/read-write-once', '{knative}/components/monitoring', \
         '{knative}/components/cilium']\n"
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
