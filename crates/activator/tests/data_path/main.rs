//! The data path through its public interface, with scripted instances and paused time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answering;
mod draining;
mod holding;
mod leaving;
mod metering;
mod serving;
mod stage;
mod stress;
mod vectors;
