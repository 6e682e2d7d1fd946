//! Depthwise convolutions and their gradients, with channels last: what many channels do lies side by side, and is done at
//! once. With weights that change from step to step ONNX Runtime loops over the channels, ten to fifty times as slow.

use std::ops::Range;

use multiversion::multiversion;
use ort::{
    Result,
    operator::{ComputeContext, Kernel, KernelContext},
};

use super::{
    Parts, fill, four, of_the_same, output, value,
    window::{Meetings, SIDES, Window, ints},
};

/// A depthwise convolution, padded so that a side of `n` becomes `⌈n / stride⌉`.
///
/// # Attributes
/// [`KERNEL`](super::KERNEL), [`STRIDE`](super::STRIDE), [`PADDING`](super::PADDING)
///
/// # Shapes
/// - inputs: `[n, h, w, c]`; weights `[c, 1, kernel, kernel]`; offsets `[c]`
/// - output: `[n, oh, ow, c]`
pub const DEPTHWISE: &str = "Depthwise";

/// The gradient of what went in.
///
/// # Attributes
/// those of the convolution; [`SIDES`](super::SIDES)
///
/// # Shapes
/// - inputs: the gradient of what came out `[n, oh, ow, c]`; weights `[c, 1, kernel, kernel]`
/// - output: `[n, h, w, c]`
pub const DEPTHWISE_INPUT_GRADIENT: &str = "DepthwiseInputGradient";

/// The gradients of weights and offsets.
///
/// # Attributes
/// those of the convolution
///
/// # Shapes
/// - inputs: what went in `[n, h, w, c]`; the gradient of what came out `[n, oh, ow, c]`
/// - outputs: of the weights `[c, 1, kernel, kernel]`; of the offsets `[c]`
pub const DEPTHWISE_WEIGHT_GRADIENT: &str = "DepthwiseWeightGradient";

/// Channels that are worked on at once: as many as a processor's registers hold of them.
const LANES: usize = 32;
/// The same where fewer are left.
const FEW_LANES: usize = 8;

pub struct Forward {
    window: Window,
    weight: Vec<f32>,
}

impl Forward {
    pub fn new(context: &KernelContext) -> Result<Self> {
        Ok(Self { window: Window::of(context)?, weight: vec![] })
    }
}

impl Kernel for Forward {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let (x, weight, bias) = (value(context, 0)?, value(context, 1)?, value(context, 2)?);
        let ((dims, x), (_, weight)) = (x.try_extract_tensor::<f32>()?, weight.try_extract_tensor::<f32>()?);
        let (_, bias) = bias.try_extract_tensor::<f32>()?;
        let [n, height, width, channels] = four(dims)?;
        let [rows, columns] = [height, width].map(|side| side.div_ceil(self.window.stride));
        pack(weight, channels, self.window.kernel, &mut self.weight);
        let sum = Sum {
            channels,
            kernel: self.window.kernel,
            width,
            down: self.window.looks(0, height, rows),
            across: self.window.looks(1, width, columns),
            weight: &self.weight,
            bias: Some(bias),
        };
        sum.run(context, x, [n, rows, columns, channels])
    }
}

pub struct InputGradient {
    window: Window,
    sides: [usize; 2],
    weight: Vec<f32>,
}

impl InputGradient {
    pub fn new(context: &KernelContext) -> Result<Self> {
        Ok(Self { window: Window::of(context)?, sides: ints(context, SIDES)?, weight: vec![] })
    }
}

impl Kernel for InputGradient {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let (gradient, weight) = (value(context, 0)?, value(context, 1)?);
        let ((dims, gradient), (_, weight)) =
            (gradient.try_extract_tensor::<f32>()?, weight.try_extract_tensor::<f32>()?);
        let ([n, rows, columns, channels], [height, width]) = (four(dims)?, self.sides);
        pack(weight, channels, self.window.kernel, &mut self.weight);
        let sum = Sum {
            channels,
            kernel: self.window.kernel,
            width: columns,
            down: self.window.seen(0, height, rows),
            across: self.window.seen(1, width, columns),
            weight: &self.weight,
            bias: None,
        };
        sum.run(context, gradient, [n, height, width, channels])
    }
}

/// Targets, each of which is a sum over what it meets, weighted by where in the kernel they meet.
struct Sum<'a> {
    channels: usize,
    kernel: usize,
    /// Width of what is met.
    width: usize,
    down: Meetings,
    across: Meetings,
    /// See [`pack`].
    weight: &'a [f32],
    /// What each sum begins with: `[channels]`; zero where there is none.
    bias: Option<&'a [f32]>,
}

impl Sum<'_> {
    fn run(&self, context: &ComputeContext, source: &[f32], dims: [usize; 4]) -> Result<()> {
        let [n, rows, columns, channels] = dims;
        let mut target = output(context, 0, &dims.map(|size| size as i64))?;
        let (_, target) = target.try_extract_tensor_mut::<f32>()?;
        let each = source.len() / n;
        fill(context, target, rows * columns * channels, |first, target| {
            let pictures = source[first * each..].chunks_exact(each);
            for (source, target) in pictures.zip(target.chunks_exact_mut(rows * columns * channels)) {
                add_up(self, source, target);
            }
        })
    }
}

/// Works out the targets of one picture.
///
/// # Shapes
/// - `source`: `[…, width, channels]`
/// - `target`: `[down, across, channels]`
#[multiversion(targets("x86_64+avx2"))]
fn add_up(sum: &Sum, source: &[f32], target: &mut [f32]) {
    for (first, lanes) in blocks(sum.channels) {
        match lanes {
            LANES => sum.block::<LANES>(first, source, target),
            FEW_LANES => sum.block::<FEW_LANES>(first, source, target),
            _ => sum.block::<1>(first, source, target),
        }
    }
}

impl Sum<'_> {
    #[inline(always)]
    fn block<const N: usize>(&self, first: usize, source: &[f32], target: &mut [f32]) {
        let places = self.kernel * self.kernel;
        let (weight, _) = self.weight[first * places..][..N * places].as_chunks::<N>();
        let bias = self.bias.map_or([0.0; N], |bias| *lanes(bias, first));
        let mut targets = target.chunks_exact_mut(self.channels);
        for down in &self.down {
            for (across, target) in self.across.iter().zip(&mut targets) {
                let mut sum = bias;
                for &(row, y) in down {
                    for &(column, x) in across {
                        let source = lanes::<N>(source, (y * self.width + x) * self.channels + first);
                        let weight = &weight[row * self.kernel + column];
                        for lane in 0..N {
                            sum[lane] += source[lane] * weight[lane];
                        }
                    }
                }
                target[first..first + N].copy_from_slice(&sum);
            }
        }
    }
}

pub struct WeightGradient {
    window: Window,
    parts: Parts<Part>,
}

/// What some of the pictures come to.
#[derive(Default)]
struct Part {
    /// As [`pack`] has them.
    weight: Vec<f32>,
    /// `[channels]`.
    bias: Vec<f32>,
    /// Of some channels, what went in: `[height, width, lanes]`.
    x: Vec<f32>,
    /// Of the same, the gradient of what came out: `[rows, columns, lanes]`.
    gradient: Vec<f32>,
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
        let [[n, height, width, channels], [_, rows, columns, _]] = of_the_same(x_dims, dims)?;
        let (sides, outputs) = ([height, width], [rows, columns]);
        let through = |axis: usize| {
            let place = |place| self.window.through(axis, place, sides[axis], outputs[axis]);
            (0..self.window.kernel).map(place).collect()
        };
        let (down, across) = (through(0), through(1));
        let products = Products { window: self.window, channels, sides, outputs, down, across };
        let x = x.chunks_exact(height * width * channels);
        let gradient = gradient.chunks_exact(rows * columns * channels);
        let sums = self.parts.sum(
            context,
            n,
            |part, pictures| {
                part.start(&products);
                for (x, gradient) in x.clone().zip(gradient.clone()).take(pictures.end).skip(pictures.start) {
                    multiply(&products, x, gradient, part);
                }
            },
            Part::add,
        )?;

        let kernel = self.window.kernel;
        let mut weight = output(context, 0, &[channels as i64, 1, kernel as i64, kernel as i64])?;
        let mut bias = output(context, 1, &[channels as i64])?;
        let ((_, weight), (_, bias)) = (weight.try_extract_tensor_mut::<f32>()?, bias.try_extract_tensor_mut::<f32>()?);
        bias.copy_from_slice(&sums.bias);
        unpack(&sums.weight, channels, kernel, weight);
        Ok(())
    }
}

impl Part {
    fn start(&mut self, products: &Products) {
        let Products { window, channels, .. } = products;
        for (sums, n) in [(&mut self.weight, channels * window.kernel * window.kernel), (&mut self.bias, *channels)] {
            sums.clear();
            sums.resize(n, 0.0);
        }
    }

    fn add(&mut self, other: &Self) {
        for (sums, others) in [(&mut self.weight, &other.weight), (&mut self.bias, &other.bias)] {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        }
    }
}

/// Sizes of what is multiplied and added up.
struct Products {
    window: Window,
    channels: usize,
    sides: [usize; 2],
    outputs: [usize; 2],
    /// The rows of outputs that look at something through each row of the kernel.
    down: Vec<Range<usize>>,
    /// The same of columns.
    across: Vec<Range<usize>>,
}

/// Adds one picture's gradients.
///
/// # Shapes
/// - `x`: `[height, width, channels]`
/// - `gradient`: `[rows, columns, channels]`
#[multiversion(targets("x86_64+avx2"))]
fn multiply(products: &Products, x: &[f32], gradient: &[f32], part: &mut Part) {
    for (first, lanes) in blocks(products.channels) {
        match lanes {
            LANES => products.block::<LANES>(first, x, gradient, part),
            FEW_LANES => products.block::<FEW_LANES>(first, x, gradient, part),
            _ => products.block::<1>(first, x, gradient, part),
        }
    }
}

impl Products {
    #[inline(always)]
    fn block<const N: usize>(&self, first: usize, x: &[f32], gradient: &[f32], part: &mut Part) {
        let Window { kernel, stride, padding: [above, left] } = self.window;
        // Side by side, or the cache has no room for them: each is needed once for every place in the kernel.
        let [x, gradient] = [(&mut part.x, x), (&mut part.gradient, gradient)].map(|(near, far)| {
            near.clear();
            far.chunks_exact(self.channels).for_each(|pixel| near.extend_from_slice(lanes::<N>(pixel, first)));
            near.as_chunks::<N>().0
        });
        let (weight, _) = part.weight[first * kernel * kernel..][..N * kernel * kernel].as_chunks_mut::<N>();
        for (place, weight) in weight.iter_mut().enumerate() {
            let (down, right) = (place / kernel, place % kernel);
            let mut sum = *weight;
            for row in self.down[down].clone() {
                let y = row * stride + down - above;
                let (x, gradient) = (&x[y * self.sides[1]..], &gradient[row * self.outputs[1]..]);
                for column in self.across[right].clone() {
                    let (x, gradient) = (&x[column * stride + right - left], &gradient[column]);
                    for lane in 0..N {
                        sum[lane] += x[lane] * gradient[lane];
                    }
                }
            }
            *weight = sum;
        }
        let mut sum = *lanes::<N>(&part.bias, first);
        for gradient in gradient {
            for lane in 0..N {
                sum[lane] += gradient[lane];
            }
        }
        part.bias[first..first + N].copy_from_slice(&sum);
    }
}

/// The channels in blocks that are worked on at once: the first of each and how many.
fn blocks(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let lanes = [LANES, FEW_LANES, 1].into_iter().find(|&lanes| first + lanes <= channels)?;
        first += lanes;
        Some((first - lanes, lanes))
    })
}

/// Brings weights `[channels, 1, kernel, kernel]` into the order in which they are worked on: block by block, place by
/// place.
fn pack(weight: &[f32], channels: usize, kernel: usize, packed: &mut Vec<f32>) {
    packed.resize(weight.len(), 0.0);
    let places = kernel * kernel;
    for (first, lanes) in blocks(channels) {
        let block = first * places..(first + lanes) * places;
        turn(&weight[block.clone()], places, &mut packed[block]);
    }
}

/// The way back from [`pack`].
fn unpack(packed: &[f32], channels: usize, kernel: usize, weight: &mut [f32]) {
    let places = kernel * kernel;
    for (first, lanes) in blocks(channels) {
        let block = first * places..(first + lanes) * places;
        turn(&packed[block.clone()], lanes, &mut weight[block]);
    }
}

/// The transpose of a matrix with this many columns.
fn turn(matrix: &[f32], columns: usize, turned: &mut [f32]) {
    let rows = matrix.len() / columns;
    for (row, values) in matrix.chunks_exact(columns).enumerate() {
        for (column, value) in values.iter().enumerate() {
            turned[column * rows + row] = *value;
        }
    }
}

#[inline(always)]
fn lanes<const N: usize>(values: &[f32], first: usize) -> &[f32; N] {
    values[first..].first_chunk().expect("as many values as there are channels")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed) % 17) as f32 - 8.0).collect()
    }

    /// Calls with channel, place in the kernel, and the pixels of an output and an input that meet there.
    fn meetings(products: &Products, mut meet: impl FnMut(usize, usize, usize, usize)) {
        let Products { window: Window { kernel, stride, padding }, channels, sides, outputs, .. } = products;
        for channel in 0..*channels {
            for output in 0..outputs[0] * outputs[1] {
                for place in 0..kernel * kernel {
                    let y = (output / outputs[1] * stride + place / kernel).wrapping_sub(padding[0]);
                    let x = (output % outputs[1] * stride + place % kernel).wrapping_sub(padding[1]);
                    if y < sides[0] && x < sides[1] {
                        meet(channel, place, output, y * sides[1] + x);
                    }
                }
            }
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_the_definition() {
        // A whole block of channels, a small one, and one channel that is left over.
        let channels = LANES + FEW_LANES + 1;
        for (kernel, stride, padding, sides) in
            [(3, 1, [1, 1], [5, 4]), (5, 2, [1, 2], [6, 7]), (3, 2, [0, 1], [4, 5]), (5, 1, [2, 2], [1, 2])]
        {
            let window = Window { kernel, stride, padding };
            let outputs: [usize; 2] = sides.map(|side: usize| side.div_ceil(stride));
            let of = |n: [usize; 2]| n[0] * n[1] * channels;
            let (x, gradient) = (numbers(of(sides), 1), numbers(of(outputs), 2));
            let (weight, bias) = (numbers(channels * kernel * kernel, 3), numbers(channels, 4));
            let through = |axis: usize| {
                (0..kernel).map(|place| window.through(axis, place, sides[axis], outputs[axis])).collect()
            };
            let products = Products { window, channels, sides, outputs, down: through(0), across: through(1) };

            let mut expected: Vec<f32> = bias.iter().copied().cycle().take(of(outputs)).collect();
            let (mut input, mut weights) = (vec![0.0; of(sides)], vec![0.0; weight.len()]);
            meetings(&products, |channel, place, output, pixel| {
                let at = channel * kernel * kernel + place;
                expected[output * channels + channel] += x[pixel * channels + channel] * weight[at];
                input[pixel * channels + channel] += gradient[output * channels + channel] * weight[at];
                weights[at] += gradient[output * channels + channel] * x[pixel * channels + channel];
            });

            let mut packed = vec![];
            pack(&weight, channels, kernel, &mut packed);
            let mut forward = Sum {
                channels,
                kernel,
                width: sides[1],
                down: window.looks(0, sides[0], outputs[0]),
                across: window.looks(1, sides[1], outputs[1]),
                weight: &packed,
                bias: Some(&bias),
            };
            let mut got = vec![9.0; of(outputs)];
            add_up(&forward, &x, &mut got);
            assert_eq!(got, expected, "{window:?} over {sides:?}");

            forward = Sum {
                width: outputs[1],
                down: window.seen(0, sides[0], outputs[0]),
                across: window.seen(1, sides[1], outputs[1]),
                bias: None,
                ..forward
            };
            let mut got = vec![9.0; of(sides)];
            add_up(&forward, &gradient, &mut got);
            assert_eq!(got, input, "{window:?} over {sides:?}");

            // Twice in one part, once in another, both of which have been used before.
            let [mut sums, mut other] = [Part::default(), Part::default()];
            for part in [&mut sums, &mut other] {
                for _ in 0..2 {
                    part.start(&products);
                    multiply(&products, &x, &gradient, part);
                }
            }
            multiply(&products, &x, &gradient, &mut sums);
            sums.add(&other);
            let mut got = vec![9.0; weight.len()];
            unpack(&sums.weight, channels, kernel, &mut got);
            assert_eq!(got, weights.iter().map(|sum| 3.0 * sum).collect::<Vec<_>>(), "{window:?} over {sides:?}");
            for (channel, got) in sums.bias.iter().enumerate() {
                assert_eq!(*got, 3.0 * gradient.iter().skip(channel).step_by(channels).sum::<f32>());
            }
        }
    }
}
