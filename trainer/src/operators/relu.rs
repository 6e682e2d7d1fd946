//! The gradient of a ReLU, which is a chain of operations in ONNX.

use multiversion::multiversion;
use ort::{
    Error, Result,
    operator::{ComputeContext, Kernel, KernelContext},
};

use super::{fill, output, value};

/// The gradient of what went into a ReLU that ends at [`MOST`].
///
/// # Shapes
/// - inputs: what came out; its gradient, of the same shape
/// - output: of that shape
pub const RELU_GRADIENT: &str = "ReluGradient";
/// Where a ReLU ends, infinity if nowhere: float.
pub const MOST: &str = "most";

pub struct Gradient {
    most: f32,
}

impl Gradient {
    pub fn new(context: &KernelContext) -> Result<Self> {
        let most = context.get(MOST).ok_or_else(|| Error::new(format!("attribute {MOST} is missing")))?;
        Ok(Self { most })
    }
}

impl Kernel for Gradient {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let (y, gradient) = (value(context, 0)?, value(context, 1)?);
        let ((dims, y), (_, gradient)) = (y.try_extract_tensor::<f32>()?, gradient.try_extract_tensor::<f32>()?);
        let mut output = output(context, 0, dims)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let most = self.most;
        fill(context, output, 1, |first, output| go_back(&y[first..], &gradient[first..], most, output))
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn go_back(y: &[f32], gradient: &[f32], most: f32, output: &mut [f32]) {
    for ((output, &y), &gradient) in output.iter_mut().zip(y).zip(gradient) {
        *output = if y > 0.0 && y < most { gradient } else { 0.0 };
    }
}
