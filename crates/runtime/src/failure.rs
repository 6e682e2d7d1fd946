//! What can befall a single request, and the answer it then gets: a status and the house's JSON error body.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use bytesize::ByteSize;
use http::{Response, StatusCode, header};

type Source = Box<dyn Error + Send + Sync>;

/// Why a request gets no answer from its guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the request's body is larger than the {} this function takes", size(*.limit_bytes))]
    BodyTooLarge { limit_bytes: usize },
    #[error("the request's body did not arrive in whole")]
    BodyBroken { source: Source },
    #[error("the request's body did not arrive within {}", time(*.limit))]
    BodySlow { limit: Duration },
    #[error("all places are taken; none became free within {}", time(*.limit))]
    NoPlace { limit: Duration },
    #[error("the function gave no answer within {}", time(*.limit))]
    Timeout { limit: Duration },
    #[error("the function needs more memory than the {} it may use", size(*.limit_bytes))]
    OutOfMemory { limit_bytes: usize, source: Source },
    #[error("the function's answer is larger than the {} it may be", size(*.limit_bytes))]
    AnswerTooLarge { limit_bytes: usize },
    #[error("the function failed while it worked on this request")]
    Trap { source: Source },
    #[error("the function gave no valid answer")]
    NoAnswer { source: Source },
    #[error("no sandbox for the function could be started")]
    NoSandbox { source: Source },
    #[error("the function's instance was lost while it worked on this request")]
    Lost,
}

fn size(bytes: usize) -> impl std::fmt::Display {
    ByteSize::b(bytes as u64).display().iec()
}

fn time(duration: Duration) -> impl std::fmt::Display {
    humantime::format_duration(duration)
}

impl Failure {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BodyBroken { .. } | Self::BodySlow { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::OutOfMemory { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Trap { .. }
            | Self::NoAnswer { .. }
            | Self::NoSandbox { .. }
            | Self::Lost => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::NoPlace { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
        }
    }

    /// The answer: `{"error":{"code":…,"message":…}}` with the status that belongs to the code. The cause stays here.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let (status, code) = self.status_and_code();
        let body = serde_json::json!({ "error": { "code": code, "message": self.to_string() } });
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }

    /// The whole chain of causes in one line, for the log.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
