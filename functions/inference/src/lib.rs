//! The inference function: pictures over HTTP → labels. A thin skin over `imaging` and `predictor`.
//!
//! [`Function`] is the whole behaviour over `http` types, without a socket and without a sandbox, so it is tested
//! natively. `component` fits it into a WASI 0.3 component. Which model version is current is decided outside:
//! the function reads the one folder it is given.

mod function;
mod query;

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(target_arch = "wasm32")]
mod files;
#[cfg(target_arch = "wasm32")]
mod memory;

pub use function::{Function, MAX_BODY_BYTES, MAX_IMAGES};
