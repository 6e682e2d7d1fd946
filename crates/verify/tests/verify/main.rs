//! Runs against a small API server, with a web, functions and a gateway behind it that are simple state machines: the
//! whole of a run that holds, and each way in which one may not. Time is tokio's, paused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dataset;
mod failing;
mod foundations;
mod gateway;
mod holding;
mod manifests;
mod refusing;
#[path = "../../../cluster/tests/cluster/server.rs"]
#[expect(dead_code, reason = "shared with the tests of the crate that speaks to clusters")]
mod server;
mod ways;
mod web;
mod world;
