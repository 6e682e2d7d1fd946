//! The runtime driven over real sockets, by guests that misbehave.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

//bake
mod bench;
mod function;
mod hostile;
//program
mod registry;
//revisions
//scaling
//serving
mod spin_manifest;
