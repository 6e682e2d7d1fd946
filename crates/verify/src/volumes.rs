//! Volumes: which storage class they are of, how many nodes may mount one, and what keeps them from being there.

use cluster::{
    doctor::{Finding, Outcome},
    error::{Action, ClusterError},
};
use k8s_openapi::api::{
    core::v1::{Event, Node, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    options::AccessMode,
    preconditions::{VOLUMES, finding},
    run::Run,
};

/// Provisioners of folders and disks of one node: pods that mount their volumes are sent there by themselves.
const OF_A_NODE: [&str; 8] = [
    "rancher.io/local-path",
    "k8s.io/minikube-hostpath",
    "microk8s.io/hostpath",
    "docker.io/hostpath",
    "openebs.io/local",
    "local.csi.openebs.io",
    "zfs.csi.openebs.io",
    "topolvm.io",
];

/// Provisioners of disks that are attached to one node at a time: pods that mount their volumes are sent anywhere, and wait.
const ATTACHED: [&str; 20] = [
    "ebs.csi.aws.com",
    "kubernetes.io/aws-ebs",
    "pd.csi.storage.gke.io",
    "kubernetes.io/gce-pd",
    "disk.csi.azure.com",
    "kubernetes.io/azure-disk",
    "cinder.csi.openstack.org",
    "kubernetes.io/cinder",
    "csi.hetzner.cloud",
    "dobs.csi.digitalocean.com",
    "linodebs.csi.linode.com",
    "block.csi.vultr.com",
    "csi.scaleway.com",
    "blockvolume.csi.oraclecloud.com",
    "vpc.block.csi.ibm.io",
    "diskplugin.csi.alibabacloud.com",
    "csi.vsphere.vmware.com",
    "csi.proxmox.sinextra.dev",
    "rbd.csi.ceph.com",
    "rook-ceph.rbd.csi.ceph.com",
];

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Which access mode the claims can have, and whether there is a storage class that offers it.
pub async fn storage(run: &Run) -> (AccessMode, Finding) {
    let (class, nodes) = (storage_class(run).await, nodes(run).await);
    let class = match class {
        Ok(class) => class,
        Err(finding) => return (AccessMode::ReadWriteMany, finding),
    };
    let (name, provisioner) = (class.name_any(), class.provisioner.as_str());
    let is_attached = ATTACHED.contains(&provisioner);
    let of_one = nodes.len() == 1 || is_attached || OF_A_NODE.contains(&provisioner);
    let mode = if of_one { AccessMode::ReadWriteOnce } else { AccessMode::ReadWriteMany };
    let install = &run.options.install;
    if is_attached && nodes.len() > 1 && install.node.is_none() && install.access_mode.is_none() {
        let says = format!(
            "a volume of storage class {name} ({provisioner}) is attached to one node at a time, and {} nodes take pods",
            nodes.len()
        );
        let mend = format!(
            "--node {} has everything on that node; or name a class for ReadWriteMany with --storage-class",
            nodes[0]
        );
        return (mode, finding(Outcome::Failed, VOLUMES, says, Some(mend)));
    }
    let mode = install.access_mode.unwrap_or(mode);
    let says = format!("{}, of storage class {name} ({provisioner})", mode.name());
    (mode, finding(Outcome::Ok, VOLUMES, says, None))
}

async fn storage_class(run: &Run) -> Result<StorageClass, Finding> {
    let list = Action { verb: "list", resource: "storageclasses", group: "storage.k8s.io", name: None, namespace: "" };
    let api: Api<StorageClass> = Api::all(run.cluster.client().clone());
    let classes = api.list(&ListParams::default()).await.map_err(|error| list.failed(error));
    let classes = classes.map_err(|error| finding(Outcome::Failed, VOLUMES, error.to_string(), None))?.items;
    let wanted = run.options.install.storage_class.as_deref();
    let is_default = |class: &StorageClass| class.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true");
    let names = classes.iter().map(ResourceExt::name_any).collect::<Vec<_>>().join(", ");
    let names = if names.is_empty() { "none".to_owned() } else { names };
    let found = classes.into_iter().find(|class| match wanted {
        Some(name) => class.name_any() == name,
        None => is_default(class),
    });
    found.ok_or_else(|| {
        let says = match wanted {
            Some(name) => format!("there is no storage class {name}; there are: {names}"),
            None => format!("the cluster has no default storage class; there are: {names}"),
        };
        finding(Outcome::Failed, VOLUMES, says, Some("name one with --storage-class".to_owned()))
    })
}

/// Nodes that take any pod; none where they cannot be listed.
async fn nodes(run: &Run) -> Vec<String> {
    let api: Api<Node> = Api::all(run.cluster.client().clone());
    let nodes = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    let takes_pods = |node: &&Node| {
        let spec = node.spec.clone().unwrap_or_default();
        let tainted = spec.taints.iter().flatten().any(|taint| taint.effect != "PreferNoSchedule");
        !tainted && !spec.unschedulable.unwrap_or(false)
    };
    nodes.iter().filter(takes_pods).map(ResourceExt::name_any).collect()
}

/// What the provisioner says of a claim that it made no volume for.
///
/// # Errors
/// If the cluster does not tell
pub async fn hindrance(run: &Run) -> Result<Option<String>, ClusterError> {
    let list = |resource| Action { verb: "list", resource, group: "", name: None, namespace: run.namespace() };
    let claims = run.cluster.api::<PersistentVolumeClaim>().list(&ListParams::default()).await;
    let claims = claims.map_err(|error| list("persistentvolumeclaims").failed(error))?;
    let is_bound = |claim: &PersistentVolumeClaim| {
        claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
    };
    let waiting: Vec<_> = claims.iter().filter(|claim| !is_bound(claim)).map(ResourceExt::name_any).collect();
    if waiting.is_empty() {
        return Ok(None);
    }
    let failed = ListParams::default().fields("reason=ProvisioningFailed");
    let events = run.cluster.api::<Event>().list(&failed).await;
    let mut events = events.map_err(|error| list("events").failed(error))?.items;
    events.sort_by_key(|event| std::cmp::Reverse(cluster::told_at(event)));
    Ok(events.iter().find_map(|event| {
        let name = event.involved_object.name.as_ref().filter(|name| waiting.contains(name))?;
        let message = event.message.as_deref().unwrap_or("no reason told").trim();
        Some(format!("there is no volume for the claim {name}: {message}; see --storage-class and --access-mode"))
    }))
}
