//! The preprocess function: pictures over HTTP → upright RGB of a stated size. A thin skin over `imaging`.
//!
//! [`answer`] is the whole behaviour over `http` types, without a socket and without a sandbox, so it is tested
//! natively. `component` fits it into a WASI 0.3 component. The wire types stand in [`api::preprocess`].

mod compact;
mod function;
mod query;

#[cfg(target_arch = "wasm32")]
mod component;

pub use function::{MAX_BODY_BYTES, MAX_IMAGES, MAX_PIXEL_BYTES, answer, refuse_broken_body, refuse_long_body};
