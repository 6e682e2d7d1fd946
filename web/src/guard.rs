//! What every request passes: an id, a log line, the host and cross-site checks, security headers, and the rendering of
//! errors as JSON or as a page.

use std::{net::IpAddr, time::Instant};

use api::{ErrorBody, ErrorCode, ErrorDetail};
use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::Authority};
use tracing::Instrument;

use crate::{
    error::{Failure, WebError},
    pages, random_hex,
    state::AppState,
};

/// Header that carries the request's id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over from a client.
const REQUEST_ID_BYTES: usize = 64;

/// Longest plain-text error of the framework that is passed on.
const PLAIN_ERROR_BYTES: usize = 8 << 10;

/// Routes outside `/api` that programs ask, so that their errors are JSON too.
const PROGRAM_ROUTES: [&str; 4] = ["/process", "/process_model", "/training_finished", "/inference"];

const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Gives the request an id (or keeps a sane one that it brings), logs it, and returns the id with the answer.
pub async fn identify(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).filter(|id| is_sane_id(id)).cloned();
    let id = given.or_else(|| HeaderValue::from_str(&random_hex().ok()?).ok());
    let Some(id) = id else { return next.run(request).await };
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), %method, path);
    let began = Instant::now();
    async {
        let mut response = next.run(request).await;
        tracing::info!(status = response.status().as_u16(), seconds = began.elapsed().as_secs_f64(), "answered");
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
    .instrument(span)
    .await
}

fn is_sane_id(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=REQUEST_ID_BYTES).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Adds the headers that keep pages from being framed, sniffed or fed with foreign content.
pub async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Turns every failure, the framework's own included, into [`ErrorBody`] or an error page.
pub async fn render_errors(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let as_json = path.starts_with("/api/") || path.starts_with("/health/") || PROGRAM_ROUTES.contains(&path);
    let id = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let response = next.run(request).await;
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let (parts, body) = response.into_parts();
    let detail = match parts.extensions.get::<Failure>() {
        Some(Failure(detail)) => detail.clone(),
        None if is_plain(&parts.headers) => framework_error(parts.status, body).await,
        None => return Response::from_parts(parts, body),
    };
    let status = StatusCode::from_u16(detail.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut rendered = if as_json {
        (status, Json(ErrorBody::from(detail))).into_response()
    } else {
        pages::error(status, &detail.message, &id)
    };
    for name in [header::ALLOW, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            rendered.headers_mut().insert(name, value.clone());
        }
    }
    rendered
}

fn is_plain(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

async fn framework_error(status: StatusCode, body: Body) -> ErrorDetail {
    let code = match status {
        StatusCode::FORBIDDEN => ErrorCode::Forbidden,
        StatusCode::NOT_FOUND => ErrorCode::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorCode::UnsupportedFormat,
        StatusCode::UNPROCESSABLE_ENTITY => ErrorCode::Unprocessable,
        status if status.is_client_error() => ErrorCode::BadRequest,
        _ => ErrorCode::Internal,
    };
    let text = to_bytes(body, PLAIN_ERROR_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let message = match code {
        ErrorCode::MethodNotAllowed => "this address does not take that method; the Allow header says which it takes",
        ErrorCode::NotFound => "there is nothing at this address",
        ErrorCode::Internal => "something went wrong on our side; the service's log says more",
        _ if text.is_empty() => "the request cannot be understood",
        _ => text.as_ref(),
    };
    ErrorDetail::new(code, message)
}

/// Refuses host names under which this service does not live: a page that points a name of its own at loopback
/// (DNS rebinding) gets nothing. Addresses cannot be rebound, so they pass.
pub async fn check_host(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let config = &state.config;
    let is_open = !config.listen.ip().is_loopback() && config.hosts.is_empty();
    match host(&request) {
        Some(Ok(authority)) if !is_open && !is_known(authority.host(), &config.hosts) => {
            let message = format!("this service does not live at {:?}; allow that name with --host", authority.host());
            WebError::refused(ErrorCode::Forbidden, message).into_response()
        }
        Some(Err(())) => WebError::refused(ErrorCode::BadRequest, "the Host header cannot be read").into_response(),
        _ => next.run(request).await,
    }
}

/// Refuses requests that change something and come from another site's page: every page in the browser can reach
/// loopback. Programs send neither `Sec-Fetch-Site` nor `Origin` and pass.
pub async fn check_site(request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && is_foreign(&request) {
        let message = "this request comes from another site's page; open the service's own page and try there";
        return WebError::refused(ErrorCode::Forbidden, message).into_response();
    }
    next.run(request).await
}

fn host(request: &Request) -> Option<Result<Authority, ()>> {
    if let Some(authority) = request.uri().authority() {
        return Some(Ok(authority.clone()));
    }
    let host = request.headers().get(header::HOST)?;
    Some(host.to_str().map_err(drop).and_then(|host| host.parse().map_err(drop)))
}

fn is_known(host: &str, allowed: &[String]) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.ends_with(".localhost") || address.parse::<IpAddr>().is_ok() || allowed.contains(&host)
}

fn is_foreign(request: &Request) -> bool {
    let headers = request.headers();
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<http::Uri>().ok());
    match (origin.as_ref().and_then(|origin| origin.authority()), host(request)) {
        (Some(origin), Some(Ok(host))) => *origin != host,
        _ => true,
    }
}
