//! Why a request gets no answer from an instance, and what its client is told instead.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::pool::Hop;

/// Why a request got no answer from an instance; `E` is the instance's error.
#[derive(Debug, thiserror::Error)]
pub enum Failure<E: Error + 'static> {
    /// There is no such revision, or no longer: 404.
    #[error("revision.serving.knative.dev {revision:?} not found")]
    RevisionNotFound {
        /// Its name.
        revision: Arc<str>,
    },
    /// All places and those to wait in are taken: 503.
    #[error("pending request queue full")]
    QueueFull,
    /// One of the revision's timeouts passed before the answer started: 504.
    #[error("{}", timeout_text(*.hop))]
    TimedOut {
        /// The hop whose timeout it was.
        hop: Hop,
    },
    /// The instance did not answer: 502, with the cause's text.
    #[error("the instance did not answer")]
    NoAnswer {
        /// What the instance said.
        #[source]
        source: E,
    },
}

impl<E: Error + 'static> Failure<E> {
    /// What the client is told.
    pub(crate) fn response(&self) -> Response<Bytes> {
        match self {
            Self::RevisionNotFound { .. } => {
                error(StatusCode::NOT_FOUND, &format!("Error getting active endpoint: {self}"))
            }
            Self::QueueFull => error(StatusCode::SERVICE_UNAVAILABLE, &self.to_string()),
            Self::TimedOut { hop } => {
                text(StatusCode::GATEWAY_TIMEOUT, Bytes::from_static(timeout_text(*hop).as_bytes()))
            }
            Self::NoAnswer { source } => error(StatusCode::BAD_GATEWAY, &source.to_string()),
        }
    }
}

/// What a client is told when its time is over, also in the middle of an answer.
pub(crate) const fn timeout_text(hop: Hop) -> &'static str {
    match hop {
        Hop::Activator => "activator request timeout",
        Hop::QueueProxy => "request timeout",
    }
}

/// An answer of plain text.
pub(crate) fn text(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// An error as Go's `http.Error` writes it.
pub(crate) fn error(status: StatusCode, message: &str) -> Response<Bytes> {
    let mut response = text(status, Bytes::from(format!("{message}\n")));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
