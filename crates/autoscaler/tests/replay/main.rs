//! Replays recordings of Knative's own code: every vector and every line of the traces that concerns this crate.
//!
//! The recordings lie beside the project, in the folder that `FOVEA_KNATIVE_DATA` names or, by default, in
//! `../shared/knative`. Without them these tests pass and say so on stderr; a kind that the files do not hold is told
//! the same way.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod admission;
mod data;
mod decider_traces;
mod decisions;
mod derived;
mod kpa_traces;
mod metrics;
mod parse;
mod passes;
