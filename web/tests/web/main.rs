//! The web service without a socket, against the preprocess function's own code, a scripted inference function and
//! scripted trainers; and once as the real program on a real port.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bench;
mod datasets;
mod functions;
mod guard;
mod models;
mod openapi;
mod original;
mod pages;
mod predict;
mod program;
mod runs;
