//! The one error shape every HTTP answer of the house uses.

use serde::{Deserialize, Serialize};

/// What went wrong, for programs. The HTTP status follows from it and from nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is not what the route expects (malformed JSON, missing field, bad base64).
    BadRequest,
    /// The picture has no bytes.
    Empty,
    /// The picture is of a supported format but cannot be decoded.
    Undecodable,
    /// The picture ends before all of its pixels.
    Truncated,
    /// The bytes are no picture, or one of a format that is not supported.
    UnsupportedFormat,
    /// The body, the picture's pixels or the memory to decode it exceed a limit.
    TooLarge,
    /// The picture is smaller than a limit.
    TooSmall,
    /// The request is well formed but asks for something impossible (a value out of range, a wrong shape).
    Unprocessable,
    /// The request comes from a place that must not make it (another site's page, a foreign host name).
    Forbidden,
    /// No such thing.
    NotFound,
    /// The route exists, the method is not offered.
    MethodNotAllowed,
    /// The request contradicts the present state.
    Conflict,
    /// Nothing published yet, or no capacity: try again later.
    Unavailable,
    /// A function or another service did not answer as it should.
    BadGateway,
    /// A function or another service did not answer in time.
    Timeout,
    /// The volume has no room left.
    InsufficientStorage,
    /// Our fault.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that belongs to this code.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::Empty | Self::Undecodable | Self::Truncated => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::UnsupportedFormat => 415,
            Self::TooSmall | Self::Unprocessable => 422,
            Self::Internal => 500,
            Self::BadGateway => 502,
            Self::Unavailable => 503,
            Self::Timeout => 504,
            Self::InsufficientStorage => 507,
        }
    }
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong, for a program and for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorDetail {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what arrived, what was expected, what to do.
    pub message: String,
}

impl ErrorDetail {
    /// An error of this code with this sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<ErrorDetail> for ErrorBody {
    fn from(error: ErrorDetail) -> Self {
        Self { error }
    }
}
