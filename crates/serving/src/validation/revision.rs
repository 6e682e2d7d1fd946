//! Templates of revisions.

use std::collections::BTreeMap;

use autoscaler::field_error::CURRENT_FIELD;
use autoscaler::{FieldError, FieldErrors, annotations, go};

use super::metadata::validate_networking;
use super::pod::validate_pod;
use crate::config::{Config, DefaultsConfig};
use crate::name::{dns_1035_label_faults, dns_1035_prefix_faults, go_list};
use crate::resource::{ObjectMeta, Quantity, RevisionSpec, RevisionTemplateSpec};

/// Checks a template; `parent` is the metadata of the Service or Configuration it belongs to.
pub(super) fn validate_template(template: &RevisionTemplateSpec, parent: &ObjectMeta, config: &Config) -> FieldErrors {
    let metadata = &template.metadata;
    let annotation_errors = annotations::validate(&metadata.annotations, &config.autoscaler)
        .also(annotations::validate_finite(&metadata.annotations))
        .also(annotations::validate_progress_deadline(&metadata.annotations))
        .also(validate_networking(&metadata.annotations))
        .also(validate_queue_proxy(&metadata.annotations));
    validate_spec(&template.spec, config)
        .via_field("spec")
        .also(annotation_errors.via_field("metadata.annotations"))
        .also(validate_revision_name(parent, &metadata.name, &metadata.generate_name))
}

/// Checks the name that the author of a template brings for its revision.
pub fn validate_revision_name(parent: &ObjectMeta, name: &str, generate_name: &str) -> FieldErrors {
    let invalid = |message: String, path: &str| FieldErrors::from(FieldError::invalid_value(message, path));
    if !generate_name.is_empty() {
        let faults = dns_1035_prefix_faults(generate_name);
        if !faults.is_empty() {
            return invalid(format!("not a DNS 1035 label prefix: {}", go_list(&faults)), "metadata.generateName");
        }
    }
    if name.is_empty() {
        return FieldErrors::new();
    }
    let faults = dns_1035_label_faults(name);
    if !faults.is_empty() {
        return invalid(format!("not a DNS 1035 label: {}", go_list(&faults)), "metadata.name");
    }
    if parent.name.is_empty() && !parent.generate_name.is_empty() {
        return FieldError::disallowed_fields(["metadata.name"]).into();
    }
    let prefix = format!("{}-", parent.name);
    if !name.starts_with(&prefix) {
        let message = format!("{} must have prefix {}", go::quote(name), go::quote(&prefix));
        return invalid(message, "metadata.name");
    }
    FieldErrors::new()
}

fn validate_spec(spec: &RevisionSpec, config: &Config) -> FieldErrors {
    let defaults = &config.defaults;
    validate_pod(spec, &config.features)
        .also(spec.timeout_seconds.into_iter().flat_map(|seconds| validate_timeout_seconds(seconds, defaults)))
        .also(spec.container_concurrency.and_then(|concurrency| concurrency_error(concurrency, defaults)))
}

/// Checks the seconds that a request may take.
pub fn validate_timeout_seconds(seconds: i64, defaults: &DefaultsConfig) -> FieldErrors {
    let max = defaults.max_revision_timeout_seconds;
    // 0 asks for the default, whatever the limit.
    let wrong = seconds != 0 && !(0..=max).contains(&seconds);
    wrong.then(|| FieldError::out_of_bounds(seconds, 0, max, "timeoutSeconds")).into()
}

fn concurrency_error(concurrency: i64, defaults: &DefaultsConfig) -> Option<FieldError> {
    let min = i64::from(!defaults.allow_container_concurrency_zero);
    let max = defaults.container_concurrency_max_limit;
    let wrong = concurrency < min || concurrency > max;
    wrong.then(|| FieldError::out_of_bounds(concurrency, min, max, "containerConcurrency"))
}

fn validate_queue_proxy(annotations: &BTreeMap<String, String>) -> FieldErrors {
    const PREFIX: &str = "queue.sidecar.serving.knative.dev/";
    const PERCENTAGE: [&str; 2] = ["resource-percentage", "resourcePercentage"];
    let get = |name: &str| {
        let key = format!("{PREFIX}{name}");
        annotations.get(&key).map(|value| (key, value))
    };
    let mut errors = FieldErrors::new();
    if let Some((key, text)) = PERCENTAGE.into_iter().find_map(get) {
        let error = match go::parse_float(text) {
            Err(_) => Some(FieldError::invalid_value(text, CURRENT_FIELD)),
            Ok(value) if !(0.1..=100.0).contains(&value) => {
                Some(FieldError::out_of_bounds(go::format_float(value), 0.1, 100, CURRENT_FIELD))
            }
            Ok(_) => None,
        };
        errors.extend(FieldErrors::from(error).via_key(&key));
    }
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        for kind in ["request", "limit"] {
            if let Some((key, text)) = get(&format!("{resource}-resource-{kind}"))
                && text.parse::<Quantity>().is_err()
            {
                errors.extend(FieldErrors::from(FieldError::invalid_value(text, CURRENT_FIELD)).via_key(&key));
            }
        }
    }
    errors
}
