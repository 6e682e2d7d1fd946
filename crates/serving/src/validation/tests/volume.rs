//! Volumes and their mounts.

use super::*;

#[test]
fn persistent_volumes_stand_behind_two_flags() {
    let claim = "persistentVolumeClaim: {claimName: models}";
    let read_only = "persistentVolumeClaim: {claimName: models, readOnly: true}";
    let reads = [("kubernetes.podspec-persistent-volume-claim", "enabled")];
    let writes = [reads[0], ("kubernetes.podspec-persistent-volume-write", "enabled")];
    check_volume(&writes, claim, "mountPath: /models, subPath: v7", &[]);
    check_volume(&writes, claim, "mountPath: /models, readOnly: true", &[]);
    check_volume(&reads, read_only, "mountPath: /models, readOnly: true", &[]);
    check_volume(
        &reads,
        claim,
        "mountPath: /models",
        &[
            "Persistent volume write support is disabled, but found persistent volume claim models that is not read-only: ",
        ],
    );
    check_volume(
        &reads,
        read_only,
        "mountPath: /models",
        &["volume is readOnly but volume mount is not: $POD.containers[0].volumeMounts[0].readOnly"],
    );
    check_volume(
        &[],
        read_only,
        "mountPath: /models, readOnly: true",
        &[
            "Persistent volume claim support is disabled, but found persistent volume claim models: ",
            "must not set the field(s): $POD.volumes[0].persistentVolumeClaim",
        ],
    );
}

#[test]
fn a_volume_has_one_source_of_a_known_kind() {
    check_volume(&[], "secret: {secretName: s, items: [{key: k, path: p, mode: 256}]}", "mountPath: /x", &[]);
    check_volume(
        &[],
        "configMap: {items: [{}]}, emptyDir: {medium: Disk, sizeLimit: -1Gi}",
        "mountPath: /x",
        &[
            "expected exactly one, got both: $POD.volumes[0].configMap, $POD.volumes[0].emptyDir",
            "invalid value: -1Gi: $POD.volumes[0].emptyDir.sizeLimit",
            "invalid value: Disk: $POD.volumes[0].emptyDir.medium",
            "missing field(s): $POD.volumes[0].items[0].key, $POD.volumes[0].items[0].path",
        ],
    );
    check_volume(
        &[("kubernetes.podspec-volumes-emptydir", "disabled")],
        "nfs: {}",
        "mountPath: /x",
        &[
            "expected exactly one, got neither: $POD.volumes[0].configMap, $POD.volumes[0].projected, \
             $POD.volumes[0].secret",
            "must not set the field(s): $POD.volumes[0].nfs",
        ],
    );
    check_volume(
        &[("kubernetes.podspec-volumes-image", "enabled")],
        "image: {pullPolicy: Sometimes}",
        "mountPath: /x",
        &[
            "invalid value: Sometimes: $POD.volumes[0].image.pullPolicy",
            "missing field(s): $POD.volumes[0].image.reference",
        ],
    );
}

#[test]
fn projected_volumes_have_sources_of_their_own() {
    check_volume(
        &[],
        "projected: {sources: [{secret: {name: s}}, {serviceAccountToken: {path: t}}, {downwardAPI: {items: [{path: l, \
         fieldRef: {fieldPath: x}}]}}]}",
        "mountPath: /x",
        &[],
    );
    check_volume(
        &[],
        "projected: {sources: [{}, {configMap: {items: [{key: k}]}, podCertificate: {}}, {downwardAPI: {items: [{}, {path: \
         p, fieldRef: {}, resourceFieldRef: {}}]}}]}",
        "mountPath: /x",
        &[
            "Within a single item, cannot set both: $POD.volumes[0].projected[2].downwardAPI.items[1].fieldRef, \
             $POD.volumes[0].projected[2].downwardAPI.items[1].resourceFieldRef",
            "expected exactly one, got neither: $POD.volumes[0].projected[0].configMap, \
             $POD.volumes[0].projected[0].downwardAPI, $POD.volumes[0].projected[0].secret, \
             $POD.volumes[0].projected[0].serviceAccountToken, \
             $POD.volumes[0].projected[2].downwardAPI.items[0].fieldRef, \
             $POD.volumes[0].projected[2].downwardAPI.items[0].resourceFieldRef",
            "missing field(s): $POD.volumes[0].projected[1].configMap.items[0].path, \
             $POD.volumes[0].projected[1].configMap.name, $POD.volumes[0].projected[2].downwardAPI.items[0].path",
            "must not set the field(s): $POD.volumes[0].projected[1].podCertificate",
        ],
    );
}

#[test]
fn volumes_and_mounts_belong_together() {
    check_pod(
        &Config::default(),
        "{containers: [{image: fn:v1, volumeMounts: [{name: none, mountPath: /a}]}], volumes: [{name: v, emptyDir: {}}, \
         {name: v, emptyDir: {}}, {emptyDir: {}}, {name: V, emptyDir: {}}]}",
        &[
            "duplicate volume name \"v\": $POD.volumes[1].name",
            "invalid value: V: $POD.volumes[3].name",
            "missing field(s): $POD.volumes[2].name",
            "volume with name \"\" not mounted: $POD.volumes[2].name",
            "volume with name \"V\" not mounted: $POD.volumes[3].name",
            "volume with name \"v\" not mounted: $POD.volumes[0].name, $POD.volumes[1].name",
            "volumeMount has no matching volume: $POD.containers[0].volumeMounts[0].name",
        ],
    );
}

#[test]
fn mounts_have_absolute_paths_of_their_own() {
    let dir = "emptyDir: {}";
    let mount = "$POD.containers[0].volumeMounts[0]";
    check_volume(&[], dir, "mountPath: /x/y", &[]);
    check_volume(&[], dir, "readOnly: true", &[&format!("missing field(s): {mount}.mountPath")]);
    check_volume(&[], dir, "mountPath: x", &[&format!("invalid value: x: {mount}.mountPath")]);
    check_volume(
        &[],
        dir,
        "mountPath: /dev/../dev/log/",
        &[&format!("mountPath \"/dev/log\" is a reserved path: {mount}.mountPath")],
    );
    check_volume(
        &[],
        dir,
        "mountPath: /x, subPathExpr: $(A)",
        &[&format!("must not set the field(s): {mount}.subPathExpr")],
    );
    check_volume(
        &[],
        dir,
        "mountPath: /x}, {name: v, mountPath: /x/",
        &["invalid value: \"/x/\" must be unique: $POD.containers[0].volumeMounts[1].mountPath"],
    );
    check_volume(
        &[("kubernetes.podspec-volumes-mount-propagation", "allowed")],
        dir,
        "mountPath: /x, mountPropagation: Both",
        &[
            "Volume Mount Propagation support is disabled, but found volume mount v with mount propagation: ",
            &format!("mount propagation should be set to None or HostToContainer: {mount}.mountPropagation"),
        ],
    );
}
