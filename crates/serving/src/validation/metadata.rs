//! Metadata of Services and Routes.

use std::collections::BTreeMap;

use autoscaler::field_error::CURRENT_FIELD;
use autoscaler::{FieldError, FieldErrors, annotations};

use crate::name::{dns_1035_label_faults, dns_1035_prefix_faults, go_list};
use crate::resource::ObjectMeta;

/// Checks names and annotations; paths begin with `metadata`.
pub(super) fn validate_metadata(metadata: &ObjectMeta) -> FieldErrors {
    FieldErrors::from(validate_names(metadata))
        .also(annotations::validate_absent(&metadata.annotations).via_field("annotations"))
        .also(annotations::validate_rollout_duration(&metadata.annotations).via_field("annotations"))
        .via_field("metadata")
}

fn validate_names(metadata: &ObjectMeta) -> Option<FieldError> {
    let ObjectMeta { name, generate_name, .. } = metadata;
    if name.is_empty() && generate_name.is_empty() {
        return Some(FieldError::new("name or generateName is required", ["name"]));
    }
    let prefix_faults = if generate_name.is_empty() { Vec::new() } else { dns_1035_prefix_faults(generate_name) };
    if !prefix_faults.is_empty() {
        let message = format!("not a DNS 1035 label prefix: {}", go_list(&prefix_faults));
        return Some(FieldError::new(message, ["generateName"]));
    }
    let faults = if name.is_empty() { Vec::new() } else { dns_1035_label_faults(name) };
    (!faults.is_empty()).then(|| FieldError::new(format!("not a DNS 1035 label: {}", go_list(&faults)), ["name"]))
}

/// Checks the annotations for the network, which only some keys may be.
pub(super) fn validate_networking(annotations: &BTreeMap<String, String>) -> FieldErrors {
    const ALLOWED: [&str; 9] = [
        "networking.knative.dev/ingress-class",
        "networking.knative.dev/ingress.class",
        "networking.knative.dev/certificate-class",
        "networking.knative.dev/certificate.class",
        "networking.knative.dev/disable-auto-tls",
        "networking.knative.dev/disableAutoTLS",
        "networking.knative.dev/disable-external-domain-tls",
        "networking.knative.dev/http-protocol",
        "networking.knative.dev/httpOption",
    ];
    annotations
        .keys()
        .filter(|key| key.starts_with("networking.knative.dev") && !ALLOWED.contains(&key.as_str()))
        .map(|key| FieldError::invalid_key_name(key, CURRENT_FIELD))
        .collect()
}
