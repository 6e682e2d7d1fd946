//! Applying a manifest again: what its author wrote, changed or no longer writes, over what is stored.
//!
//! Objects are merged member by member, lists are replaced whole, what somebody else has set stays. A list is thus
//! filled with defaults anew, everything else keeps those it once got.
//!
//! # Source
//! `kubectl apply` of custom resources: a three-way JSON merge patch.

use serde_json::Value;

/// Brings `stored` to what `written` says; `before` is what was written when it was last applied.
pub(crate) fn merge(stored: &mut Value, before: &Value, written: &Value) {
    let (Value::Object(stored), Value::Object(written)) = (&mut *stored, written) else {
        *stored = written.clone();
        return;
    };
    let before = before.as_object();
    for key in before.into_iter().flat_map(|before| before.keys()).filter(|key| !written.contains_key(*key)) {
        stored.remove(key);
    }
    for (key, written) in written {
        match stored.get_mut(key) {
            Some(stored) => {
                let before = before.and_then(|before| before.get(key)).unwrap_or(&Value::Null);
                merge(stored, before, written);
            }
            None => drop(stored.insert(key.clone(), written.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(mut stored: Value, before: Value, written: Value, wanted: Value) {
        merge(&mut stored, &before, &written);
        assert_eq!(stored, wanted);
    }

    #[test]
    fn what_is_written_replaces_what_is_stored() {
        check(json!({"a": 1, "b": {"c": 2}}), json!({}), json!({"b": {"c": 3}}), json!({"a": 1, "b": {"c": 3}}));
        check(json!({"a": {"b": 1}}), json!({}), json!({"a": 5}), json!({"a": 5}));
        check(json!({"a": 5}), json!({}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}}));
    }

    #[test]
    fn what_is_no_longer_written_goes_and_what_others_set_stays() {
        check(
            json!({"mine": 1, "default": 2, "deep": {"mine": 3, "other": 4}}),
            json!({"mine": 1, "deep": {"mine": 3}}),
            json!({"deep": {}}),
            json!({"default": 2, "deep": {"other": 4}}),
        );
    }

    #[test]
    fn lists_are_replaced_whole() {
        check(
            json!({"list": [{"a": 1, "default": 2}, {"b": 3}]}),
            json!({"list": [{"a": 1}, {"b": 3}]}),
            json!({"list": [{"a": 1}]}),
            json!({"list": [{"a": 1}]}),
        );
    }
}
