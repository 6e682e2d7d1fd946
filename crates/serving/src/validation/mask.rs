//! Refusing the fields of an object that are not among the allowed ones.

use autoscaler::FieldError;
use autoscaler::field_error::CURRENT_FIELD;
use serde::Serialize;
use serde_json::Value;

/// Names the fields that are set and not allowed. Relies on zero values not being written.
pub(super) fn disallowed<T: Serialize>(object: &T, allowed: &[&str]) -> Option<FieldError> {
    let Ok(Value::Object(fields)) = serde_json::to_value(object) else {
        return Some(FieldError::new("Internal Error", [CURRENT_FIELD]));
    };
    let disallowed: Vec<String> =
        fields.into_iter().map(|(name, _)| name).filter(|name| !allowed.contains(&name.as_str())).collect();
    (!disallowed.is_empty()).then(|| FieldError::disallowed_fields(disallowed))
}
