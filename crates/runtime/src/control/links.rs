//! A manifest may mount a folder that is a link, such as a registry's current version. Links are followed here, when
//! the manifest is applied: a revision is of one version for good, and when a link comes to stand for another folder,
//! that is another template.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Places,
    plan::{MODEL_PATH, PlanError, inside},
};

/// The manifest with each `subPath` of a claim, and the model's folder in one, replaced by what it stands for, as far as
/// there is such a folder.
///
/// # Errors
/// If a link leads out of its claim
pub(crate) fn followed(manifest: &Value, places: &Places) -> Result<Value, PlanError> {
    let mut manifest = manifest.clone();
    let Some(pod) = manifest.pointer_mut("/spec/template/spec") else { return Ok(manifest) };
    let claims: HashMap<String, &Path> = list(pod.get("volumes"))
        .filter_map(|volume| {
            let claim = volume.pointer("/persistentVolumeClaim/claimName")?.as_str()?;
            Some((text(volume, "name")?.to_owned(), places.claims.get(claim)?.as_path()))
        })
        .collect();
    for container in pod.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        let mounts: Vec<Mount> = list(container.get("volumeMounts"))
            .enumerate()
            .filter_map(|(index, mount)| {
                Some(Mount {
                    index,
                    claim: claims.get(text(mount, "name")?)?,
                    at: text(mount, "mountPath")?.into(),
                    sub_path: text(mount, "subPath").unwrap_or_default().into(),
                })
            })
            .collect();
        for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(path) = model_path(variable).map(PathBuf::from) else { continue };
            let held = mounts.iter().find_map(|mount| Some((mount, path.strip_prefix(&mount.at).ok()?)));
            let Some((mount, below)) = held else { continue };
            if let Some(found) = mount.leads(below)?
                && let Some(found) = mount.at.join(found).to_str()
            {
                variable["value"] = Value::from(found);
            }
        }
        for mount in mounts.iter().filter(|mount| !mount.sub_path.as_os_str().is_empty()) {
            if let Some(found) = mount.claim_leads(&mount.sub_path)?
                && let Some(found) = found.to_str()
            {
                container["volumeMounts"][mount.index]["subPath"] = Value::from(found);
            }
        }
    }
    Ok(manifest)
}

/// Whether a manifest mounts anything that may be a link.
pub(crate) fn may_move(manifest: &Value) -> bool {
    list(manifest.pointer("/spec/template/spec/containers")).any(|container| {
        list(container.get("volumeMounts")).any(|mount| text(mount, "subPath").is_some_and(|path| !path.is_empty()))
            || list(container.get("env")).any(|variable| model_path(variable).is_some())
    })
}

/// A claim's folder as a container mounts it.
struct Mount<'a> {
    index: usize,
    claim: &'a Path,
    at: PathBuf,
    sub_path: PathBuf,
}

impl Mount<'_> {
    /// What a path below the mounted folder stands for, below it; `None` while there is none, or if it lies elsewhere
    /// in the claim.
    fn leads(&self, below: &Path) -> Result<Option<PathBuf>, PlanError> {
        let (root, found) = (self.claim_leads(&self.sub_path)?, self.claim_leads(&self.sub_path.join(below))?);
        let (Some(root), Some(found)) = (root, found) else { return Ok(None) };
        Ok(found.strip_prefix(root).ok().map(Path::to_owned))
    }

    /// What a path in the claim stands for; `None` while there is none.
    fn claim_leads(&self, path: &Path) -> Result<Option<PathBuf>, PlanError> {
        let (root, found) = (inside(self.claim, Path::new(""))?, inside(self.claim, path)?);
        let (Some(root), Some(found)) = (root, found) else { return Ok(None) };
        Ok(found.strip_prefix(root).ok().map(Path::to_owned))
    }
}

fn model_path(variable: &Value) -> Option<&str> {
    text(variable, "name").filter(|name| *name == MODEL_PATH).and_then(|_| text(variable, "value"))
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
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
                "containers": [{
                    "env": [
                        { "name": "FOVEA_MODEL_PATH", "value": format!("/all/{path}") },
                        { "name": "OTHER", "value": "/all/models/m/current" },
                    ],
                    "volumeMounts": [
                        { "name": "data", "mountPath": "/model", "subPath": path },
                        { "name": "data", "mountPath": "/all" },
                        { "name": "other", "mountPath": "/x", "subPath": "models/m/current" },
                    ],
                }],
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
