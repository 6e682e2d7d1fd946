//! Uploads of every kind, the honest and the hostile, against real volumes in temporary folders.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod archives;
mod datasets;
mod function;
mod house;
mod samples;
mod traps;
mod uploads;
