//! The web service without a socket, against the preprocess function's own code, a scripted inference function and
//! scripted trainers; and once as the real program on a real port.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bench;
mod changes;
mod charts;
mod cluster;
mod damaged;
mod datasets;
mod diagnosis;
mod functions;
mod guard;
mod insights;
mod learning;
mod models;
mod openapi;
mod original;
mod pages;
mod predict;
mod program;
mod retention;
mod runs;
mod seeing;
#[path = "../../../crates/cluster/tests/cluster/server.rs"]
#[expect(dead_code, reason = "shared with the tests of the crate that speaks to clusters")]
mod server;
#[path = "../../../crates/cluster/tests/cluster/stage.rs"]
#[expect(dead_code, reason = "as above")]
mod stage;
