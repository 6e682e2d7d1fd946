//! Training: a dataset and a run's spec in, a published model version out.
//!
//! ```text
//! job ── family ── train ── optimiser ── grad ── graph ── onnx
//!  │       │         │          └── engine (ONNX Runtime)
//!  │       │         └── sampling ── data
//!  │       ├── recipe ── model ── layer
//!  │       └── features ── backbone ── torch_file
//!  └── export, evaluate
//! ```
//!
//! A training step (forward, gradients, optimiser) is one plain ONNX graph, run by the ordinary inference build of ONNX
//! Runtime; the same list of layers writes the graph that is published. Left out: serving, and choosing datasets.

pub mod backbone;
pub mod change;
pub mod data;
pub mod engine;
mod error;
pub mod evaluate;
pub mod export;
pub mod family;
pub mod features;
pub mod grad;
pub mod graph;
mod job;
pub mod layer;
pub mod model;
pub mod monitor;
pub mod onnx;
pub mod optimiser;
pub mod pixels;
pub mod random;
pub mod recipe;
pub mod sampling;
#[cfg(test)]
#[path = "../tests/common/installed.rs"]
mod testing;
pub mod torch_file;
pub mod train;

pub use error::{Result, TrainerError};
pub use job::Job;
