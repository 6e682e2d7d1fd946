//! The gradients of a convolution, as products of matrices for one picture after another, which a core's own cache holds.
//! ONNX has no operation for that of the weights, and ONNX Runtime none that is fast with weights that change.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, linalg::general_mat_mul, s};
use ort::{
    Result,
    operator::{ComputeContext, Kernel, KernelContext},
};

use super::{
    Parts, fill_with, four, of_the_same, output, value,
    window::{SIDES, Window, ints},
};

/// The gradients of a convolution's weights and offsets.
///
/// # Attributes
/// [`KERNEL`](super::KERNEL), [`STRIDE`](super::STRIDE), [`PADDING`](super::PADDING)
///
/// # Shapes
/// - inputs: what went in `[n, c, h, w]`; the gradient of what came out `[n, f, oh, ow]`
/// - outputs: of the weights `[f, c, kernel, kernel]`; of the offsets `[f]`
pub const CONVOLUTION_WEIGHT_GRADIENT: &str = "ConvolutionWeightGradient";

/// The gradient of what went in.
///
/// # Attributes
/// the same; [`SIDES`](super::SIDES)
///
/// # Shapes
/// - inputs: the gradient of what came out `[n, f, oh, ow]`; weights `[f, c, kernel, kernel]`
/// - output: `[n, c, h, w]`
pub const CONVOLUTION_INPUT_GRADIENT: &str = "ConvolutionInputGradient";

/// Values of windows that are laid side by side at a time: what a core's own cache holds.
const AT_ONCE: usize = 1 << 16;

pub struct WeightGradient {
    window: Window,
    parts: Parts<Part>,
}

impl WeightGradient {
    pub fn new(context: &KernelContext) -> Result<Self> {
        Ok(Self { window: Window::of(context)?, parts: Parts::default() })
    }
}

impl Kernel for WeightGradient {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let (x, gradient) = (value(context, 0)?, value(context, 1)?);
        let ((x_dims, x), (dims, gradient)) = (x.try_extract_tensor::<f32>()?, gradient.try_extract_tensor::<f32>()?);
        let [[n, channels, height, width], [_, filters, rows, columns]] = of_the_same(x_dims, dims)?;
        let shape = Shape { window: self.window, channels, height, width, filters, rows, columns };

        let runs = shape.runs();
        let (x, gradient) = (x.chunks_exact(shape.values()), gradient.chunks_exact(shape.gradients()));
        let sums = self.parts.sum(
            context,
            n,
            |part, pictures| {
                part.start(&shape);
                for (x, gradient) in x.clone().zip(gradient.clone()).take(pictures.end).skip(pictures.start) {
                    part.add(&shape, &runs, x, gradient);
                }
            },
            Part::add_part,
        )?;

        let kernel = self.window.kernel as i64;
        let mut weight = output(context, 0, &[dims[1], x_dims[1], kernel, kernel])?;
        let mut bias = output(context, 1, &[dims[1]])?;
        let (_, weight) = weight.try_extract_tensor_mut::<f32>()?;
        let (_, bias) = bias.try_extract_tensor_mut::<f32>()?;
        sums.give(&shape, weight, bias);
        Ok(())
    }
}

pub struct InputGradient {
    window: Window,
    sides: [usize; 2],
    spread: Parts<Spread>,
}

impl InputGradient {
    pub fn new(context: &KernelContext) -> Result<Self> {
        Ok(Self { window: Window::of(context)?, sides: ints(context, SIDES)?, spread: Parts::default() })
    }
}

impl Kernel for InputGradient {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let (gradient, weight) = (value(context, 0)?, value(context, 1)?);
        let ((dims, gradient), (weight_dims, weight)) =
            (gradient.try_extract_tensor::<f32>()?, weight.try_extract_tensor::<f32>()?);
        let ([n, filters, rows, columns], [_, channels, ..]) = (four(dims)?, four(weight_dims)?);
        let [height, width] = self.sides;
        let shape = Shape { window: self.window, channels, height, width, filters, rows, columns };
        let weight = shape.with_channels_last(weight);
        let mut input = output(context, 0, &[n, channels, height, width].map(|size| size as i64))?;
        let (_, input) = input.try_extract_tensor_mut::<f32>()?;
        let runs = shape.runs();
        fill_with(&self.spread, context, input, shape.values(), |spread, first, input| {
            let gradient = gradient.chunks_exact(shape.gradients()).skip(first);
            for (input, gradient) in input.chunks_exact_mut(shape.values()).zip(gradient) {
                spread.picture(&shape, &runs, gradient, &weight, input);
            }
        })
    }
}

/// One picture's gradients on their way back to what outputs looked at.
#[derive(Default)]
struct Spread {
    /// What each output of some rows gives to what it looked at: `[outputs, kernel · kernel · channels]`.
    windows: Vec<f32>,
    /// What came together, padding included: `[height, width, channels]`.
    padded: Vec<f32>,
}

impl Spread {
    /// Works out one picture's; see [`Shape::runs`].
    ///
    /// # Shapes
    /// - `gradient`: `[filters, rows, columns]`
    /// - `weight`: `[filters, kernel · kernel · channels]`
    /// - `input`: `[channels, height, width]`
    fn picture(&mut self, shape: &Shape, runs: &[usize], gradient: &[f32], weight: &Array2<f32>, input: &mut [f32]) {
        let [height, width] = shape.padded();
        self.padded.clear();
        self.padded.resize(height * width * shape.channels, 0.0);
        let gradient = shape.by_filter(gradient);
        for rows in shape.some_rows() {
            let outputs = rows.start * shape.columns..rows.end * shape.columns;
            self.windows.resize(outputs.len() * shape.looked_at(), 0.0);
            let mut windows = ArrayViewMut2::from_shape((outputs.len(), shape.looked_at()), &mut self.windows)
                .expect("a window for each output");
            general_mat_mul(1.0, &gradient.slice(s![.., outputs.clone()]).t(), weight, 0.0, &mut windows);
            let runs = &runs[outputs.start * shape.window.kernel..];
            add(&self.windows, runs, shape.window.kernel * shape.channels, &mut self.padded);
        }
        input.fill(0.0);
        for (channel, plane) in input.chunks_exact_mut(shape.height * shape.width).enumerate() {
            for (row, values) in plane.chunks_exact_mut(shape.width).enumerate() {
                let sums = shape.places(row, channel).map(|place| self.padded[place]);
                values.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum);
            }
        }
    }
}

/// Adds values, so many for each of these places and the ones behind it.
#[multiversion(targets("x86_64+avx2"))]
fn add(values: &[f32], places: &[usize], run: usize, sums: &mut [f32]) {
    for (&first, values) in places.iter().zip(values.chunks_exact(run)) {
        sums[first..first + run].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
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

    /// One picture's gradients: `[filters, outputs]`.
    fn by_filter<'g>(&self, gradient: &'g [f32]) -> ArrayView2<'g, f32> {
        let shape = (self.filters, self.rows * self.columns);
        ArrayView2::from_shape(shape, gradient).expect("as many gradients as the shape has")
    }

    /// The rows of outputs, as many at a time as the cache has room for what they look at.
    fn some_rows(self) -> impl Iterator<Item = Range<usize>> {
        let at_once = (AT_ONCE / (self.columns * self.looked_at())).max(1);
        (0..self.rows).step_by(at_once).map(move |top| top..self.rows.min(top + at_once))
    }

    /// Where, in a padded picture with its channels last, each output looks at: the first place of each row of its kernel.
    fn runs(&self) -> Vec<usize> {
        let (Window { kernel, stride, .. }, [_, width]) = (self.window, self.padded());
        let outputs =
            (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (row * stride, column * stride)));
        let run = |row: usize, column: usize| (row * width + column) * self.channels;
        outputs.flat_map(|(row, column)| (row..row + kernel).map(move |row| run(row, column))).collect()
    }

    /// Where, in a padded picture with its channels last, a channel's row lies: nowhere if nothing looks at it.
    fn places(self, row: usize, channel: usize) -> impl Iterator<Item = usize> {
        let ([height, width], [above, left]) = (self.padded(), self.window.padding);
        let columns = if row + above < height { self.width.min(width.saturating_sub(left)) } else { 0 };
        let first = ((row + above) * width + left) * self.channels + channel;
        (first..).step_by(self.channels).take(columns)
    }

    /// Where ONNX has a filter's weight, channels in front of the kernel's places, that lies here with channels last.
    fn channel_first(&self, at: usize) -> usize {
        let (place, channel) = (at / self.channels, at % self.channels);
        channel * self.window.kernel * self.window.kernel + place
    }

    /// Weights `[filters, channels, kernel, kernel]` as `[filters, kernel · kernel · channels]`.
    fn with_channels_last(&self, weight: &[f32]) -> Array2<f32> {
        let of = |(filter, at)| weight[filter * self.looked_at() + self.channel_first(at)];
        Array2::from_shape_fn((self.filters, self.looked_at()), of)
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

    /// Adds one picture's gradients; see [`Shape::runs`].
    ///
    /// # Shapes
    /// - `x`: `[channels, height, width]`
    /// - `gradient`: `[filters, rows, columns]`
    fn add(&mut self, shape: &Shape, runs: &[usize], x: &[f32], gradient: &[f32]) {
        self.pad(shape, x);
        let gradient = shape.by_filter(gradient);
        for (sum, gradient) in self.bias.iter_mut().zip(gradient.rows()) {
            *sum += gradient.sum();
        }
        let run = shape.window.kernel * shape.channels;
        for rows in shape.some_rows() {
            let outputs = rows.start * shape.columns..rows.end * shape.columns;
            self.windows.resize(outputs.len() * shape.looked_at(), 0.0);
            let runs = &runs[outputs.start * shape.window.kernel..];
            for (&first, window) in runs.iter().zip(self.windows.chunks_exact_mut(run)) {
                window.copy_from_slice(&self.padded[first..first + run]);
            }
            let windows = ArrayView2::from_shape((outputs.len(), shape.looked_at()), &self.windows)
                .expect("a window for each output");
            general_mat_mul(1.0, &gradient.slice(s![.., outputs]), &windows, 1.0, &mut self.weight);
        }
    }

    /// Lays a picture out with its channels last, so that what a row of a kernel looks at lies side by side.
    fn pad(&mut self, shape: &Shape, x: &[f32]) {
        for (channel, plane) in x.chunks_exact(shape.height * shape.width).enumerate() {
            for (row, values) in plane.chunks_exact(shape.width).enumerate() {
                shape.places(row, channel).zip(values).for_each(|(place, value)| self.padded[place] = *value);
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
        for (into, sums) in weight.chunks_exact_mut(shape.looked_at()).zip(self.weight.rows()) {
            for (at, sum) in sums.iter().enumerate() {
                into[shape.channel_first(at)] = *sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls with a weight, an output of its filter, and a value that was multiplied with it for that output.
    fn meetings(shape: &Shape, mut meet: impl FnMut(usize, usize, usize)) {
        let Window { kernel, stride, padding: [above, left] } = shape.window;
        for weight in 0..shape.filters * shape.looked_at() {
            let (filter, place) = (weight / shape.looked_at(), weight % shape.looked_at());
            let (channel, down, right) = (place / (kernel * kernel), place / kernel % kernel, place % kernel);
            for output in 0..shape.rows * shape.columns {
                let y = (output / shape.columns * stride + down).wrapping_sub(above);
                let x = (output % shape.columns * stride + right).wrapping_sub(left);
                if y < shape.height && x < shape.width {
                    let value = (channel * shape.height + y) * shape.width + x;
                    meet(weight, filter * shape.rows * shape.columns + output, value);
                }
            }
        }
    }

    fn expected(shape: &Shape, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let mut weights = vec![0.0; shape.filters * shape.looked_at()];
        meetings(shape, |weight, output, value| weights[weight] += gradient[output] * x[value]);
        weights
    }

    fn expected_input(shape: &Shape, gradient: &[f32], weights: &[f32]) -> Vec<f32> {
        let mut input = vec![0.0; shape.values()];
        meetings(shape, |weight, output, value| input[value] += gradient[output] * weights[weight]);
        input
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
            parts[0].add(&before, &before.runs(), &numbers(before.values(), 3), &numbers(before.gradients(), 4));
            for part in &mut parts {
                part.start(&shape);
                part.add(&shape, &shape.runs(), &pictures[0].0, &pictures[0].1);
            }
            parts[0].add(&shape, &shape.runs(), &pictures[1].0, &pictures[1].1);
            let [mut sums, other] = parts;
            sums.add_part(&other);
            let (mut weight, mut bias) = (vec![9.0; shape.filters * shape.looked_at()], vec![9.0; shape.filters]);
            sums.give(&shape, &mut weight, &mut bias);

            let [first, second] = pictures.each_ref().map(|(x, gradient)| expected(&shape, x, gradient));
            for ((got, first), second) in weight.iter().zip(first).zip(second) {
                assert_eq!(*got, 2.0 * first + second, "{height} by {width}");
            }
            let weight = numbers(shape.filters * shape.looked_at(), 7);
            let (mut spread, mut input) = (Spread::default(), vec![9.0; shape.values()]);
            for _ in 0..2 {
                spread.picture(&shape, &shape.runs(), &pictures[0].1, &shape.with_channels_last(&weight), &mut input);
            }
            assert_eq!(input, expected_input(&shape, &pictures[0].1, &weight), "{height} by {width}");

            for (filter, got) in bias.iter().enumerate() {
                let of = |values: &[f32]| -> f32 {
                    values.chunks_exact(rows * columns).nth(filter).expect("a plane per filter").iter().sum()
                };
                assert_eq!(*got, 2.0 * of(&pictures[0].1) + of(&pictures[1].1));
            }
        }
    }
}
