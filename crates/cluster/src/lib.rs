//! A Kubernetes cluster with Knative Serving as the engine of training and of the functions.
//!
//! Trainer Jobs are made, looked at and deleted ([`trainers`]); versions are baked and published as revisions of a Knative
//! Service ([`publish`]), and images without a model as they are ([`image`]); what the functions do is read back in the terms of [`api::functions`] ([`functions`]); and a
//! cluster is examined for what it lacks ([`doctor`]). Every failure becomes a sentence with what to do ([`error`]).
//!
//! Decisions are made on what the API server tells, never on what this process remembers: any number of replicas may do
//! the same at the same time. What lies on the volumes is left out; that is `store`'s.

pub mod connection;
pub mod doctor;
pub mod error;
pub mod functions;
pub mod image;
mod jobs;
pub mod knative;
pub mod names;
mod outcome;
pub mod publish;
mod template;
pub mod trainers;

pub use connection::Cluster;
pub use error::{ClusterError, Result};
pub use outcome::{JobState, told_at};
