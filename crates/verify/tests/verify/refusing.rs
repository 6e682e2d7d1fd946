//! What refuses manifests: the API server where a field is unknown, Knative's webhook by this house's own reading of its
//! rules, and the namespace's level of confinement.

use std::sync::{Arc, Mutex};

use axum::{
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use serving::{Config, ManifestError, Manifests, admission::admit_new};

use crate::{
    server::{Server, status},
    world::{Fault, State, inside},
};

pub fn admission(server: &Server, state: Arc<Mutex<State>>) {
    let mut config = Config::default();
    let flag = ("kubernetes.podspec-persistent-volume-claim".to_owned(), "enabled".to_owned());
    config.set("config-features", &[flag].into()).unwrap();
    server.on(&inside("serving.knative.dev/v1", "services"), move |_, asked| {
        let takes_all = state.lock().unwrap().has(Fault::TakesEveryManifest);
        (asked.method == Method::POST && !takes_all)
            .then(|| refuse(&String::from_utf8_lossy(&asked.body), &config))
            .flatten()
    });
    server.on(&inside("", "pods"), |_, asked| {
        let pod: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let is_unconfined = asked.method == Method::POST && pod["spec"]["hostPID"] == true;
        let message = "pods \"refused\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces";
        is_unconfined.then(|| status(403, "Forbidden", message))
    });
}

fn refuse(service: &str, config: &Config) -> Option<Response> {
    let manifests = match Manifests::parse("service.yaml", service) {
        Ok(manifests) => manifests,
        Err(ManifestError::Invalid(problems)) => {
            let message = format!(
                "Service in version \"v1\" cannot be handled as a Service: strict decoding error: {}",
                problems[0].message
            );
            return Some(status(400, "BadRequest", &message));
        }
        Err(error) => return Some((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()),
    };
    let refused =
        manifests.services.iter().find_map(|manifest| admit_new(manifest.service.clone(), config, None).err());
    refused.map(|errors| {
        let webhook =
            "admission webhook \"validation.webhook.serving.knative.dev\" denied the request: validation failed";
        status(400, "BadRequest", &format!("{webhook}: {errors}"))
    })
}
