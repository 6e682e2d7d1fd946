//! Training: a dataset and a run's spec in, a published model version out.
//!
//! ```text
//! job ── publishing ── learning ── search ── trials
//!  │        │             └── family ── train ── optimiser ── grad ── graph ── onnx
//!  │        │                   │         │          └── adamw, engine (ONNX Runtime), operators
//!  │        │                   │         └── sampling ── data
//!  │        │                   ├── recipe ── model ── layer
//!  │        │                   ├── answers ── familiarity
//!  │        │                   └── cache ── features ── backbone ── torch_file, hdf5
//!  │        └── export, evaluate, calibration, suspects, rival, promotion, report
//!  └── checkpoint
//! ```
//!
//! Loss and gradients of a step are one ONNX graph, run by the ordinary inference build of ONNX Runtime; the same
//! list of layers writes the graph that is published. Left out: serving, and choosing datasets.

pub mod adamw;
pub mod answers;
pub mod backbone;
pub mod cache;
pub mod calibration;
pub mod change;
pub mod checkpoint;
pub mod data;
pub mod engine;
mod error;
pub mod evaluate;
pub mod export;
pub mod familiarity;
pub mod family;
pub mod features;
pub mod folds;
pub mod grad;
pub mod graph;
pub mod hdf5;
mod job;
pub mod layer;
pub mod learning;
pub mod model;
pub mod monitor;
pub mod onnx;
mod operators;
pub mod optimiser;
pub mod pixels;
pub mod promotion;
mod publishing;
pub mod random;
pub mod recipe;
mod report;
mod rival;
pub mod sampling;
pub mod search;
mod splits;
pub mod suspects;
#[cfg(test)]
#[path = "../tests/common/installed.rs"]
mod testing;
pub mod torch_file;
pub mod train;
mod trials;

pub use error::{Result, TrainerError};
pub use job::{Job, Options};
