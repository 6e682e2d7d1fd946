//! Knative manifests of the hostile guest.

use std::fmt;

use serde_json::{Value, json};

/// A Service of the hostile guest.
#[derive(Clone, Debug)]
pub struct Function(Value);

impl Function {
    /// One that is scaled to one instance at most, with places without end.
    pub fn new(name: &str) -> Self {
        let function = Self(json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": { "name": name },
            "spec": { "template": {
                "metadata": { "annotations": {} },
                "spec": { "containers": [{ "image": "fovea/hostile" }] },
            } },
        }));
        function.annotated("fovea.dev/component", "guest_hostile").annotated("autoscaling.knative.dev/max-scale", "1")
    }

    /// With this annotation on its template.
    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.0["spec"]["template"]["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub fn concurrency(mut self, places: u32) -> Self {
        self.pod()["containerConcurrency"] = json!(places);
        self
    }

    pub fn timeout_seconds(mut self, seconds: u32) -> Self {
        self.pod()["timeoutSeconds"] = json!(seconds);
        self
    }

    pub fn memory(mut self, limit: &str) -> Self {
        self.container()["resources"] = json!({ "limits": { "memory": limit } });
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.container()["env"] = json!([{ "name": name, "value": value }]);
        self
    }

    /// With a folder of the claim `models` at `/model`.
    pub fn mounting(mut self, folder: &str) -> Self {
        self.pod()["volumes"] =
            json!([{ "name": "models", "persistentVolumeClaim": { "claimName": "models", "readOnly": true } }]);
        self.container()["volumeMounts"] =
            json!([{ "name": "models", "mountPath": "/model", "subPath": folder, "readOnly": true }]);
        self
    }

    /// With the claim `models` at `/models`, and a folder of it as the model.
    pub fn modelled(mut self, folder: &str) -> Self {
        self = self.mounting("").env("FOVEA_MODEL_PATH", &format!("/models/{folder}"));
        self.container()["volumeMounts"][0]["mountPath"] = json!("/models");
        self
    }

    /// Ready once this path is answered with success.
    pub fn ready_at(mut self, path: &str) -> Self {
        self.container()["readinessProbe"] = json!({ "httpGet": { "path": path } });
        self
    }

    /// With a field of the container that is none.
    pub fn misspelt(mut self, field: &str) -> Self {
        self.container()[field] = json!("nonsense");
        self
    }

    fn pod(&mut self) -> &mut Value {
        &mut self.0["spec"]["template"]["spec"]
    }

    fn container(&mut self) -> &mut Value {
        &mut self.pod()["containers"][0]
    }
}

impl fmt::Display for Function {
    /// As a document of a stream; JSON is YAML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "---\n{:#}\n", self.0)
    }
}

/// Settings of the autoscaler, as a document of a stream.
pub fn config_autoscaler(data: &[(&str, &str)]) -> String {
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "config-autoscaler", "namespace": "knative-serving" },
        "data": data,
    });
    format!("---\n{map:#}\n")
}
