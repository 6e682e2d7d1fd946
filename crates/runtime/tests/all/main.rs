//! The runtime driven over real sockets, by guests that misbehave.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bench;
mod hostile;
mod program;
mod revisions;
mod serving;
mod spin_manifest;
