//! Why fields of a manifest are refused, in the words and the order of Knative's webhook.
//!
//! Warnings are left out: they refuse nothing, so a validation simply does not add them.
//!
//! # Source
//! `apis.FieldError` of knative.dev/pkg.

use std::fmt;

use crate::go;

/// The path of the value under validation itself; disappears when a prefix is put before it.
pub const CURRENT_FIELD: &str = "";

/// One reason to refuse, and the fields it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong; an error without a message is never reported.
    pub message: String,
    /// The fields it is wrong with.
    pub paths: Vec<String>,
    /// A longer explanation on lines of its own; may be empty.
    pub details: String,
}

impl FieldError {
    /// A message for any number of fields.
    pub fn new<P: Into<String>>(message: impl Into<String>, paths: impl IntoIterator<Item = P>) -> Self {
        Self { message: message.into(), paths: paths.into_iter().map(Into::into).collect(), details: String::new() }
    }

    /// The same error with an explanation below it.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Required fields are absent.
    pub fn missing_field<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self::new("missing field(s)", paths)
    }

    /// Fields that this kind of object must not have are present.
    pub fn disallowed_fields<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self::new("must not set the field(s)", paths)
    }

    /// A field has a value it must not have.
    pub fn invalid_value(value: impl fmt::Display, path: impl Into<String>) -> Self {
        Self::new(format!("invalid value: {value}"), [path])
    }

    /// An entry of a list has a value it must not have.
    pub fn invalid_array_value(value: impl fmt::Display, field: &str, index: usize) -> Self {
        Self::invalid_value(value, CURRENT_FIELD).via_field(&as_index(index)).via_field(field)
    }

    /// None of several fields is set, and one must be.
    pub fn missing_one_of<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self::new("expected exactly one, got neither", paths)
    }

    /// More than one of several exclusive fields is set.
    pub fn multiple_one_of<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self::new("expected exactly one, got both", paths)
    }

    /// A map has a key it must not have.
    pub fn invalid_key_name(key: &str, path: impl Into<String>) -> Self {
        Self::new(format!("invalid key name {}", go::quote(key)), [path])
    }

    /// A number or duration lies outside its range; all three print as they display.
    pub fn out_of_bounds(
        value: impl fmt::Display,
        lower: impl fmt::Display,
        upper: impl fmt::Display,
        path: impl Into<String>,
    ) -> Self {
        Self::new(format!("expected {lower} <= {value} <= {upper}"), [path])
    }

    /// The same error seen from the object that holds the value under `prefix`.
    #[must_use]
    pub fn via_field(mut self, prefix: &str) -> Self {
        for path in &mut self.paths {
            *path = join(prefix, path);
        }
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.paths.join(", "))?;
        if self.details.is_empty() { Ok(()) } else { write!(f, "\n{}", self.details) }
    }
}

impl std::error::Error for FieldError {}

/// Everything that is wrong with an object; empty if nothing is.
///
/// Displays as the webhook answers: errors of one message and details merged into one with all their paths in order,
/// sorted by message, one a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Nothing is wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one error.
    pub fn push(&mut self, error: FieldError) {
        if !error.message.is_empty() {
            self.0.push(error);
        }
    }

    /// Adds the errors of another check.
    #[must_use]
    pub fn also(mut self, other: impl IntoIterator<Item = FieldError>) -> Self {
        self.extend(other);
        self
    }

    /// The same errors seen from the object that holds the value under `prefix`; a prefix may have several parts,
    /// separated by dots.
    #[must_use]
    pub fn via_field(self, prefix: &str) -> Self {
        Self(self.0.into_iter().map(|error| error.via_field(prefix)).collect())
    }

    /// The same errors seen from the list that holds the value at `index`.
    #[must_use]
    pub fn via_index(self, index: usize) -> Self {
        self.via_field(&as_index(index))
    }

    /// The same errors seen from the object whose list `field` holds the value at `index`.
    #[must_use]
    pub fn via_field_index(self, field: &str, index: usize) -> Self {
        self.via_index(index).via_field(field)
    }

    /// The same errors seen from the map that holds the value under `key`.
    #[must_use]
    pub fn via_key(self, key: &str) -> Self {
        self.via_field(&format!("[{key}]"))
    }

    /// The same errors seen from the object whose map `field` holds the value under `key`.
    #[must_use]
    pub fn via_field_key(self, field: &str, key: &str) -> Self {
        self.via_key(key).via_field(field)
    }

    /// The errors as they are shown: merged, their paths and themselves sorted.
    pub fn merged(&self) -> Vec<FieldError> {
        let mut merged: Vec<FieldError> = Vec::with_capacity(self.0.len());
        for error in &self.0 {
            match merged.iter_mut().find(|known| known.message == error.message && known.details == error.details) {
                Some(known) => {
                    for path in &error.paths {
                        if !known.paths.contains(path) {
                            known.paths.push(path.clone());
                        }
                    }
                }
                None => merged.push(error.clone()),
            }
        }
        for error in &mut merged {
            error.paths.sort_unstable();
        }
        merged.sort_by(|a, b| (&a.message, &a.details).cmp(&(&b.message, &b.details)));
        merged
    }

    /// `Ok` if nothing is wrong.
    ///
    /// # Errors
    /// The errors themselves.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.merged().iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

impl From<FieldError> for FieldErrors {
    fn from(error: FieldError) -> Self {
        Self::new().also([error])
    }
}

impl From<Option<FieldError>> for FieldErrors {
    fn from(error: Option<FieldError>) -> Self {
        Self::new().also(error)
    }
}

impl Extend<FieldError> for FieldErrors {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, errors: T) {
        for error in errors {
            self.push(error);
        }
    }
}

impl FromIterator<FieldError> for FieldErrors {
    fn from_iter<T: IntoIterator<Item = FieldError>>(errors: T) -> Self {
        Self::new().also(errors)
    }
}

/// In the order they were added, not merged.
impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

fn as_index(index: usize) -> String {
    format!("[{index}]")
}

/// Puts a prefix before a path. Parts in brackets stick to what stands before them, empty parts vanish.
fn join(prefix: &str, path: &str) -> String {
    let mut joined = String::with_capacity(prefix.len() + 1 + path.len());
    for part in prefix.split('.').chain(path.split('.')).filter(|part| !part.is_empty()) {
        let is_index = part.starts_with('[') && part.ends_with(']');
        if !joined.is_empty() && !is_index {
            joined.push('.');
        }
        joined.push_str(part);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_wrong_prints_nothing() {
        assert!(FieldErrors::new().is_empty());
        assert_eq!(FieldErrors::new().to_string(), "");
        assert_eq!(FieldErrors::new().into_result(), Ok(()));
    }

    #[test]
    fn an_error_without_a_message_is_dropped() {
        assert!(FieldErrors::from(FieldError::new("", ["a"])).is_empty());
    }

    #[test]
    fn same_message_and_details_merge_into_sorted_paths() {
        let errors = FieldErrors::from(FieldError::missing_field(["b", "c"]))
            .also([FieldError::missing_field(["a", "b"]), FieldError::missing_field(["d"]).with_details("because")]);
        assert_eq!(errors.to_string(), "missing field(s): a, b, c\nmissing field(s): d\nbecause");
    }

    #[test]
    fn errors_are_sorted_by_message_then_details() {
        let errors: FieldErrors = [
            FieldError::new("z", ["1"]),
            FieldError::new("a", ["2"]).with_details("y"),
            FieldError::new("a", ["3"]).with_details("x"),
        ]
        .into_iter()
        .collect();
        assert_eq!(errors.to_string(), "a: 3\nx\na: 2\ny\nz: 1");
    }

    #[track_caller]
    fn check_path(errors: FieldErrors, path: &str) {
        assert_eq!(errors.merged()[0].paths, [path]);
    }

    #[test]
    fn paths_flatten_as_they_are_prefixed() {
        let at = |path: &str| FieldErrors::from(FieldError::new("wrong", [path]));
        check_path(at("").via_index(0).via_field("bar").via_field("foo"), "foo.bar[0]");
        check_path(at("bar").via_index(0).via_field("foo"), "foo[0].bar");
        check_path(at("bar").via_field("foo").via_index(0), "[0].foo.bar");
        check_path(at("bar").via_index(0).via_index(1).via_field("foo"), "foo[1][0].bar");
        check_path(at("bar").via_field_key("foo", "key"), "foo[key].bar");
        check_path(at("bar").via_field_index("foo", 3), "foo[3].bar");
        check_path(at("").via_field("spec.template"), "spec.template");
        check_path(at("x.dev/min-scale").via_field("annotations"), "annotations.x.dev/min-scale");
        check_path(FieldError::invalid_array_value("x", "list", 2).into(), "list[2]");
    }

    #[track_caller]
    fn check_text(error: FieldError, text: &str) {
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn each_kind_has_its_words() {
        check_text(FieldError::disallowed_fields(["a", "b"]), "must not set the field(s): a, b");
        check_text(FieldError::invalid_value(7, "a"), "invalid value: 7: a");
        check_text(FieldError::missing_one_of(["a", "b"]), "expected exactly one, got neither: a, b");
        check_text(FieldError::multiple_one_of(["a", "b"]), "expected exactly one, got both: a, b");
        check_text(FieldError::invalid_key_name("k\"", "a"), r#"invalid key name "k\"": a"#);
        check_text(FieldError::out_of_bounds(601, 0, 600, "a"), "expected 0 <= 601 <= 600: a");
    }
}
