//! The runtime driven over real sockets, by guests that misbehave.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bake;
mod bench;
mod function;
mod hostile;
mod program;
mod registry;
mod revisions;
mod scaling;
mod serving;
mod spin_manifest;
