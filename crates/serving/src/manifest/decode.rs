//! From JSON to typed objects, strictly: an unknown field is an error, as for an API server that validates fields.
//!
//! # Source
//! `fieldValidation=Strict` of the Kubernetes API, for the texts of unknown fields.

use std::fmt;

use autoscaler::go;
use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;
use thiserror::Error;

/// What only an API server writes into metadata; dropped wherever metadata stands.
const SERVER_METADATA: [&str; 10] = [
    "uid",
    "resourceVersion",
    "generation",
    "selfLink",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "ownerReferences",
    "finalizers",
];

/// Why an object cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct DecodeError {
    /// Paths of the unknown fields.
    pub unknown_fields: Vec<String>,
    /// The first value of a wrong type: its path and what is wrong with it.
    pub wrong_type: Option<(String, String)>,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = self.unknown_fields.iter().map(|path| format!("unknown field {}", go::quote(path)));
        let wrong = self.wrong_type.iter().map(|(path, message)| format!("{path}: {message}"));
        f.write_str(&unknown.chain(wrong).collect::<Vec<_>>().join(", "))
    }
}

/// Reads an object as its API server would: `null` is as good as absent, what the server itself writes is dropped.
///
/// # Errors
/// All unknown fields, and the first value of a wrong type.
pub fn decode<T: DeserializeOwned>(mut value: Value) -> Result<T, DecodeError> {
    normalize(&mut value);
    let mut unknown_fields = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let decoded = serde_ignored::deserialize(deserializer, |path| unknown_fields.push(render(&path)));
    match decoded {
        Ok(decoded) if unknown_fields.is_empty() => Ok(decoded),
        Ok(_) => Err(DecodeError { unknown_fields, wrong_type: None }),
        Err(error) => {
            let error: serde_json::Error = error;
            let wrong_type = Some((track.path().to_string(), explain(&error.to_string())));
            Err(DecodeError { unknown_fields, wrong_type })
        }
    }
}

/// Drops `null`s, the status and the server's part of metadata.
pub(crate) fn normalize(value: &mut Value) {
    drop_nulls(value);
    let Some(object) = value.as_object_mut() else { return };
    object.remove("status");
    for pointer in ["/metadata", "/spec/template/metadata"] {
        if let Some(metadata) = value.pointer_mut(pointer).and_then(Value::as_object_mut) {
            metadata.retain(|key, _| !SERVER_METADATA.contains(&key.as_str()));
        }
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn render(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", render(parent)),
        Path::Map { parent, key } => {
            let parent = render(parent);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => render(parent),
    }
}

/// Says in words of YAML what the decoder says in words of Rust.
fn explain(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "i32" | "i64" => "an integer",
        "a sequence" => "a list",
        "a map" => "an object",
        expected if expected.starts_with("struct ") => "an object",
        expected => expected,
    };
    let scalar = ["integer", "floating point", "boolean"].iter().any(|kind| found.contains(&format!("type: {kind}")));
    let hint = if expected == "a string" && scalar { "; put it in quotes" } else { "" };
    format!("{found}, expected {expected}{hint}")
        .replace("invalid type: map", "invalid type: object")
        .replace("invalid type: sequence", "invalid type: list")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::Service;

    fn service(template: Value) -> Value {
        json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "spec": {"template": template}})
    }

    #[track_caller]
    fn check(template: Value, wanted: &str) {
        let error = decode::<Service>(service(template)).expect_err("must be refused");
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn all_unknown_fields_are_told_at_once() {
        check(
            json!({"spec": {"contianers": [], "containers": [{"image": "a"}, {"imgae": "b", "ports": [{"port": 1}]}]}, "x": 1}),
            "unknown field \"spec.template.spec.containers[1].imgae\", unknown field \
             \"spec.template.spec.containers[1].ports[0].port\", unknown field \"spec.template.spec.contianers\", \
             unknown field \"spec.template.x\"",
        );
    }

    #[test]
    fn a_value_of_a_wrong_type_is_told_with_its_path() {
        check(
            json!({"metadata": {"annotations": {"autoscaling.knative.dev/min-scale": 1}}}),
            "spec.template.metadata.annotations.autoscaling.knative.dev/min-scale: invalid type: integer `1`, expected \
             a string; put it in quotes",
        );
        check(
            json!({"spec": {"timeoutSeconds": "30"}}),
            "spec.template.spec.timeoutSeconds: invalid type: string \"30\", expected an integer",
        );
        check(
            json!({"spec": {"containers": {"image": "a"}}}),
            "spec.template.spec.containers: invalid type: object, expected a list",
        );
        check(
            json!({"spec": {"containers": ["a"]}}),
            "spec.template.spec.containers[0]: invalid type: string \"a\", expected an object",
        );
        check(
            json!({"spec": {"containers": [{"resources": {"limits": {"memory": "64MB"}}}]}}),
            "spec.template.spec.containers[0].resources.limits.memory: quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        );
    }

    #[test]
    fn nulls_and_the_servers_fields_do_not_matter() {
        let written = json!({
            "kind": "Service",
            "metadata": {"name": "hello", "uid": "x", "generation": 3, "creationTimestamp": null, "managedFields": []},
            "spec": {"template": {"metadata": {"creationTimestamp": null}, "spec": null}},
            "status": {"url": "http://hello"},
        });
        let read: Service = decode(written).expect("must be read");
        assert_eq!((read.metadata.name.as_str(), read.spec.template.spec.containers), ("hello", None));
    }
}
