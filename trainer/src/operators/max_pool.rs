//! Pooling by two and its gradient. ONNX Runtime changes the layout of values for the one, and has none for the other.

use std::hint::select_unpredictable;

use multiversion::multiversion;
use ort::{Error, Result, operator::ComputeContext};

use super::{fill, four, output, value};

/// The largest of every 2 × 2 values, an odd last row or column left out.
///
/// # Shapes
/// - input: `[n, c, h, w]`
/// - output: `[n, c, h / 2, w / 2]`
pub const MAX_POOL: &str = "MaxPool";

/// The gradient of what went into a pooling.
///
/// # Shapes
/// - inputs: what went in `[n, c, h, w]`; the gradient of what came out `[n, c, h / 2, w / 2]`
/// - output: `[n, c, h, w]`
pub const MAX_POOL_GRADIENT: &str = "MaxPoolGradient";

pub fn forward(context: &ComputeContext) -> Result<()> {
    let x = value(context, 0)?;
    let (dims, x) = x.try_extract_tensor::<f32>()?;
    let [n, channels, height, width] = planes(dims)?;
    let mut output = output(context, 0, &[n, channels, height / 2, width / 2].map(|size| size as i64))?;
    let (_, output) = output.try_extract_tensor_mut::<f32>()?;
    let pooled = (height / 2) * (width / 2);
    fill(context, output, pooled, |first, output| {
        let planes = x[first * height * width..].chunks_exact(height * width);
        planes.zip(output.chunks_exact_mut(pooled)).for_each(|(x, output)| max_pool(x, width, output));
    })
}

pub fn gradient(context: &ComputeContext) -> Result<()> {
    let (x, gradient) = (value(context, 0)?, value(context, 1)?);
    let ((dims, x), (_, gradient)) = (x.try_extract_tensor::<f32>()?, gradient.try_extract_tensor::<f32>()?);
    let [.., height, width] = planes(dims)?;
    let mut output = output(context, 0, dims)?;
    let (_, output) = output.try_extract_tensor_mut::<f32>()?;
    let (plane, pooled) = (height * width, (height / 2) * (width / 2));
    fill(context, output, plane, |first, output| {
        let planes = x[first * plane..].chunks_exact(plane).zip(output.chunks_exact_mut(plane));
        for ((x, output), gradient) in planes.zip(gradient[first * pooled..].chunks_exact(pooled)) {
            max_pool_gradient(x, gradient, width, output);
        }
    })
}

/// The sizes of values that can be pooled.
fn planes(dims: &[i64]) -> Result<[usize; 4]> {
    match four(dims)? {
        [_, _, 0..2, _] | [_, _, _, 0..2] => Err(Error::new(format!("values of shape {dims:?} cannot be pooled"))),
        sizes => Ok(sizes),
    }
}

/// # Shapes
/// - `x`: `[h, width]`
/// - `output`: `[h / 2, width / 2]`
#[multiversion(targets("x86_64+avx2"))]
fn max_pool(x: &[f32], width: usize, output: &mut [f32]) {
    for (x, output) in x.chunks_exact(2 * width).zip(output.chunks_exact_mut(width / 2)) {
        let (above, below) = x.split_at(width);
        let ((above, _), (below, _)) = (above.as_chunks(), below.as_chunks());
        for ((&[a, b], &[c, d]), output) in above.iter().zip(below).zip(output) {
            *output = greater(greater(a, b), greater(c, d));
        }
    }
}

/// In one instruction, as `f32::max` with its rule for numbers that are none is not.
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
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
    fn the_greatest_of_four_is_taken() {
        // An odd row and column, which are left out.
        let x = [1.0, 2.0, 7.0, 7.0, 9.0, 4.0, 3.0, 7.0, 7.5, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0];
        let mut output = [5.0; 2];
        max_pool(&x, 5, &mut output);
        assert_eq!(output, [4.0, 7.5]);
    }

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
