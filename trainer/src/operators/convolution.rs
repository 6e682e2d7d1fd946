//! The gradient of a convolution's weights, for which ONNX has no operation.

use std::sync::Mutex;

use ndarray::{Array2, ArrayView2, linalg::general_mat_mul, s};
use ort::{
    Error, Result,
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use super::{PARTS, output, value};

/// The gradients of a convolution's weights and offsets.
///
/// # Attributes
/// [`KERNEL`], [`STRIDE`], [`PADDING`]
///
/// # Shapes
/// - inputs: what went in `[n, c, h, w]`; the gradient of what came out `[n, f, oh, ow]`
/// - outputs: of the weights `[f, c, kernel, kernel]`; of the offsets `[f]`
pub const CONVOLUTION_WEIGHT_GRADIENT: &str = "ConvolutionWeightGradient";
/// Side of the kernel: int.
pub const KERNEL: &str = "kernel";
/// Step between outputs: int.
pub const STRIDE: &str = "stride";
/// Zeros above and to the left of what went in: two ints. As many follow below and to the right as the outputs need.
pub const PADDING: &str = "padding";

/// Values of windows that are laid side by side at a time: what a core's own cache holds.
const AT_ONCE: usize = 1 << 16;

pub struct ConvolutionWeightGradient;

impl Operator for ConvolutionWeightGradient {
    type Kernel<'attr> = WeightGradient;

    fn name(&self) -> &str {
        CONVOLUTION_WEIGHT_GRADIENT
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [(); 2].map(|()| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [(); 2].map(|()| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> Result<WeightGradient> {
        let missing = || Error::new("an attribute is missing");
        let int = |name| context.get::<i64>(name).and_then(|int| usize::try_from(int).ok()).ok_or_else(missing);
        let padding = context.get::<Vec<i64>>(PADDING).ok_or_else(missing)?;
        let &[above, left] = &padding[..] else { return Err(missing()) };
        let window = Window { kernel: int(KERNEL)?, stride: int(STRIDE)?, padding: [above as usize, left as usize] };
        Ok(WeightGradient { window, parts: (0..PARTS).map(|_| Mutex::default()).collect() })
    }
}

/// What an output looks at.
#[derive(Clone, Copy)]
struct Window {
    kernel: usize,
    stride: usize,
    padding: [usize; 2],
}

pub struct WeightGradient {
    window: Window,
    /// Kept from step to step, for their memory's sake.
    parts: Vec<Mutex<Part>>,
}

impl Kernel for WeightGradient {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let (x, gradient) = (value(context, 0)?, value(context, 1)?);
        let ((x_dims, x), (dims, gradient)) = (x.try_extract_tensor::<f32>()?, gradient.try_extract_tensor::<f32>()?);
        let (&[n, channels, height, width], &[_, filters, rows, columns]) = (&x_dims[..], &dims[..]) else {
            return Err(Error::new("a convolution's values have four axes"));
        };
        let kernel = self.window.kernel as i64;
        let [n, channels, height, width, filters, rows, columns] =
            [n, channels, height, width, filters, rows, columns].map(|size| size as usize);
        let shape = Shape { window: self.window, channels, height, width, filters, rows, columns };
        if n * shape.values() * shape.gradients() == 0 {
            return Err(Error::new("there is nothing to learn from"));
        }

        let some = n.div_ceil(PARTS);
        let n_parts = n.div_ceil(some);
        let (parts, window) = (&self.parts, |at: usize, size: usize| at * some * size..n.min((at + 1) * some) * size);
        context.par_for(n_parts, 0, |at| {
            let mut part = parts[at].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            part.start(&shape);
            let x = x[window(at, shape.values())].chunks_exact(shape.values());
            let gradient = gradient[window(at, shape.gradients())].chunks_exact(shape.gradients());
            for (x, gradient) in x.zip(gradient) {
                part.add(&shape, x, gradient);
            }
        })?;

        let mut weight = output(context, 0, &[dims[1], x_dims[1], kernel, kernel])?;
        let mut bias = output(context, 1, &[dims[1]])?;
        let (_, weight) = weight.try_extract_tensor_mut::<f32>()?;
        let (_, bias) = bias.try_extract_tensor_mut::<f32>()?;
        weight.fill(0.0);
        bias.fill(0.0);
        for part in &mut self.parts[..n_parts] {
            let part = part.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
            part.give(&shape, weight, bias);
        }
        Ok(())
    }
}

/// Sizes per picture.
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
        self.padded.resize(height * width * shape.channels, 0.0);
        if self.weight.dim() == (shape.filters, shape.looked_at()) {
            self.weight.fill(0.0);
        } else {
            self.weight = Array2::zeros((shape.filters, shape.looked_at()));
        }
        self.bias.clear();
        self.bias.resize(shape.filters, 0.0);
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

    /// Adds what came together, with channels in front of the kernel's places as ONNX has them.
    fn give(&self, shape: &Shape, weight: &mut [f32], bias: &mut [f32]) {
        bias.iter_mut().zip(&self.bias).for_each(|(sum, part)| *sum += part);
        let places = shape.window.kernel * shape.window.kernel;
        let filters = weight.chunks_exact_mut(shape.looked_at()).zip(self.weight.rows());
        for (sums, part) in filters {
            for (channel, sums) in sums.chunks_exact_mut(places).enumerate() {
                let part = part.iter().skip(channel).step_by(shape.channels);
                sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
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
            let mut part = Part::default();
            part.start(&shape);
            for (x, gradient) in &pictures {
                part.add(&shape, x, gradient);
            }
            // On top of what other parts gave.
            let (mut weight, mut bias) = (vec![1.0; shape.filters * shape.looked_at()], vec![1.0; shape.filters]);
            part.give(&shape, &mut weight, &mut bias);

            let [first, second] = pictures.each_ref().map(|(x, gradient)| expected(&shape, x, gradient));
            for ((got, first), second) in weight.iter().zip(first).zip(second) {
                assert_eq!(*got, 1.0 + first + second, "{height} by {width}");
            }
            for (filter, got) in bias.iter().enumerate() {
                let of = |values: &[f32]| -> f32 {
                    values.chunks_exact(rows * columns).nth(filter).expect("a plane per filter").iter().sum()
                };
                assert_eq!(*got, 1.0 + of(&pictures[0].1) + of(&pictures[1].1));
            }
        }
    }
}
