//! A manifest may mount a folder that is a link, such as a registry's current version. Links are followed here, when
//! the manifest is applied: a revision is of one version for good, and when a link comes to stand for another folder,
//! that is another template.

use serde_json::Value;

use super::{
    Places,
    plan::{PlanError, inside},
};

/// The manifest with each `subPath` of a claim replaced by the folder it stands for, as far as there is one.
///
/// # Errors
/// If a link leads out of its claim
pub(crate) fn followed(manifest: &Value, places: &Places) -> Result<Value, PlanError> {
    let mut manifest = manifest.clone();
    let Some(pod) = manifest.pointer_mut("/spec/template/spec") else { return Ok(manifest) };
    let claims: Vec<(String, String)> = list(pod.get("volumes"))
        .filter_map(|volume| {
            let claim = volume.pointer("/persistentVolumeClaim/claimName")?.as_str()?;
            Some((volume.get("name")?.as_str()?.to_owned(), claim.to_owned()))
        })
        .collect();
    let containers = pod.get_mut("containers").and_then(Value::as_array_mut);
    for mount in containers.into_iter().flatten().filter_map(|container| container.get_mut("volumeMounts")) {
        for mount in mount.as_array_mut().into_iter().flatten() {
            let folder = claims
                .iter()
                .find(|(volume, _)| mount.get("name").and_then(Value::as_str) == Some(volume))
                .and_then(|(_, claim)| places.claims.get(claim));
            let (Some(folder), Some(sub_path)) = (folder, mount.get("subPath").and_then(Value::as_str)) else {
                continue;
            };
            let (Some(root), Some(found)) = (inside(folder, "")?, inside(folder, sub_path)?) else { continue };
            if let Some(found) = found.strip_prefix(&root).ok().and_then(|found| found.to_str()) {
                mount["subPath"] = Value::from(found);
            }
        }
    }
    Ok(manifest)
}

/// Whether a manifest mounts anything that may be a link.
pub(crate) fn may_move(manifest: &Value) -> bool {
    list(manifest.pointer("/spec/template/spec/containers"))
        .flat_map(|container| list(container.get("volumeMounts")))
        .any(|mount| mount.get("subPath").and_then(Value::as_str).is_some_and(|path| !path.is_empty()))
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::{fs, os::unix::fs::symlink};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_mounted_link_is_replaced_by_what_it_stands_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("models/m/v1")).unwrap();
        let places = Places { claims: [("models".to_owned(), dir.path().to_owned())].into(), ..Places::default() };
        let manifest = |path: &str| {
            json!({ "spec": { "template": { "spec": {
                "containers": [{ "volumeMounts": [
                    { "name": "data", "mountPath": "/model", "subPath": path },
                    { "name": "other", "mountPath": "/x", "subPath": "models/m/current" },
                ] }],
                "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "models" } }],
            } } } })
        };
        let link = dir.path().join("models/m/current");
        let written = manifest("models/m/current");
        assert!(may_move(&written) && !may_move(&json!({ "spec": {} })));
        assert_eq!(followed(&written, &places).unwrap(), written, "there is nothing to follow yet");
        symlink("v1", &link).unwrap();
        assert_eq!(followed(&written, &places).unwrap(), manifest("models/m/v1"));
        assert_eq!(followed(&manifest("models/m/v1"), &places).unwrap(), manifest("models/m/v1"));

        fs::remove_file(&link).unwrap();
        symlink("/", &link).unwrap();
        assert!(followed(&written, &places).unwrap_err().to_string().contains("leads out of"));
    }
}
