//! What can befall a single request, and the answer it then gets: a status and the house's JSON error body.

use std::{error::Error, time::Duration};

use api::{ErrorBody, ErrorCode, ErrorDetail};
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
    fn code(&self) -> ErrorCode {
        match self {
            Self::BodyBroken { .. } | Self::BodySlow { .. } => ErrorCode::BadRequest,
            Self::BodyTooLarge { .. } => ErrorCode::TooLarge,
            Self::OutOfMemory { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Trap { .. }
            | Self::NoAnswer { .. }
            | Self::NoSandbox { .. }
            | Self::Lost => ErrorCode::Internal,
            Self::NoPlace { .. } => ErrorCode::Unavailable,
            Self::Timeout { .. } => ErrorCode::Timeout,
        }
    }

    /// The answer: `{"error":{"code":…,"message":…}}` with the status that belongs to the code. The cause stays here.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let code = self.code();
        let status = StatusCode::from_u16(code.status()).expect("every code has an HTTP status");
        let body = ErrorBody::from(ErrorDetail::new(code, self.to_string()));
        let body = serde_json::to_vec(&body).expect("an error body is plain data");
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}
