//! The cluster crate against a small API server in this process: what it asks for, and what it makes of the answers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod connection;
mod doctor;
mod functions;
mod image;
mod manifests;
mod publish;
mod server;
mod stage;
mod trainers;
