//! Why a picture was not processed.

use std::error::Error;

use api::{ErrorCode, ErrorDetail, Format};

use crate::sniff::{SUPPORTED, name};

/// A fault of the picture, the spec, or (last) of this code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagingError {
    /// No bytes at all.
    #[error("the picture has no bytes")]
    Empty,
    /// Another format than the supported ones, or no picture.
    #[error("this is {arrived}; supported are {SUPPORTED}")]
    UnsupportedFormat {
        /// What arrived, as far as it is recognisable.
        arrived: &'static str,
    },
    /// More bytes than [`crate::Limits::file_bytes`].
    #[error("the file has {bytes} bytes; at most {limit} are accepted")]
    FileTooLarge {
        /// Of the file.
        bytes: usize,
        /// Largest accepted.
        limit: usize,
    },
    /// A longer side than [`crate::Limits::side`].
    #[error("the picture claims {width} × {height} pixels; a side may have at most {limit}")]
    SideTooLong {
        /// As the header says.
        width: u32,
        /// As the header says.
        height: u32,
        /// Longest accepted.
        limit: u32,
    },
    /// More pixels than [`crate::Limits::pixels`].
    #[error("the picture claims {width} × {height} pixels; at most {limit} in all are accepted")]
    TooManyPixels {
        /// As the header says.
        width: u32,
        /// As the header says.
        height: u32,
        /// Most accepted.
        limit: u64,
    },
    /// Decoding would need more than [`crate::Limits::memory_bytes`].
    #[error("decoding the picture needs about {bytes} bytes of memory; at most {limit} are granted")]
    TooMuchMemory {
        /// Estimated need.
        bytes: u64,
        /// Largest granted.
        limit: u64,
    },
    /// A decoder ran into one of the limits it was given.
    #[error("decoding the {} exceeds a limit", name(*format))]
    DecoderLimit {
        /// Of the picture.
        format: Format,
        /// What the decoder says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The memory could not be had, though the limits allow it.
    #[error("{bytes} bytes of memory could not be had")]
    OutOfMemory {
        /// That were asked for.
        bytes: usize,
    },
    /// The file ends before all pixels are there.
    #[error("the {} ends before all of its pixels are there", name(*format))]
    Truncated {
        /// Of the picture.
        format: Format,
    },
    /// A supported format, but broken or of a rare kind that is not decoded.
    #[error("the {} cannot be decoded", name(*format))]
    Undecodable {
        /// Of the picture.
        format: Format,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The spec asks for something impossible.
    #[error("{0}")]
    InvalidSpec(String),
    /// The resizer refused; a fault of this code.
    #[error("resizing failed")]
    Resize {
        /// What the resizer says.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ImagingError {
    pub(crate) fn undecodable(format: Format, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Undecodable { format, source: source.into() }
    }

    /// The code that decides the HTTP status.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Empty => ErrorCode::Empty,
            Self::UnsupportedFormat { .. } => ErrorCode::UnsupportedFormat,
            Self::FileTooLarge { .. }
            | Self::SideTooLong { .. }
            | Self::TooManyPixels { .. }
            | Self::TooMuchMemory { .. }
            | Self::DecoderLimit { .. }
            | Self::OutOfMemory { .. } => ErrorCode::TooLarge,
            Self::Truncated { .. } => ErrorCode::Truncated,
            Self::Undecodable { .. } => ErrorCode::Undecodable,
            Self::InvalidSpec(_) => ErrorCode::Unprocessable,
            Self::Resize { .. } => ErrorCode::Internal,
        }
    }

    /// Code and sentence for whoever sent the picture. A decoder's complaint is part of the sentence, because it
    /// speaks of the sender's own file.
    pub fn detail(&self) -> ErrorDetail {
        let message = match self {
            Self::Undecodable { source, .. } | Self::DecoderLimit { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        };
        ErrorDetail::new(self.code(), message)
    }
}
