//! The crate from outside: pictures made by code, odd files where they are, and damage.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixtures;
mod hostile;
mod odd;
mod pictures;
mod tiff_file;
mod tiffs;
