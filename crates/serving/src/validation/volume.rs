//! Volumes and their mounts.

use std::collections::{BTreeMap, BTreeSet};

use autoscaler::{FieldError, FieldErrors, go};

use super::mask::disallowed;
use crate::config::{Features, Flag};
use crate::name::dns_1123_label_faults;
use crate::resource::{
    DownwardApiProjection, DownwardApiVolumeFile, EmptyDirVolumeSource, ImageVolumeSource, KeyToPath, ObjectProjection,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};

const RESERVED_PATHS: [&str; 3] = ["/", "/dev", "/dev/log"];

/// The volumes of a pod by their names.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

/// Checks the volumes of a pod; paths begin with the index.
pub(super) fn validate_volumes(volumes: &[Volume], mounted: &BTreeSet<&str>, features: &Features) -> FieldErrors {
    let mut seen = BTreeSet::new();
    let mut errors = FieldErrors::new();
    for (index, volume) in volumes.iter().enumerate() {
        let name = &volume.name;
        let mut found = FieldErrors::new();
        if !seen.insert(name) {
            found.push(FieldError::new(format!("duplicate volume name {}", go::quote(name)), ["name"]));
        }
        if !mounted.contains(name.as_str()) {
            found.push(FieldError::new(format!("volume with name {} not mounted", go::quote(name)), ["name"]));
        }
        errors.extend(found.also(validate_volume(volume, features)).via_index(index));
    }
    errors
}

fn validate_volume(volume: &Volume, features: &Features) -> FieldErrors {
    // A wrong name hides what was found before it, as in the webhook.
    let mut errors = if volume.name.is_empty() {
        FieldErrors::from(FieldError::missing_field(["name"]))
    } else if !dns_1123_label_faults(&volume.name).is_empty() {
        FieldErrors::from(FieldError::invalid_value(&volume.name, "name"))
    } else {
        validate_flagged_sources(volume, features)
    };
    errors.extend(disallowed(volume, &allowed_sources(features)));

    let key_errors = |items: &[KeyToPath]| {
        items.iter().enumerate().flat_map(|(index, item)| validate_key(item).via_field_index("items", index)).collect()
    };
    let mut specified: Vec<&str> = Vec::new();
    let mut source = |name: &'static str, found: Option<FieldErrors>| {
        if let Some(found) = found {
            specified.push(name);
            errors.extend(found);
        }
    };
    source("secret", volume.secret.as_ref().map(|secret| key_errors(&secret.items)));
    source("configMap", volume.config_map.as_ref().map(|map| key_errors(&map.items)));
    source(
        "projected",
        volume.projected.as_ref().map(|projected| {
            let sources = projected.sources.iter().enumerate();
            sources
                .flat_map(|(index, source)| validate_projection(source).via_field_index("projected", index))
                .collect()
        }),
    );
    source("emptyDir", volume.empty_dir.as_ref().map(|dir| validate_empty_dir(dir).via_field("emptyDir")));
    source("persistentVolumeClaim", volume.persistent_volume_claim.as_ref().map(|_| FieldErrors::new()));
    source("hostPath", volume.host_path.as_ref().map(|_| FieldErrors::new()));
    source("csi", volume.csi.as_ref().map(|_| FieldErrors::new()));
    source("ephemeral", volume.ephemeral.as_ref().map(|_| FieldErrors::new()));
    source("image", volume.image.as_ref().map(|image| validate_image(image).via_field("image")));

    match specified[..] {
        [] => errors.push(FieldError::missing_one_of(possible_sources(features))),
        [_] => {}
        _ => errors.push(FieldError::multiple_one_of(specified)),
    }
    errors
}

/// The sources that a cluster may turn on, with their names and whether they are.
fn flagged_sources(features: &Features) -> [(&'static str, Flag); 6] {
    [
        ("emptyDir", features.pod_spec_volumes_empty_dir),
        ("persistentVolumeClaim", features.pod_spec_persistent_volume_claim),
        ("hostPath", features.pod_spec_volumes_host_path),
        ("csi", features.pod_spec_volumes_csi),
        ("ephemeral", features.pod_spec_volumes_ephemeral),
        ("image", features.pod_spec_volumes_image),
    ]
}

fn allowed_sources(features: &Features) -> Vec<&'static str> {
    let flagged = flagged_sources(features).into_iter().filter(|(_, flag)| flag.is_allowed()).map(|(name, _)| name);
    ["name", "secret", "configMap", "projected"].into_iter().chain(flagged).collect()
}

fn possible_sources(features: &Features) -> Vec<&'static str> {
    let flagged = flagged_sources(features).into_iter().filter(|(_, flag)| flag.is_enabled()).map(|(name, _)| name);
    ["secret", "configMap", "projected"].into_iter().chain(flagged).collect()
}

fn validate_flagged_sources(volume: &Volume, features: &Features) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut refuse = |message: String| errors.push(FieldError::new(message, [] as [&str; 0]));
    if let Some(claim) = &volume.persistent_volume_claim {
        let name = &claim.claim_name;
        if !features.pod_spec_persistent_volume_claim.is_enabled() {
            refuse(format!("Persistent volume claim support is disabled, but found persistent volume claim {name}"));
        }
        if !claim.read_only && !features.pod_spec_persistent_volume_write.is_enabled() {
            refuse(format!(
                "Persistent volume write support is disabled, but found persistent volume claim {name} that is not \
                 read-only"
            ));
        }
    }
    for (kind, is_set, flag) in [
        ("Image", volume.image.is_some(), features.pod_spec_volumes_image),
        ("EmptyDir", volume.empty_dir.is_some(), features.pod_spec_volumes_empty_dir),
        ("HostPath", volume.host_path.is_some(), features.pod_spec_volumes_host_path),
        ("CSI", volume.csi.is_some(), features.pod_spec_volumes_csi),
        ("Ephemeral", volume.ephemeral.is_some(), features.pod_spec_volumes_ephemeral),
    ] {
        if is_set && !flag.is_enabled() {
            refuse(format!("{kind} volume support is disabled, but found {kind} volume {}", volume.name));
        }
    }
    errors
}

fn validate_key(item: &KeyToPath) -> FieldErrors {
    missing_if_empty([("key", &item.key), ("path", &item.path)])
}

fn missing_if_empty<const N: usize>(fields: [(&str, &String); N]) -> FieldErrors {
    fields
        .into_iter()
        .filter(|(_, value)| value.is_empty())
        .map(|(name, _)| FieldError::missing_field([name]))
        .collect()
}

fn validate_projection(projection: &VolumeProjection) -> FieldErrors {
    let mut errors =
        FieldErrors::from(disallowed(projection, &["secret", "configMap", "serviceAccountToken", "downwardAPI"]));
    let found = [
        ("secret", projection.secret.as_ref().map(validate_object_projection)),
        ("configMap", projection.config_map.as_ref().map(validate_object_projection)),
        ("serviceAccountToken", projection.service_account_token.as_ref().map(validate_token)),
        ("downwardAPI", projection.downward_api.as_ref().map(validate_downward_api)),
    ];
    let mut specified = Vec::new();
    for (name, found) in found {
        if let Some(found) = found {
            specified.push(name);
            errors.extend(found.via_field(name));
        }
    }
    match specified[..] {
        [] => errors.push(FieldError::missing_one_of(["secret", "configMap", "serviceAccountToken", "downwardAPI"])),
        [_] => {}
        _ => errors.push(FieldError::multiple_one_of(specified)),
    }
    errors
}

fn validate_object_projection(object: &ObjectProjection) -> FieldErrors {
    let items = object.items.iter().enumerate();
    missing_if_empty([("name", &object.name)])
        .also(items.flat_map(|(index, item)| validate_key(item).via_field_index("items", index)))
}

fn validate_token(token: &ServiceAccountTokenProjection) -> FieldErrors {
    missing_if_empty([("path", &token.path)])
}

fn validate_downward_api(projection: &DownwardApiProjection) -> FieldErrors {
    let check = |file: &DownwardApiVolumeFile| {
        let sources = match (&file.field_ref, &file.resource_field_ref) {
            (None, None) => Some(FieldError::missing_one_of(["fieldRef", "resourceFieldRef"])),
            (Some(_), Some(_)) => {
                Some(FieldError::new("Within a single item, cannot set both", ["resourceFieldRef", "fieldRef"]))
            }
            _ => None,
        };
        FieldErrors::from(sources).also(missing_if_empty([("path", &file.path)]))
    };
    let items = projection.items.iter().enumerate();
    items.flat_map(|(index, file)| check(file).via_field_index("items", index)).collect()
}

fn validate_empty_dir(dir: &EmptyDirVolumeSource) -> FieldErrors {
    let wrong_medium = !matches!(dir.medium.as_str(), "" | "Memory");
    let negative = dir.size_limit.filter(|limit| limit.value() < 0);
    FieldErrors::from(wrong_medium.then(|| FieldError::invalid_value(&dir.medium, "medium")))
        .also(negative.map(|limit| FieldError::invalid_value(limit, "sizeLimit")))
}

fn validate_image(image: &ImageVolumeSource) -> FieldErrors {
    let known = matches!(image.pull_policy.as_str(), "" | "IfNotPresent" | "Always" | "Never");
    missing_if_empty([("reference", &image.reference)])
        .also((!known).then(|| FieldError::invalid_value(&image.pull_policy, "pullPolicy")))
}

/// Checks where a container sees its volumes; paths begin with the index.
pub(super) fn validate_mounts(mounts: &[VolumeMount], volumes: &Volumes<'_>, features: &Features) -> FieldErrors {
    let mut seen_paths = BTreeSet::new();
    let mut errors = FieldErrors::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = clean(&mount.mount_path);
        let path_error = validate_mount_path(&mount.mount_path, &path, seen_paths.contains(&path));
        seen_paths.insert(path);
        let volume = volumes.get(mount.name.as_str()).copied();
        errors.extend(validate_mount(mount, volume, features).also(path_error).via_index(index));
    }
    errors
}

fn validate_mount_path(written: &str, path: &str, is_taken: bool) -> Option<FieldError> {
    if written.is_empty() {
        Some(FieldError::missing_field(["mountPath"]))
    } else if RESERVED_PATHS.contains(&path) {
        Some(FieldError::new(format!("mountPath {} is a reserved path", go::quote(path)), ["mountPath"]))
    } else if !written.starts_with('/') {
        Some(FieldError::invalid_value(written, "mountPath"))
    } else if is_taken {
        Some(FieldError::invalid_value(format!("{} must be unique", go::quote(written)), "mountPath"))
    } else {
        None
    }
}

fn validate_mount(mount: &VolumeMount, volume: Option<&Volume>, features: &Features) -> FieldErrors {
    let mut allowed = vec!["name", "readOnly", "mountPath", "subPath"];
    if features.pod_spec_volumes_mount_propagation.is_allowed() {
        allowed.push("mountPropagation");
    }
    let mut errors = FieldErrors::from(disallowed(mount, &allowed));
    if volume.is_none() {
        errors.push(FieldError::new("volumeMount has no matching volume", ["name"]));
    }
    let claim = volume.and_then(|volume| volume.persistent_volume_claim.as_ref());
    if !mount.read_only {
        if !volume.is_some_and(Volume::may_be_written) {
            errors.push(FieldError::new("volume mount should be readOnly for this type of volume", ["readOnly"]));
        }
        if claim.is_some_and(|claim| claim.read_only) {
            errors.push(FieldError::new("volume is readOnly but volume mount is not", ["readOnly"]));
        }
    }
    if let Some(propagation) = &mount.mount_propagation {
        if !features.pod_spec_volumes_mount_propagation.is_enabled() {
            let message = format!(
                "Volume Mount Propagation support is disabled, but found volume mount {} with mount propagation",
                mount.name
            );
            // Without a path of its own the error stands at the list.
            errors.push(FieldError::new(message, [] as [&str; 0]));
        }
        if !matches!(propagation.as_str(), "None" | "HostToContainer") {
            let message = "mount propagation should be set to None or HostToContainer";
            errors.push(FieldError::new(message, ["mountPropagation"]));
        }
    }
    errors
}

/// The shortest form of a path, as Go's `path.Clean` finds it.
fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => {
                parts.pop();
            }
            ("..", None) if is_absolute => {}
            _ => parts.push(part),
        }
    }
    match (is_absolute, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shortened() {
        for (path, cleaned) in [
            ("", "."),
            ("/", "/"),
            ("//", "/"),
            ("/dev/", "/dev"),
            ("/dev/../dev/./log", "/dev/log"),
            ("/../x", "/x"),
            ("a/../..", ".."),
            ("a//b", "a/b"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }
}
