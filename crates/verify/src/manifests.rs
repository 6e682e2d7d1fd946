//! The base's manifests, moved into a namespace of the run's own and fitted to the cluster: names of images, volumes, and
//! what pods ask of a node, and where the API server is. Everything else stays as it is, for it is what is to be verified.

use kube::api::ApiResource;
use kube::core::{GroupVersionKind, ObjectMeta};
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    failure::{Failure, Result},
    options::{AccessMode, Install},
};

/// Label of all that a run makes, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "fovea-verify");

/// Label of all that a run makes: the run's id.
pub const RUN: &str = "fovea.dev/verify-run";

/// What every image of ours is called after its registry.
const IMAGES: &str = "fovea/";

/// Space of each claim: for a data set and two versions.
const STORAGE: [(&str, &str); 2] = [("data", "1Gi"), ("models", "2Gi")];

/// What Jobs ask of a node, so that they find room on a small one; what they may use stays.
const JOB_REQUESTS: (&str, &str) = ("250m", "512Mi");

/// How the manifests differ from the base.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    /// Id of the run.
    pub run: &'a str,
    /// Where everything goes.
    pub namespace: &'a str,
    /// Images, storage class and node.
    pub install: &'a Install,
    /// Access mode of the claims.
    pub access_mode: AccessMode,
    /// Where the web must be let.
    pub api_server: &'a ApiServer,
}

/// An object and where it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// As it is applied.
    pub value: Value,
}

impl Object {
    /// Its kind and name, such as `Deployment web`.
    pub fn title(&self) -> String {
        format!("{} {}", self.text("/kind"), self.name())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// A text in it; empty where there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it is of this kind of this group; the core group is empty.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        let version = self.text("/apiVersion");
        self.text("/kind") == kind && version.split_once('/').map_or("", |(group, _)| group) == group
    }

    /// How the API server calls its kind.
    pub fn resource(&self) -> ApiResource {
        let (group, version) = self.text("/apiVersion").split_once('/').unwrap_or(("", self.text("/apiVersion")));
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, self.text("/kind")))
    }
}

/// All objects of a run: the Namespace first, by itself.
#[derive(Clone, Debug)]
pub struct Manifests {
    /// The namespace, with the levels of its pods.
    pub namespace: Object,
    /// What lies in it.
    pub objects: Vec<Object>,
}

impl Manifests {
    /// Fits rendered objects to a cluster.
    ///
    /// # Errors
    /// If they are not such that they can be put into one namespace
    pub fn new(mut rendered: Vec<Value>, changes: &Changes<'_>) -> Result<Self> {
        rendered.extend(changes.api_server.own_policy()?);
        let (namespaces, others): (Vec<_>, Vec<_>) =
            rendered.into_iter().map(|value| Object { value }).partition(|object| object.is("", "Namespace"));
        let [namespace] = <[Object; 1]>::try_from(namespaces)
            .map_err(|found| Failure::new(format!("the manifests have {} Namespaces; expected one", found.len())))?;
        let before = namespace.name().to_owned();
        let all = std::iter::once(namespace).chain(others).map(|object| changes.apply(object, &before));
        let mut all = all.collect::<Result<Vec<_>>>()?;
        let namespace = all.remove(0);
        Ok(Self { namespace, objects: all })
    }

    /// The Knative Service of this name.
    pub fn function(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.is(cluster::knative::GROUP, "Service") && object.name() == name)
    }

    /// Names of all images, each once.
    pub fn images(&self) -> Vec<String> {
        let mut images: Vec<_> = self
            .objects
            .iter()
            .filter_map(|object| object.value.pointer(pod_pointer(object)?))
            .flat_map(|pod| pod["containers"].as_array().into_iter().flatten())
            .filter_map(|container| container["image"].as_str().map(str::to_owned))
            .collect();
        images.sort();
        images.dedup();
        images
    }

    /// Puts an image where another is.
    pub fn set_image(&mut self, before: &str, after: &str) {
        for object in &mut self.objects {
            let pod = pod_pointer(object).and_then(|pointer| object.value.pointer_mut(pointer));
            let containers = pod.and_then(|pod| pod["containers"].as_array_mut()).into_iter().flatten();
            for container in containers.filter(|container| container["image"] == before) {
                container["image"] = json!(after);
            }
        }
    }
}

impl Changes<'_> {
    fn apply(&self, mut object: Object, before: &str) -> Result<Object> {
        let title = object.title();
        let value = &mut object.value;
        rename(value, before, self.namespace);
        let metadata = &mut value["metadata"];
        metadata["labels"][MANAGED_BY.0] = json!(MANAGED_BY.1);
        metadata["labels"][RUN] = json!(self.run);
        // What is not in a namespace of ours would not go with it.
        let is_inside = metadata["namespace"] == self.namespace || object.is("", "Namespace");
        if !is_inside {
            return Err(Failure::new(format!("{title} is not in the namespace {before}, so it would be left behind")));
        }
        if object.is("", "PersistentVolumeClaim") {
            self.fit_claim(&mut object);
        }
        if object.is("networking.k8s.io", "NetworkPolicy")
            && object.name() == "web"
            && let Some(egress) = object.value.pointer_mut("/spec/egress").and_then(Value::as_array_mut)
        {
            egress.extend(self.api_server.rules());
        }
        if let Some(pointer) = pod_pointer(&object)
            && let Some(pod) = object.value.pointer_mut(pointer)
        {
            self.fit_pod(pod);
        }
        if object.is("batch", "CronJob") {
            let requests = json!({"cpu": JOB_REQUESTS.0, "memory": JOB_REQUESTS.1});
            let containers = object.value.pointer_mut("/spec/jobTemplate/spec/template/spec/containers");
            for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
                container["resources"]["requests"] = requests.clone();
            }
        }
        if object.value.to_string().contains(before) && !self.namespace.contains(before) {
            return Err(Failure::new(format!(
                "{title} still speaks of {before}, which this run has nothing to do with"
            )));
        }
        Ok(object)
    }

    fn fit_claim(&self, object: &mut Object) {
        let size = STORAGE.iter().find(|(name, _)| *name == object.name()).map(|(_, size)| *size);
        let spec = &mut object.value["spec"];
        spec["accessModes"] = json!([self.access_mode.name()]);
        if let Some(class) = &self.install.storage_class {
            spec["storageClassName"] = json!(class);
        }
        if let Some(size) = size {
            spec["resources"]["requests"]["storage"] = json!(size);
        }
    }

    fn fit_pod(&self, pod: &mut Value) {
        let Install { registry, tag, pull_policy, pull_secret, node, .. } = self.install;
        for container in pod["containers"].as_array_mut().into_iter().flatten() {
            let name = container["image"].as_str().and_then(|image| image.split([':', '@']).next());
            if let Some(name) = name.filter(|name| name.starts_with(IMAGES)) {
                let prefix = registry.as_ref().map(|registry| format!("{}/", registry.trim_end_matches('/')));
                container["image"] = json!(format!("{}{name}:{tag}", prefix.unwrap_or_default()));
            }
            if let Some(policy) = pull_policy {
                container["imagePullPolicy"] = json!(policy.name());
            }
        }
        if let Some(secret) = pull_secret {
            pod["imagePullSecrets"] = json!([{"name": secret.name}]);
        }
        if let Some(node) = node {
            pod["nodeSelector"]["kubernetes.io/hostname"] = json!(node);
        }
    }
}

/// Where an object keeps the pod that it makes.
fn pod_pointer(object: &Object) -> Option<&'static str> {
    let makes = object.is("apps", "Deployment") || object.is(cluster::knative::GROUP, "Service");
    match makes {
        true => Some("/spec/template/spec"),
        false => object.is("batch", "CronJob").then_some("/spec/jobTemplate/spec/template/spec"),
    }
}

/// Puts a namespace's name where another stands: as a whole text, or as a part of a host name.
fn rename(value: &mut Value, before: &str, after: &str) {
    match value {
        Value::String(text) if text == before => after.clone_into(text),
        Value::String(text) => *text = text.replace(&format!(".{before}.svc"), &format!(".{after}.svc")),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, before, after)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, before, after)),
        _ => {}
    }
}

/// Metadata of an object that the run makes by itself.
pub fn metadata(run: &str, name: &str) -> ObjectMeta {
    let labels = [(MANAGED_BY.0, MANAGED_BY.1), (RUN, run)];
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ..ObjectMeta::default()
    }
}
