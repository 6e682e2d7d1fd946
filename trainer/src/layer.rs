//! One step of a network: what it does to shapes, which parameters it has, and how it looks in a published graph.
//!
//! How layers are trained is `grad`'s business.

use crate::{
    graph::{Builder, Value},
    onnx::{Attribute, int, ints},
};

/// One step of a network. Shapes are per picture; convolutions pad as TensorFlow's "same" does, so that a side of `n`
/// becomes `⌈n / stride⌉`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// Convolution: `[c, h, w]` → `[filters, ⌈h/stride⌉, ⌈w/stride⌉]`.
    Conv {
        /// Output channels.
        filters: i64,
        /// Side of the kernel, odd.
        kernel: i64,
        /// Step between outputs.
        stride: i64,
    },
    /// Convolution with one filter per channel: `[c, h, w]` → `[c, ⌈h/stride⌉, ⌈w/stride⌉]`.
    Depthwise {
        /// Side of the kernel, odd and at least 3.
        kernel: i64,
        /// Step between outputs, 1 or 2.
        stride: i64,
    },
    /// `max(0, x)`.
    Relu,
    /// `min(max(0, x), 6)`.
    Relu6,
    /// Largest of every 2 × 2 values, an odd last row or column left out: `[c, h, w]` → `[c, h/2, w/2]`.
    MaxPool,
    /// Adds what came into the layer this many places before.
    Add {
        /// At least 1.
        back: usize,
    },
    /// Mean over height and width: `[c, h, w]` → `[c]`.
    GlobalAveragePool,
    /// In training, drops this share of values and scales the others up to keep the mean.
    Dropout {
        /// 0..1.
        rate: f64,
    },
    /// `[c, h, w]` → `[c·h·w]`.
    Flatten,
    /// `x · W + b`: `[n]` → `[units]`.
    Dense {
        /// Outputs.
        units: i64,
    },
}

impl Layer {
    /// Shape per picture of what goes out; nothing where the layer cannot take such an input.
    pub fn output(&self, input: &[i64]) -> Option<Vec<i64>> {
        Some(match (*self, input) {
            (Self::Conv { filters, kernel, stride }, &[_, height, width]) if kernel % 2 == 1 => {
                vec![filters, (height + stride - 1) / stride, (width + stride - 1) / stride]
            }
            (Self::Depthwise { kernel, stride: stride @ 1..=2 }, &[channels, height, width])
                if kernel % 2 == 1 && kernel >= 3 =>
            {
                vec![channels, (height + stride - 1) / stride, (width + stride - 1) / stride]
            }
            (Self::MaxPool, &[channels, height, width]) if height >= 2 && width >= 2 => {
                vec![channels, height / 2, width / 2]
            }
            (Self::GlobalAveragePool, &[channels, _, _]) => vec![channels],
            (Self::Flatten, dims) => vec![dims.iter().product()],
            (Self::Dense { units }, &[_]) => vec![units],
            (Self::Relu | Self::Relu6 | Self::Dropout { .. } | Self::Add { .. }, dims) => dims.to_vec(),
            _ => return None,
        })
    }

    /// Shapes of weight and bias, where the layer has them.
    pub fn parameters(&self, input: &[i64]) -> Option<[Vec<i64>; 2]> {
        Some(match *self {
            Self::Conv { filters, kernel, .. } => [vec![filters, input[0], kernel, kernel], vec![filters]],
            Self::Depthwise { kernel, .. } => [vec![input[0], 1, kernel, kernel], vec![input[0]]],
            Self::Dense { units } => [vec![input[0], units], vec![units]],
            _ => return None,
        })
    }
}

/// A layer in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// What it does.
    pub layer: Layer,
    /// Unique in the graph; parameters are called `<name>.weight` and `<name>.bias`.
    pub name: String,
    /// Shape of what comes in, per picture.
    pub input: Vec<i64>,
    /// Shape of what goes out, per picture.
    pub output: Vec<i64>,
}

impl Placed {
    /// Name of the weights in the graph.
    pub fn weight(&self) -> Value {
        Value::named(format!("{}.weight", self.name))
    }

    /// Name of the offsets in the graph.
    pub fn bias(&self) -> Value {
        Value::named(format!("{}.bias", self.name))
    }

    /// Name of the dropout mask that training feeds in.
    pub fn mask(&self) -> String {
        format!("{}.mask", self.name)
    }

    /// Multiply-adds for one picture; what has no weights counts nothing.
    pub fn multiply_adds(&self) -> u64 {
        let outputs = self.output.iter().product::<i64>();
        let each = match self.layer {
            Layer::Conv { kernel, .. } => self.input[0] * kernel * kernel,
            Layer::Depthwise { kernel, .. } => kernel * kernel,
            Layer::Dense { .. } => self.input[0],
            _ => 0,
        };
        (outputs * each).unsigned_abs()
    }

    /// Appends the layer as it is used after training; parameters are referred to by name.
    ///
    /// `back` gives what came into the layer that many places before.
    pub fn append(&self, graph: &mut Builder, x: &Value, back: impl Fn(usize) -> Value) -> Value {
        match self.layer {
            Layer::Conv { kernel, stride, .. } => {
                let attributes = Window::of(&self.input, kernel, stride).attributes(stride, 1);
                graph.op("Conv", &[x, &self.weight(), &self.bias()], attributes)
            }
            Layer::Depthwise { kernel, stride } => {
                let attributes = Window::of(&self.input, kernel, stride).attributes(stride, self.input[0]);
                graph.op("Conv", &[x, &self.weight(), &self.bias()], attributes)
            }
            Layer::Relu => graph.op("Relu", &[x], vec![]),
            Layer::Relu6 => graph.clip(x, 0.0, 6.0),
            Layer::MaxPool => graph.op("MaxPool", &[x], vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]),
            Layer::Add { back: places } => graph.add(x, &back(places)),
            Layer::GlobalAveragePool => {
                let pooled = graph.op("GlobalAveragePool", &[x], vec![]);
                graph.op("Flatten", &[&pooled], vec![int("axis", 1)])
            }
            Layer::Dropout { .. } => x.clone(),
            Layer::Flatten => graph.op("Flatten", &[x], vec![int("axis", 1)]),
            Layer::Dense { .. } => graph.op("Gemm", &[x, &self.weight(), &self.bias()], vec![]),
        }
    }
}

/// Where a kernel looks: its side, and the padding in front of and behind height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Height and width of the kernel.
    pub kernel: [i64; 2],
    /// Zeros above and left of the picture.
    pub before: [i64; 2],
    /// Zeros below and right of it.
    pub after: [i64; 2],
}

impl Window {
    /// The window of a "same" convolution over `[channels, height, width]`.
    pub fn of(input: &[i64], kernel: i64, stride: i64) -> Self {
        let padding = [input[1], input[2]].map(|side| {
            let out = (side + stride - 1) / stride;
            ((out - 1) * stride + kernel - side).max(0)
        });
        let before = padding.map(|p| p / 2);
        Self { kernel: [kernel; 2], before, after: [padding[0] - before[0], padding[1] - before[1]] }
    }

    /// Attributes of a convolution through this window.
    pub fn attributes(&self, stride: i64, groups: i64) -> Vec<Attribute> {
        let mut attributes = vec![
            ints("kernel_shape", &self.kernel),
            ints("strides", &[stride, stride]),
            ints("pads", &[self.before[0], self.before[1], self.after[0], self.after[1]]),
        ];
        if groups > 1 {
            attributes.push(int("group", groups));
        }
        attributes
    }
}
