//! Metadata of an object: the part that its author writes. What an API server fills in is dropped on reading.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_zero;

/// Names, labels and annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Unique within a namespace and kind.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Prefix of a name that an API server completes.
    #[serde(skip_serializing_if = "is_zero")]
    pub generate_name: String,
    /// The namespace; empty means `default`, see [`ObjectMeta::namespace`].
    #[serde(skip_serializing_if = "is_zero")]
    pub namespace: String,
    /// What selectors match.
    #[serde(skip_serializing_if = "is_zero")]
    pub labels: BTreeMap<String, String>,
    /// Settings and notes.
    #[serde(skip_serializing_if = "is_zero")]
    pub annotations: BTreeMap<String, String>,
}

impl ObjectMeta {
    /// Metadata of an object with a name in a namespace.
    pub fn named(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: namespace.into(), ..Self::default() }
    }

    /// The namespace, `default` where none is given.
    pub fn namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }
}
