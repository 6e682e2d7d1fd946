//! Charts and tables as files.

use axum::response::{IntoResponse, Response};
use http::header;

use crate::{
    chart::Figure,
    error::{Result, WebError},
};

/// The figure that `file` names, `<id>.svg` or `<id>.csv`; `of` is what the file is about.
///
/// # Errors
/// `NotFound` without such a figure.
pub fn file(figures: &[Figure], of: &str, file: &str) -> Result<Response> {
    let missing = || WebError::not_found(format!("there is no chart {file:?} here"));
    let (id, ending) = file.rsplit_once('.').ok_or_else(missing)?;
    let figure = figures.iter().find(|figure| figure.id == id).ok_or_else(missing)?;
    let (kind, content) = match ending {
        "svg" => ("image/svg+xml", figure.alone()?.ok_or_else(missing)?),
        "csv" => ("text/csv; charset=utf-8; header=present", figure.table.csv()),
        _ => return Err(missing()),
    };
    let disposition = format!("inline; filename=\"{of}-{id}.{ending}\"");
    Ok(([(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)], content).into_response())
}
