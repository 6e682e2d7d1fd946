//! What Fovea keeps: the two claims and how many nodes may mount them, and the key of the artefacts.

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolumeClaim, Secret},
    storage::v1::StorageClass,
};
use kube::{Api, api::ListParams};

use super::{APPLY, Doctor, Finding, optional};
use crate::error::{Action, Result};

const VOLUMES: &str = "volumes";
const KEY: &str = "artefact key";

/// The claims of volume 1 and volume 2.
const CLAIMS: [&str; 2] = ["data", "models"];

/// The Secret, its entry and how long that has to be.
const SECRET: (&str, &str, usize) = ("artefact-key", "key", 32);

impl Doctor {
    /// Whether both claims are bound, to volumes that every node with a pod may mount.
    pub(super) async fn volumes(&self) -> Vec<Finding> {
        let mut findings = vec![];
        for name in CLAIMS {
            findings.push(match self.claim(name).await {
                Ok(finding) => finding,
                Err(error) => Finding::unknown(VOLUMES, &error),
            });
        }
        findings
    }

    async fn claim(&self, name: &str) -> Result<Finding> {
        let claim = self.find::<PersistentVolumeClaim>(self.namespace(), "persistentvolumeclaims", "", name).await?;
        let Some(claim) = claim else {
            return Ok(Finding::failed(VOLUMES, format!("there is no claim {name}"), APPLY));
        };
        let namespace = self.namespace();
        let (spec, status) = (claim.spec.unwrap_or_default(), claim.status.unwrap_or_default());
        let phase = status.phase.as_deref().unwrap_or("Pending");
        let describe = format!("kubectl -n {namespace} describe pvc {name}");
        if phase != "Bound" {
            return Ok(match self.class(spec.storage_class_name.as_deref()).await? {
                Some(finding) => finding,
                None => Finding::failed(VOLUMES, format!("the claim {name} is {phase}, not Bound"), describe),
            });
        }
        let modes = status.access_modes.or(spec.access_modes).unwrap_or_default();
        let shared = modes.iter().any(|mode| mode == "ReadWriteMany");
        if shared {
            return Ok(Finding::ok(VOLUMES, format!("{name} is bound, for every node (ReadWriteMany)")));
        }
        let nodes: Api<Node> = Api::all(self.cluster.client().clone());
        let list = Action { verb: "list", resource: "nodes", group: "", name: None, namespace: "" };
        let n_nodes = nodes.list(&ListParams::default()).await.map_err(|error| list.failed(error))?.items.len();
        let modes = modes.join(", ");
        Ok(if n_nodes == 1 {
            Finding::ok(VOLUMES, format!("{name} is bound, for one node ({modes}), and there is one"))
        } else {
            let says =
                format!("{name} can be mounted by one node ({modes}), and there are {n_nodes}: pods elsewhere wait");
            let mend = "use a storage class for ReadWriteMany, or the component knative/components/read-write-once";
            Finding::warning(VOLUMES, says, mend)
        })
    }

    /// What is wrong with the storage class that a claim asks for; a class that is named and empty asks for none.
    async fn class(&self, name: Option<&str>) -> Result<Option<Finding>> {
        let classes: Api<StorageClass> = Api::all(self.cluster.client().clone());
        let action =
            |verb, name| Action { verb, resource: "storageclasses", group: "storage.k8s.io", name, namespace: "" };
        match name {
            Some("") => Ok(None),
            Some(name) => {
                let get = action("get", Some(name));
                let class = optional(classes.get(name).await.map_err(|error| get.failed(error)))?;
                let says = format!("there is no storage class {name}, which a claim asks for");
                let mend = "kubectl get storageclass, and name one of these in the overlay";
                Ok(class.is_none().then(|| Finding::failed(VOLUMES, says, mend)))
            }
            None => {
                let list = action("list", None);
                let all = classes.list(&ListParams::default()).await.map_err(|error| list.failed(error))?.items;
                let is_default = |class: &StorageClass| {
                    let mark = class.metadata.annotations.iter().flatten();
                    mark.into_iter()
                        .any(|(key, value)| key == "storageclass.kubernetes.io/is-default-class" && value == "true")
                };
                let says = "the claims name no storage class, and the cluster has no default one";
                let mend = "kubectl patch storageclass <one of them> -p \
                            '{\"metadata\":{\"annotations\":{\"storageclass.kubernetes.io/is-default-class\":\"true\"}}}'";
                Ok((!all.iter().any(is_default)).then(|| Finding::failed(VOLUMES, says, mend)))
            }
        }
    }

    /// Whether the key is there by which functions trust what was baked.
    pub(super) async fn key(&self) -> Vec<Finding> {
        let (name, entry, length) = SECRET;
        let namespace = self.namespace();
        let make = format!(
            "kubectl -n {namespace} create secret generic {name} --from-file={entry}=<(head -c {length} /dev/urandom)"
        );
        let secret = match self.find::<Secret>(namespace, "secrets", "", name).await {
            Ok(Some(secret)) => secret,
            Ok(None) => return vec![Finding::failed(KEY, format!("there is no Secret {name}"), make)],
            Err(error) => return vec![Finding::unknown(KEY, &error)],
        };
        let again = format!("kubectl -n {namespace} delete secret {name}; {make}");
        vec![match secret.data.unwrap_or_default().get(entry).map(|key| key.0.len()) {
            Some(found) if found >= length => Finding::ok(KEY, format!("the Secret {name} has {found} bytes")),
            Some(found) => Finding::failed(KEY, format!("{name} has {found} bytes; expected {length}"), again),
            None => Finding::failed(KEY, format!("{name} has no entry {entry}"), again),
        }]
    }
}
