//! Uploads as they come in: a form with an archive or with files per class, or an archive as the body. Everything is
//! streamed to volume 1.

use api::{Background, ErrorCode, Filter, Fit};
use axum::{
    RequestExt,
    body::Body,
    extract::{FromRequest, Multipart, Query, Request, multipart::Field},
};
use http::header;
use ingest::{Options, Upload};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::{Result, WebError},
    state::AppState,
};

/// What a body may be larger than its files: part headers and text fields.
pub const FORM_OVERHEAD_BYTES: u64 = 1 << 20;

/// Longest text field.
const TEXT_BYTES: usize = 4096;

/// Prefix of a field's name that tells the class of its files.
const CLASS_PREFIX: &str = "class:";

/// What a sender may choose about the dataset, as query or as text fields of the form.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Choices {
    /// Human name of the dataset; the upload's own name when absent.
    pub name: Option<String>,
    /// Side in pixels, `64`, or width and height, `64x48`; chosen from the pictures when absent.
    pub size: Option<String>,
    /// How pictures are brought to that size: `stretch`, `cover` or `contain`.
    pub fit: Option<String>,
    /// Resampling filter: `bilinear`, `catmull_rom` or `lanczos3`.
    pub filter: Option<String>,
    /// Colour behind transparent pixels, `#ffffff`.
    pub background: Option<String>,
}

/// A form that brings pictures: either `archive`, or files per class.
///
/// The class of files is told by their field's name, `class:<label>`, or by a text field `label` in front of `files`.
/// `files` without a label come with the path inside their folder as file name: `cat/1.png`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form; read field by field")]
pub struct UploadForm {
    /// A ZIP or tar file with a folder per class.
    #[schema(value_type = Option<String>, format = Binary)]
    archive: Option<Vec<u8>>,
    /// Label of the `files` that follow.
    label: Option<String>,
    /// Pictures.
    #[schema(value_type = Option<Vec<String>>, format = Binary)]
    files: Option<Vec<u8>>,
    /// Human name of the dataset.
    name: Option<String>,
    /// `64` or `64x48`.
    size: Option<String>,
    /// `stretch`, `cover` or `contain`.
    fit: Option<String>,
}

/// An upload that has arrived whole.
#[derive(Debug)]
pub struct Received {
    /// The files.
    pub upload: Upload,
    /// What was chosen about the dataset.
    pub options: Options,
}

/// Receives whatever upload a request brings.
pub async fn receive(state: &AppState, request: Request) -> Result<Received> {
    let too_large = |limit: u64| {
        let message = format!("the upload is larger than the limit of {}", bytesize::ByteSize(limit));
        WebError::refused(ErrorCode::TooLarge, message)
    };
    let limit = state.config.upload_limit_bytes;
    if content_length(&request).is_some_and(|length| length > limit + FORM_OVERHEAD_BYTES) {
        return Err(too_large(limit));
    }
    let Query(choices) = Query::<Choices>::try_from_uri(request.uri())
        .map_err(|e| WebError::refused(ErrorCode::BadRequest, e.body_text()))?;
    let kind = media_type(&request);
    let limits = state.ingest.limits.clone();
    let upload = state.on_volumes(move |volumes| Ok(Upload::begin(volumes, limits)?)).await?;
    match kind.as_str() {
        "multipart/form-data" => receive_form(state, request, upload, choices).await,
        "application/zip"
        | "application/x-zip-compressed"
        | "application/x-tar"
        | "application/gzip"
        | "application/x-gzip"
        | "application/x-gtar"
        | "application/octet-stream" => receive_body(request, upload, choices).await,
        other => {
            let message = format!(
                "the body is {other:?}; expected multipart/form-data, application/zip, application/x-tar or application/gzip"
            );
            Err(WebError::refused(ErrorCode::UnsupportedFormat, message))
        }
    }
}

fn content_length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The media type without its parameters, in lower case; empty where there is none.
pub fn media_type(request: &Request<Body>) -> String {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

async fn receive_body(request: Request, mut upload: Upload, choices: Choices) -> Result<Received> {
    let options = options(&choices)?;
    let name = choices.name.as_deref().unwrap_or("upload");
    upload.receive_archive(name, request.into_limited_body().into_data_stream()).await?;
    Ok(Received { upload, options })
}

async fn receive_form(
    state: &AppState,
    request: Request,
    mut upload: Upload,
    mut choices: Choices,
) -> Result<Received> {
    let mut form = Multipart::from_request(request, state)
        .await
        .map_err(|e| WebError::refused(ErrorCode::BadRequest, e.body_text()))?;
    let mut label: Option<String> = None;
    let mut n_files = 0u64;
    while let Some(field) = form.next_field().await? {
        let Some(field_name) = field.name().map(str::to_owned) else { continue };
        match field.file_name().map(str::to_owned) {
            // A browser sends a file input in which nothing was chosen as a part with an empty name.
            Some(file_name) if file_name.is_empty() => {}
            Some(file_name) => {
                n_files += 1;
                if field_name == "archive" {
                    upload.receive_archive(&file_name, field).await?;
                } else if let Some(class) = field_name.strip_prefix(CLASS_PREFIX) {
                    upload.receive_picture(Some(class), &file_name, field).await?;
                } else if field_name == "files" {
                    upload.receive_picture(label.as_deref(), &file_name, field).await?;
                } else {
                    return Err(unknown_field(&field_name));
                }
            }
            None => {
                let value = text(field).await?;
                let value = (!value.is_empty()).then_some(value);
                match field_name.as_str() {
                    "label" => label = value,
                    "name" => choices.name = value,
                    "size" => choices.size = value,
                    "fit" => choices.fit = value,
                    "filter" => choices.filter = value,
                    "background" => choices.background = value,
                    other => return Err(unknown_field(other)),
                }
            }
        }
    }
    if n_files == 0 {
        let message = "the form brings no file; choose an archive, or files for each class";
        return Err(WebError::refused(ErrorCode::BadRequest, message));
    }
    Ok(Received { upload, options: options(&choices)? })
}

fn unknown_field(name: &str) -> WebError {
    let message = format!(
        "the form has a field {name:?}; expected archive, files, label, class:<label>, name, size, fit, filter or background"
    );
    WebError::refused(ErrorCode::BadRequest, message)
}

async fn text(mut field: Field<'_>) -> Result<String> {
    let mut bytes = vec![];
    while let Some(chunk) = field.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > TEXT_BYTES {
            let message = format!("a text field is longer than {TEXT_BYTES} bytes");
            return Err(WebError::refused(ErrorCode::TooLarge, message));
        }
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| WebError::refused(ErrorCode::BadRequest, "a text field is not UTF-8"))?;
    Ok(text.trim().to_owned())
}

fn options(choices: &Choices) -> Result<Options> {
    let wrong = |message: String| WebError::refused(ErrorCode::Unprocessable, message);
    let default = Options::default();
    Ok(Options {
        name: choices.name.clone(),
        size: choices.size.as_deref().map(parse_size).transpose().map_err(wrong)?,
        fit: choices.fit.as_deref().map_or(Ok(default.fit), parse_fit).map_err(wrong)?,
        filter: choices.filter.as_deref().map_or(Ok(default.filter), parse_filter).map_err(wrong)?,
        background: choices
            .background
            .as_deref()
            .map_or(Ok(default.background), str::parse::<Background>)
            .map_err(wrong)?,
    })
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once(['x', '×']).unwrap_or((text, text));
    match (width.trim().parse(), height.trim().parse()) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err(format!("size is {text:?}; expected a side in pixels like 64, or width and height like 64x48")),
    }
}

fn parse_fit(text: &str) -> Result<Fit, String> {
    match text {
        "stretch" => Ok(Fit::Stretch),
        "cover" => Ok(Fit::Cover),
        "contain" => Ok(Fit::Contain),
        _ => Err(format!("fit is {text:?}; expected stretch, cover or contain")),
    }
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    match text {
        "bilinear" => Ok(Filter::Bilinear),
        "catmull_rom" => Ok(Filter::CatmullRom),
        "lanczos3" => Ok(Filter::Lanczos3),
        _ => Err(format!("filter is {text:?}; expected bilinear, catmull_rom or lanczos3")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_side_or_width_and_height() {
        assert_eq!(parse_size("64"), Ok((64, 64)));
        assert_eq!(parse_size("64x48"), Ok((64, 48)));
        assert_eq!(parse_size("64 × 48"), Ok((64, 48)));
        for wrong in ["", "x", "64x", "-1", "64x48x3", "6e1"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn choices_become_options_and_wrong_ones_are_named() {
        let chosen = Choices { fit: Some("contain".into()), background: Some("#000000".into()), ..Choices::default() };
        let options = options(&chosen).expect("both are right");
        assert_eq!((options.fit, options.background), (Fit::Contain, Background([0; 3])));
        let wrong = Choices { fit: Some("squash".into()), ..Choices::default() };
        let refused = super::options(&wrong).expect_err("there is no such fit").detail();
        assert_eq!(refused.message, "fit is \"squash\"; expected stretch, cover or contain");
    }
}
