//! The gradient of a pooling, which is slow in ONNX: the places of the greatest values would have to be told on the way
//! forward.

use std::{hint::select_unpredictable, sync::Mutex};

use ort::{
    Error, Result,
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use super::{PARTS, output, value};

/// The gradient of what went into a pooling by two.
///
/// # Shapes
/// - inputs: what went in `[n, c, h, w]`; the gradient of what came out `[n, c, h / 2, w / 2]`
/// - output: `[n, c, h, w]`
pub const MAX_POOL_GRADIENT: &str = "MaxPoolGradient";

pub struct MaxPoolGradient;

impl Operator for MaxPoolGradient {
    type Kernel<'attr> = Self;

    fn name(&self) -> &str {
        MAX_POOL_GRADIENT
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [(); 2].map(|()| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> Result<Self> {
        Ok(Self)
    }
}

impl Kernel for MaxPoolGradient {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let (x, gradient) = (value(context, 0)?, value(context, 1)?);
        let ((shape, x), (_, gradient)) = (x.try_extract_tensor::<f32>()?, gradient.try_extract_tensor::<f32>()?);
        let &[.., height, width] = &shape[..] else { return Err(Error::new("planes have two axes")) };
        let mut output = output(context, 0, shape)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;

        let (height, width) = (height as usize, width as usize);
        let (plane, pooled) = (height * width, (height / 2) * (width / 2));
        if pooled == 0 {
            return Err(Error::new("planes are too small to be pooled"));
        }
        let planes = (x.len() / plane).div_ceil(PARTS).max(1);
        let parts: Vec<_> = x
            .chunks(planes * plane)
            .zip(gradient.chunks(planes * pooled))
            .zip(output.chunks_mut(planes * plane))
            .map(|((x, gradient), output)| Mutex::new((x, gradient, output)))
            .collect();
        context.par_for(parts.len(), 0, |part| {
            let mut part = parts[part].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (x, gradient, output) = &mut *part;
            let planes = x.chunks_exact(plane).zip(output.chunks_exact_mut(plane));
            for ((x, output), gradient) in planes.zip(gradient.chunks_exact(pooled)) {
                max_pool_gradient(x, gradient, width, output);
            }
        })
    }
}

/// Gives each pixel that is the greatest of its four, the first of them where several are, the gradient of that maximum,
/// and zero to all others.
///
/// # Shapes
/// - `x`, `output`: `[h, width]`
/// - `gradient`: `[h / 2, width / 2]`
fn max_pool_gradient(x: &[f32], gradient: &[f32], width: usize, output: &mut [f32]) {
    let half = width / 2;
    let done = gradient.len() / half * 2 * width;
    let rows = x.chunks_exact(2 * width).zip(output.chunks_exact_mut(2 * width));
    for ((x, output), gradient) in rows.zip(gradient.chunks_exact(half)) {
        let ((above, below), (out_above, out_below)) = (x.split_at(width), output.split_at_mut(width));
        let ((above, _), (below, _)) = (above.as_chunks(), below.as_chunks());
        let ((out_above, left_above), (out_below, left_below)) = (out_above.as_chunks_mut(), out_below.as_chunks_mut());
        let pairs = above.iter().zip(below).zip(gradient);
        for (((&[a, b], &[c, d]), gradient), outputs) in pairs.zip(out_above.iter_mut().zip(out_below)) {
            let (a_first, c_first) = (a >= b, c >= d);
            let is_above = select_unpredictable(a_first, a, b) >= select_unpredictable(c_first, c, d);
            // As bits, or it becomes a branch, which the pixels make a matter of chance: six times as slow.
            let kept = |is: bool| f32::from_bits(select_unpredictable(is, gradient.to_bits(), 0));
            *outputs.0 = [kept(is_above & a_first), kept(is_above & !a_first)];
            *outputs.1 = [kept(!is_above & c_first), kept(!is_above & !c_first)];
        }
        left_above.fill(0.0);
        left_below.fill(0.0);
    }
    output[done..].fill(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_of_four_gets_the_gradient_and_the_first_of_several() {
        // An odd row and column, which no maximum looked at.
        let x = [1.0, 2.0, 7.0, 7.0, 9.0, 4.0, 3.0, 7.0, 7.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0];
        let mut output = [5.0; 15];
        max_pool_gradient(&x, &[0.5, -2.0], 5, &mut output);
        let expected = [0.0, 0.0, -2.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(output, expected);
    }
}
