//! Everything that can go wrong while answering, and how it is told: a code and a sentence to the client, the cause to
//! the log.
//!
//! Handlers return [`WebError`] only. Whether it becomes JSON or a page is decided once, by [`crate::guard`].

use std::iter;

use api::{ErrorCode, ErrorDetail};
use axum::{
    extract::multipart::MultipartError,
    response::{IntoResponse, Response},
};
use cluster::ClusterError;
use http::StatusCode;
use http_body_util::LengthLimitError;
use ingest::IngestError;
use store::StoreError;

use crate::launcher::LaunchError;

/// Result of this crate's handlers.
pub type Result<T, E = WebError> = std::result::Result<T, E>;

/// Every way in which a request fails.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The request is refused for a reason that its sender can mend.
    #[error("{}", .0.message)]
    Refused(ErrorDetail),
    /// The volumes failed.
    #[error("the volumes failed")]
    Store(#[from] StoreError),
    /// A multipart body that is not one.
    #[error("the form cannot be read")]
    Form(#[from] MultipartError),
    /// Pictures did not become a dataset.
    #[error("the upload did not become a dataset")]
    Ingest(#[from] IngestError),
    /// A function did not answer as it should.
    #[error("the {function} function failed")]
    Function {
        /// Which.
        function: &'static str,
        /// What the client may know.
        detail: ErrorDetail,
        /// Why.
        source: Option<reqwest::Error>,
    },
    /// The functions' runtime did not answer as it should.
    #[error("the functions' runtime failed")]
    Runtime {
        /// What the client may know.
        detail: ErrorDetail,
        /// Why.
        source: Option<reqwest::Error>,
    },
    /// The cluster failed or refused.
    #[error("the cluster failed")]
    Cluster(#[from] ClusterError),
    /// Training could not be started or stopped.
    #[error("the launcher failed")]
    Launch(#[from] LaunchError),
    /// A background task died.
    #[error("a background task died")]
    Task(#[from] tokio::task::JoinError),
    /// A page could not be written.
    #[error("a page could not be rendered")]
    Render(#[from] askama::Error),
    /// The system has no random numbers to give.
    #[error("no random numbers")]
    Random(#[from] getrandom::Error),
}

impl WebError {
    /// A refusal with this code and sentence.
    pub fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Refused(ErrorDetail::new(code, message))
    }

    /// No such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::refused(ErrorCode::NotFound, message)
    }

    /// What the client may know. Our own faults are not described.
    pub fn detail(&self) -> ErrorDetail {
        match self {
            Self::Refused(detail) | Self::Function { detail, .. } | Self::Runtime { detail, .. } => detail.clone(),
            Self::Store(e) => store_detail(e),
            Self::Form(e) if e.status() == StatusCode::PAYLOAD_TOO_LARGE => ErrorDetail::new(
                ErrorCode::TooLarge,
                "the request is larger than this service accepts; send less at once",
            ),
            Self::Form(e) => {
                ErrorDetail::new(ErrorCode::BadRequest, format!("the form cannot be read: {}", e.body_text()))
            }
            Self::Ingest(e) => ingest_detail(e),
            Self::Launch(LaunchError::Stopping) => {
                ErrorDetail::new(ErrorCode::Unavailable, LaunchError::Stopping.to_string())
            }
            Self::Launch(LaunchError::Store(e)) => store_detail(e),
            Self::Cluster(e) | Self::Launch(LaunchError::Cluster(e)) => e.detail(),
            Self::Launch(LaunchError::Task(_)) | Self::Task(_) | Self::Render(_) | Self::Random(_) => internal(),
        }
    }
}

fn internal() -> ErrorDetail {
    ErrorDetail::new(ErrorCode::Internal, "something went wrong on our side; the service's log says more")
}

fn store_detail(error: &StoreError) -> ErrorDetail {
    match error {
        StoreError::NotFound { .. } => ErrorDetail::new(ErrorCode::NotFound, error.to_string()),
        StoreError::BadName { .. } | StoreError::Draft(_) | StoreError::Label(_) => {
            ErrorDetail::new(ErrorCode::Unprocessable, error.to_string())
        }
        StoreError::Busy(_) | StoreError::InUse { .. } => ErrorDetail::new(ErrorCode::Conflict, error.to_string()),
        e if e.is_disk_full() => {
            ErrorDetail::new(ErrorCode::InsufficientStorage, "the volume is full; free some room and try again")
        }
        StoreError::Damaged { .. } | StoreError::Read { .. } | StoreError::Write { .. } | StoreError::Parse { .. } => {
            internal()
        }
    }
}

fn ingest_detail(error: &IngestError) -> ErrorDetail {
    if let IngestError::BrokenOff { source, .. } = error
        && exceeds_limit(&**source)
    {
        let message = "the upload is larger than this service accepts; send less at once";
        return ErrorDetail::new(ErrorCode::TooLarge, message);
    }
    let detail = error.detail();
    if detail.code == ErrorCode::Internal { internal() } else { detail }
}

/// Whether a body broke off because it is longer than its route allows.
fn exceeds_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    iter::successors(Some(error), |error| error.source()).any(|error| error.is::<LengthLimitError>())
}

/// An error with its causes, outermost first, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let texts = iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    texts.collect::<Vec<_>>().join(": ")
}

/// Carried from a handler to the layer that renders it.
#[derive(Clone, Debug)]
pub struct Failure(pub ErrorDetail);

impl IntoResponse for WebError {
    fn into_response(self) -> Response {
        let detail = self.detail();
        let status = StatusCode::from_u16(detail.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), error = chain(&self), "request failed");
        } else {
            tracing::debug!(status = status.as_u16(), error = chain(&self), "request refused");
        }
        let mut response = status.into_response();
        response.extensions_mut().insert(Failure(detail));
        response
    }
}
