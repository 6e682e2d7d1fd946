//! Services, new ones and changed ones.

use autoscaler::{FieldError, FieldErrors};
use serde_json::Value;

use super::metadata::validate_metadata;
use super::revision::validate_template;
use super::route::{TargetContext, validate_traffic};
use crate::admission::{CREATOR_ANNOTATION, LAST_MODIFIER_ANNOTATION};
use crate::config::Config;
use crate::resource::{RevisionTemplateSpec, Service};

/// Checks a Service whose defaults are filled in.
pub fn validate_service(service: &Service, config: &Config) -> FieldErrors {
    let spec = &service.spec;
    validate_metadata(&service.metadata)
        .also(validate_template(&spec.template, &service.metadata, config).via_field("spec.template"))
        .also(validate_traffic(&spec.traffic, TargetContext::SERVICE).via_field("spec.traffic"))
}

/// Checks a Service, defaults filled in, that is to replace the stored one.
pub fn validate_service_update(service: &Service, stored: &Service, config: &Config) -> FieldErrors {
    let annotation = |service: &Service, key: &str| service.metadata.annotations.get(key).cloned().unwrap_or_default();
    let changed = |key: &str| annotation(service, key) != annotation(stored, key);
    let creator =
        changed(CREATOR_ANNOTATION).then(|| FieldError::new("annotation value is immutable", [CREATOR_ANNOTATION]));
    let modifier = (service.spec == stored.spec && changed(LAST_MODIFIER_ANNOTATION))
        .then(|| FieldError::invalid_value(annotation(service, LAST_MODIFIER_ANNOTATION), LAST_MODIFIER_ANNOTATION));
    validate_service(service, config)
        .also(FieldErrors::from(creator).also(modifier).via_field("metadata.annotations"))
        .also(name_change_error(&service.spec.template, &stored.spec.template))
}

/// A name that the author brings stands for one revision: another template needs another name.
fn name_change_error(template: &RevisionTemplateSpec, stored: &RevisionTemplateSpec) -> Option<FieldError> {
    let name = &template.metadata.name;
    if name.is_empty() || *name != stored.metadata.name || template == stored {
        return None;
    }
    let json = |template: &RevisionTemplateSpec| serde_json::to_value(template).unwrap_or_default();
    let mut details = String::new();
    diff("", Some(&json(stored)), Some(&json(template)), &mut details);
    let message = "Saw the following changes without a name change (-old +new)";
    Some(FieldError::new(message, ["spec.template.metadata.name"]).with_details(details.trim_end()))
}

/// Writes the differences of two values, each with its path and both sides.
fn diff(path: &str, old: Option<&Value>, new: Option<&Value>, out: &mut String) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                diff(&path, old.get(key), new.get(key), out);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                diff(&format!("{path}[{index}]"), old.get(index), new.get(index), out);
            }
        }
        (old, new) => {
            out.push_str(path);
            out.push_str(":\n");
            for (sign, value) in [('-', old), ('+', new)] {
                if let Some(value) = value {
                    out.push_str(&format!("\t{sign}: {value}\n"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_name_the_path_and_both_sides() {
        let mut out = String::new();
        let old = json!({"a": {"x": 1, "gone": true}, "list": ["same", "old"]});
        let new = json!({"a": {"x": 2}, "list": ["same", "new", "more"], "b": "added"});
        diff("", Some(&old), Some(&new), &mut out);
        assert_eq!(
            out,
            "a.gone:\n\t-: true\na.x:\n\t-: 1\n\t+: 2\nlist[1]:\n\t-: \"old\"\n\t+: \"new\"\nlist[2]:\n\t+: \
             \"more\"\nb:\n\t+: \"added\"\n"
        );
    }
}
