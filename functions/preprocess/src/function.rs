//! The function's behaviour: routes, the raw and the batched request, the JSON and the compact answer, errors.

use api::{
    ErrorBody, ErrorCode, ErrorDetail, PreprocessSpec,
    predict::FunctionInfo,
    preprocess::{BatchAnswer, BatchRequest, EncodedImage, Entry, Outcome, Processed, SAFETENSORS},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName},
};
use imaging::{Limits, Picture};
use serde::Serialize;

use crate::{compact, query};

/// Longest body that is read: base64 of the largest file that is accepted, and some.
pub const MAX_BODY_BYTES: usize = 48 << 20;

/// Most pictures in one JSON request.
pub const MAX_IMAGES: usize = 256;

/// Most pixels in one answer, as bytes of RGB over all pictures asked for.
pub const MAX_PIXEL_BYTES: usize = 32 << 20;

/// Spin says here what is left of the path after the component's route.
const PATH_INFO: &str = "spin-path-info";

const ROUTES: [&str; 6] = ["GET /", "GET /health/live", "GET /health/ready", "POST /", "POST /process", "POST /probe"];

/// Answers one request whose body is complete.
pub fn answer(request: Request<Bytes>) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    let path = head.headers.get(PATH_INFO).and_then(|path| path.to_str().ok());
    let path = path.unwrap_or(head.uri.path()).trim_end_matches('/');
    match (path, &head.method) {
        ("", &Method::GET) => json(StatusCode::OK, &info()),
        ("/health/live", &Method::GET) => json(StatusCode::OK, &serde_json::json!({"status": "live"})),
        ("/health/ready", &Method::GET) => json(StatusCode::OK, &serde_json::json!({"status": "ready"})),
        ("" | "/process", &Method::POST) => {
            process(&head.headers, head.uri.query().unwrap_or_default(), body).unwrap_or_else(refuse)
        }
        ("/probe", &Method::POST) => imaging::probe(&body, &Limits::default())
            .map_or_else(|error| refuse(error.detail()), |probe| json(StatusCode::OK, &probe)),
        ("", _) => refuse_method("GET, POST"),
        ("/process" | "/probe", _) => refuse_method("POST"),
        ("/health/live" | "/health/ready", _) => refuse_method("GET"),
        (path, _) => {
            let message = format!("there is no {path:?} here; try one of: {}", ROUTES.join(", "));
            refuse(ErrorDetail::new(ErrorCode::NotFound, message))
        }
    }
}

/// The answer to a body longer than [`MAX_BODY_BYTES`].
pub fn refuse_long_body() -> Response<Bytes> {
    let message = format!("the body is longer than {MAX_BODY_BYTES} bytes; send fewer or smaller pictures at once");
    refuse(ErrorDetail::new(ErrorCode::TooLarge, message))
}

/// The answer to a body that broke off.
pub fn refuse_broken_body() -> Response<Bytes> {
    refuse(ErrorDetail::new(ErrorCode::BadRequest, "the body broke off before its end; send it again"))
}

fn info() -> FunctionInfo {
    FunctionInfo {
        function: concat!("fovea preprocess ", env!("CARGO_PKG_VERSION")).to_owned(),
        routes: ROUTES.map(str::to_owned).to_vec(),
        model: None,
    }
}

fn process(headers: &HeaderMap, query: &str, body: Bytes) -> Result<Response<Bytes>, ErrorDetail> {
    let spec = query::spec(query)?;
    let compact = lists(headers, &ACCEPT, SAFETENSORS);
    if is_json(headers) { process_batch(spec, compact, body) } else { process_one(&spec, compact, &body) }
}

fn process_one(spec: &PreprocessSpec, compact: bool, body: &[u8]) -> Result<Response<Bytes>, ErrorDetail> {
    let picture = imaging::process(body, spec, &Limits::default()).map_err(|error| error.detail())?;
    if compact {
        let entry = Entry { name: None, outcome: processed(&picture, None) };
        return encode_compact(&BatchAnswer { spec: spec.clone(), images: vec![entry] }, &picture.pixels);
    }
    let image = png_base64(&picture, spec);
    Ok(json(StatusCode::OK, &Entry { name: None, outcome: processed(&picture, Some(image)) }))
}

fn process_batch(query_spec: PreprocessSpec, compact: bool, body: Bytes) -> Result<Response<Bytes>, ErrorDetail> {
    let BatchRequest { images, spec } = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("the body is not {{\"images\": [{{\"image\": <base64>}}]}}: {error}");
        ErrorDetail::new(ErrorCode::BadRequest, message)
    })?;
    drop(body);
    let spec = spec.unwrap_or(query_spec);
    spec.validate().map_err(|sentence| ErrorDetail::new(ErrorCode::Unprocessable, sentence))?;
    if images.len() > MAX_IMAGES || images.len() * spec.picture_bytes() > MAX_PIXEL_BYTES {
        let most = MAX_IMAGES.min(MAX_PIXEL_BYTES / spec.picture_bytes());
        let message = format!("{} pictures; at most {most} of this size are processed at once", images.len());
        return Err(ErrorDetail::new(ErrorCode::TooLarge, message));
    }

    let mut pixels = Vec::new();
    let images = images
        .into_iter()
        .map(|image| {
            let outcome = match process_encoded(&image, &spec) {
                Ok(picture) if compact => {
                    pixels.extend_from_slice(&picture.pixels);
                    processed(&picture, None)
                }
                Ok(picture) => processed(&picture, Some(png_base64(&picture, &spec))),
                Err(error) => Outcome::Failed { error },
            };
            Entry { name: image.name, outcome }
        })
        .collect();
    let answer = BatchAnswer { spec, images };
    if compact { encode_compact(&answer, &pixels) } else { Ok(json(StatusCode::OK, &answer)) }
}

fn process_encoded(image: &EncodedImage, spec: &PreprocessSpec) -> Result<Picture, ErrorDetail> {
    imaging::process(&image.decode()?, spec, &Limits::default()).map_err(|error| error.detail())
}

fn processed(picture: &Picture, image: Option<String>) -> Outcome {
    Outcome::Processed(Processed { image, facts: picture.facts.clone() })
}

fn png_base64(picture: &Picture, spec: &PreprocessSpec) -> String {
    BASE64_STANDARD.encode(imaging::encode_png(&picture.pixels, spec))
}

fn encode_compact(answer: &BatchAnswer, pixels: &[u8]) -> Result<Response<Bytes>, ErrorDetail> {
    let body = compact::encode(answer, pixels).map_err(|error| {
        eprintln!("cannot write the compact answer: {error}");
        ErrorDetail::new(ErrorCode::Internal, "the compact answer cannot be written; this function's log says why")
    })?;
    Ok(respond(StatusCode::OK, HeaderValue::from_static(SAFETENSORS), body))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = essence(content_type);
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

/// Whether a header that may list several media types names this one.
fn lists(headers: &HeaderMap, header: &HeaderName, media_type: &str) -> bool {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| essence(item).eq_ignore_ascii_case(media_type))
}

/// A media type without its parameters.
fn essence(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn refuse(detail: ErrorDetail) -> Response<Bytes> {
    let status = StatusCode::from_u16(detail.code.status()).expect("every code has an HTTP status");
    json(status, &ErrorBody::from(detail))
}

fn refuse_method(allow: &'static str) -> Response<Bytes> {
    let message = format!("this route takes {allow} only");
    let mut response = refuse(ErrorDetail::new(ErrorCode::MethodNotAllowed, message));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    let body = serde_json::to_vec(body).expect("wire types are plain data");
    respond(status, HeaderValue::from_static("application/json"), body)
}

fn respond(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Response<Bytes> {
    // Hosts cannot see a component's body length and would send the answer in chunks.
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
