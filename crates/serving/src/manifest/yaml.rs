//! From text to documents: YAML of one or many documents, JSON included.

use serde_json::Value;
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter, Spanned};

/// A document and the line of the file it begins on, counted from 1.
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) line: u64,
}

/// What is wrong with the text and where, as far as that is known.
pub(super) struct SyntaxError {
    pub(super) place: Option<(u64, u64)>,
    pub(super) message: String,
}

/// Reads all documents of a text; empty ones are left out.
///
/// Plain scalars are understood as Kubernetes understands them: `yes` and `on` are booleans, for example.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, SyntaxError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let documents: Vec<Spanned<Value>> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let message = match &error {
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => format!("key {key:?} is given twice"),
            error => DefaultMessageFormatter.format_message(error).into_owned(),
        };
        SyntaxError { place: error.location().map(|location| (location.line(), location.column())), message }
    })?;
    Ok(documents
        .into_iter()
        .map(|document| Document { line: document.referenced.line(), value: document.value })
        .filter(|document| !document.value.is_null())
        .collect())
}
