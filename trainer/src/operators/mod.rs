//! Operations of our own in training graphs, which ONNX Runtime calls as if they were its own: those that it has none for,
//! or a slow one.

mod convolution;
mod max_pool;

use ort::{
    Error, Result,
    operator::{ComputeContext, OperatorDomain},
    value::{ValueRef, ValueRefMut},
};

pub use self::{
    convolution::{CONVOLUTION_WEIGHT_GRADIENT, KERNEL, PADDING, STRIDE},
    max_pool::MAX_POOL_GRADIENT,
};

/// The domain of our operations.
pub const DOMAIN: &str = "fovea";

/// Parts that an operation is cut into, for as many threads as there may be. What they come to does not depend on who
/// computes which.
const PARTS: usize = 16;

/// The operations, for one session.
pub fn domain() -> Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?.add(max_pool::MaxPoolGradient)?.add(convolution::ConvolutionWeightGradient)
}

fn value(context: &ComputeContext, at: usize) -> Result<ValueRef<'_>> {
    context.input(at)?.ok_or_else(missing)
}

fn output<'c>(context: &'c ComputeContext, at: usize, dims: &[i64]) -> Result<ValueRefMut<'c>> {
    context.output(at, dims.to_vec())?.ok_or_else(missing)
}

fn missing() -> Error {
    Error::new("a value is missing")
}
