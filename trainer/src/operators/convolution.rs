//! The gradient of a convolution's weights, for which ONNX has no operation.

use std::sync::Mutex;

use ndarray::{Array2, ArrayView2, linalg::general_mat_mul, s};
use ort::{
    Result,
    operator::{ComputeContext, Kernel, KernelContext},
};

use super::{PARTS, locked, of_the_same, output, value, window::Window};

/// The gradients of a convolution's weights and offsets.
///
/// # Attributes
/// [`KERNEL`](super::KERNEL), [`STRIDE`](super::STRIDE), [`PADDING`](super::PADDING)
///
/// # Shapes
/// - inputs: what went in `[n, c, h, w]`; the gradient of what came out `[n, f, oh, ow]`
/// - outputs: of the weights `[f, c, kernel, kernel]`; of the offsets `[f]`
pub const CONVOLUTION_WEIGHT_GRADIENT: &str = "ConvolutionWeightGradient";

/// Values of windows that are laid side by side at a time: what a core's own cache holds.
const AT_ONCE: usize = 1 << 16;

pub struct WeightGradient {
    window: Window,
    /// Kept from step to step, for their memory's sake.
    parts: Vec<Mutex<Part>>,
}

impl WeightGradient {
    pub fn new(context: &KernelContext) -> Result<Self> {
        Ok(Self { window: Window::of(context)?, parts: (0..PARTS).map(|_| Mutex::default()).collect() })
    }
}

impl Kernel for WeightGradient {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let (x, gradient) = (value(context, 0)?, value(context, 1)?);
        let ((x_dims, x), (dims, gradient)) = (x.try_extract_tensor::<f32>()?, gradient.try_extract_tensor::<f32>()?);
        let [[n, channels, height, width], [_, filters, rows, columns]] = of_the_same(x_dims, dims)?;
        let shape = Shape { window: self.window, channels, height, width, filters, rows, columns };

        let some = n.div_ceil(PARTS);
        let parts = &self.parts[..n.div_ceil(some)];
        context.par_for(parts.len(), 0, |at| {
            let mut part = locked(&parts[at]);
            part.start(&shape);
            let x = x.chunks_exact(shape.values()).skip(at * some);
            let gradient = gradient.chunks_exact(shape.gradients()).skip(at * some);
            for (x, gradient) in x.zip(gradient).take(some) {
                part.add(&shape, x, gradient);
            }
        })?;

        let kernel = self.window.kernel as i64;
        let mut weight = output(context, 0, &[dims[1], x_dims[1], kernel, kernel])?;
        let mut bias = output(context, 1, &[dims[1]])?;
        let (_, weight) = weight.try_extract_tensor_mut::<f32>()?;
        let (_, bias) = bias.try_extract_tensor_mut::<f32>()?;
        let mut sums = locked(&parts[0]);
        parts[1..].iter().for_each(|part| sums.add_part(&locked(part)));
        sums.give(&shape, weight, bias);
        Ok(())
    }
}

/// Sizes per picture.
#[derive(Clone, Copy)]
struct Shape {
    window: Window,
    channels: usize,
    height: usize,
    width: usize,
    filters: usize,
    rows: usize,
    columns: usize,
}

impl Shape {
    fn values(&self) -> usize {
        self.channels * self.height * self.width
    }

    fn gradients(&self) -> usize {
        self.filters * self.rows * self.columns
    }

    /// Values that one output looks at.
    fn looked_at(&self) -> usize {
        self.window.kernel * self.window.kernel * self.channels
    }

    /// Height and width of all that outputs look at.
    fn padded(&self) -> [usize; 2] {
        [self.rows, self.columns].map(|outputs| (outputs - 1) * self.window.stride + self.window.kernel)
    }
}

/// What some of the pictures come to.
#[derive(Default)]
struct Part {
    /// One picture with its padding: `[height, width, channels]`.
    padded: Vec<f32>,
    /// What some rows of outputs look at: `[outputs, kernel · kernel · channels]`.
    windows: Vec<f32>,
    /// `[filters, kernel · kernel · channels]`.
    weight: Array2<f32>,
    /// `[filters]`.
    bias: Vec<f32>,
}

impl Part {
    fn start(&mut self, shape: &Shape) {
        let [height, width] = shape.padded();
        self.weight = Array2::zeros((shape.filters, shape.looked_at()));
        for (values, n) in [(&mut self.padded, height * width * shape.channels), (&mut self.bias, shape.filters)] {
            values.clear();
            values.resize(n, 0.0);
        }
    }

    /// Adds one picture's gradients.
    ///
    /// # Shapes
    /// - `x`: `[channels, height, width]`
    /// - `gradient`: `[filters, rows, columns]`
    fn add(&mut self, shape: &Shape, x: &[f32], gradient: &[f32]) {
        self.pad(shape, x);
        let gradient = ArrayView2::from_shape((shape.filters, shape.rows * shape.columns), gradient)
            .expect("as many gradients as the shape has");
        for (sum, gradient) in self.bias.iter_mut().zip(gradient.rows()) {
            *sum += gradient.sum();
        }
        let at_once = (AT_ONCE / (shape.columns * shape.looked_at())).max(1);
        for top in (0..shape.rows).step_by(at_once) {
            let bottom = shape.rows.min(top + at_once);
            self.look(shape, top, bottom);
            let outputs = top * shape.columns..bottom * shape.columns;
            let windows = ArrayView2::from_shape((outputs.len(), shape.looked_at()), &self.windows)
                .expect("a window for each output");
            general_mat_mul(1.0, &gradient.slice(s![.., outputs]), &windows, 1.0, &mut self.weight);
        }
    }

    /// Lays a picture out with its channels last, so that what a row of a kernel looks at lies side by side.
    fn pad(&mut self, shape: &Shape, x: &[f32]) {
        let ([height, width], [above, left]) = (shape.padded(), shape.window.padding);
        let rows = shape.height.min(height.saturating_sub(above));
        let columns = shape.width.min(width.saturating_sub(left));
        for (channel, plane) in x.chunks_exact(shape.height * shape.width).enumerate() {
            for (row, values) in plane.chunks_exact(shape.width).take(rows).enumerate() {
                let first = (row + above) * width + left;
                let places = self.padded[first * shape.channels..].iter_mut().skip(channel).step_by(shape.channels);
                places.zip(&values[..columns]).for_each(|(place, value)| *place = *value);
            }
        }
    }

    /// Copies what these rows of outputs look at.
    fn look(&mut self, shape: &Shape, top: usize, bottom: usize) {
        let Window { kernel, stride, .. } = shape.window;
        let [_, width] = shape.padded();
        let run = kernel * shape.channels;
        self.windows.resize((bottom - top) * shape.columns * shape.looked_at(), 0.0);
        let mut windows = self.windows.chunks_exact_mut(run);
        for row in top..bottom {
            for column in 0..shape.columns {
                for (line, window) in (row * stride..).zip(windows.by_ref().take(kernel)) {
                    let first = (line * width + column * stride) * shape.channels;
                    window.copy_from_slice(&self.padded[first..first + run]);
                }
            }
        }
    }

    fn add_part(&mut self, other: &Self) {
        self.weight += &other.weight;
        self.bias.iter_mut().zip(&other.bias).for_each(|(sum, other)| *sum += other);
    }

    /// Gives the sums, with channels in front of the kernel's places as ONNX has them.
    fn give(&self, shape: &Shape, weight: &mut [f32], bias: &mut [f32]) {
        bias.copy_from_slice(&self.bias);
        let places = shape.window.kernel * shape.window.kernel;
        for (into, sums) in weight.chunks_exact_mut(shape.looked_at()).zip(self.weight.rows()) {
            for (at, sum) in sums.iter().enumerate() {
                let (place, channel) = (at / shape.channels, at % shape.channels);
                into[channel * places + place] = *sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By definition: each weight gets every gradient times the value that it was multiplied with.
    fn expected(shape: &Shape, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let Window { kernel, stride, padding: [above, left] } = shape.window;
        let mut weight = vec![];
        for filter in 0..shape.filters {
            for place in 0..shape.channels * kernel * kernel {
                let (channel, down, right) = (place / (kernel * kernel), place / kernel % kernel, place % kernel);
                let mut sum = 0.0;
                for output in 0..shape.rows * shape.columns {
                    let y = (output / shape.columns * stride + down).checked_sub(above);
                    let x_at = (output % shape.columns * stride + right).checked_sub(left);
                    if let (Some(y), Some(x_at)) = (y, x_at)
                        && y < shape.height
                        && x_at < shape.width
                    {
                        let value = x[(channel * shape.height + y) * shape.width + x_at];
                        sum += gradient[filter * shape.rows * shape.columns + output] * value;
                    }
                }
                weight.push(sum);
            }
        }
        weight
    }

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed) % 17) as f32 - 8.0).collect()
    }

    #[test]
    fn gradients_are_those_of_the_definition() {
        let window = |kernel, stride, padding| Window { kernel, stride, padding };
        let cases = [
            (window(3, 1, [1, 1]), [5, 7], [5, 7]),
            // Rows and columns at the end that nothing looks at; padding on one side only.
            (window(3, 2, [0, 0]), [6, 8], [2, 3]),
            (window(3, 2, [0, 1]), [6, 7], [3, 4]),
            (window(5, 1, [2, 2]), [3, 2], [3, 2]),
            // More rows than are looked at at once.
            (window(3, 1, [1, 1]), [70, 40], [70, 40]),
        ];
        for (window, [height, width], [rows, columns]) in cases {
            let shape = Shape { window, channels: 3, height, width, filters: 4, rows, columns };
            let pictures = [(1, 5), (2, 6)].map(|(a, b)| (numbers(shape.values(), a), numbers(shape.gradients(), b)));
            // One picture twice, in two parts, of which one has been used before.
            let mut parts = [Part::default(), Part::default()];
            let before = Shape { filters: 9, channels: 2, ..shape };
            parts[0].start(&before);
            parts[0].add(&before, &numbers(before.values(), 3), &numbers(before.gradients(), 4));
            for part in &mut parts {
                part.start(&shape);
                part.add(&shape, &pictures[0].0, &pictures[0].1);
            }
            parts[0].add(&shape, &pictures[1].0, &pictures[1].1);
            let [mut sums, other] = parts;
            sums.add_part(&other);
            let (mut weight, mut bias) = (vec![9.0; shape.filters * shape.looked_at()], vec![9.0; shape.filters]);
            sums.give(&shape, &mut weight, &mut bias);

            let [first, second] = pictures.each_ref().map(|(x, gradient)| expected(&shape, x, gradient));
            for ((got, first), second) in weight.iter().zip(first).zip(second) {
                assert_eq!(*got, 2.0 * first + second, "{height} by {width}");
            }
            for (filter, got) in bias.iter().enumerate() {
                let of = |values: &[f32]| -> f32 {
                    values.chunks_exact(rows * columns).nth(filter).expect("a plane per filter").iter().sum()
                };
                assert_eq!(*got, 2.0 * of(&pictures[0].1) + of(&pictures[1].1));
            }
        }
    }
}
