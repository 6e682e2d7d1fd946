//! Depthwise convolutions and their gradients, all as convolutions of planes: each channel of each picture by itself.
//!
//! With weights that change from step to step, ONNX Runtime falls back to a loop over groups that is ten to fifty times
//! slower than its kernel for fixed weights. That kernel works on values in which a block of channels lies side by side,
//! an internal layout with operators of its own; they are used here directly where the engine has them.

use crate::{
    graph::{Builder, Value},
    layer::Window,
    onnx::{BATCH, int, ints},
};

/// Domain of ONNX Runtime's operators on blocks of channels.
pub const BLOCKED: &str = "com.microsoft.nchwc";

/// The planes of one depthwise layer: `channels · n` of them.
pub(super) struct Planes {
    channels: i64,
    n: i64,
    input: [i64; 2],
    output: [i64; 2],
    kernel: i64,
    stride: i64,
    window: Window,
    block: i64,
}

impl Planes {
    /// Those of a layer over `[channels, height, width]`.
    pub fn new(input: &[i64], n: i64, kernel: i64, stride: i64, block: i64) -> Self {
        let side = [input[1], input[2]];
        let output = side.map(|side| (side + stride - 1) / stride);
        let window = Window::of(input, kernel, stride);
        let block = if input[0] * n % block == 0 { block } else { 1 };
        Self { channels: input[0], n, input: side, output, kernel, stride, window, block }
    }

    fn count(&self) -> i64 {
        self.channels * self.n
    }

    /// The layer's output without its bias.
    ///
    /// # Shapes
    /// - `x`: `[channels, n, height, width]`
    /// - `weight`: `[channels, 1, kernel, kernel]`
    /// - result: `[channels, n, out height, out width]`
    pub fn forward(&self, graph: &mut Builder, x: &Value, weight: &Value) -> Value {
        let x = graph.reshape(x, &[1, self.count(), self.input[0], self.input[1]]);
        let kernels = self.kernels(graph, weight);
        let y = self.convolve(graph, &x, &kernels, self.window, [self.stride, 1]);
        graph.reshape(&y, &[self.channels, self.n, self.output[0], self.output[1]])
    }

    /// The gradient of the input: the output's, spread out by the stride, under the kernel turned by half a turn.
    ///
    /// # Shapes
    /// - `gradient`: `[channels, n, out height, out width]`
    /// - result: `[channels, n, height, width]`
    pub fn input_gradient(&self, graph: &mut Builder, gradient: &Value, weight: &Value) -> Value {
        let taps = self.kernel * self.kernel;
        let turned = graph.reshape(weight, &[self.channels, taps]);
        let backwards: Vec<i64> = (0..taps).rev().collect();
        let backwards = graph.ints(&backwards);
        let turned = graph.op("Gather", &[&turned, &backwards], vec![int("axis", 1)]);
        let kernels = self.kernels(graph, &turned);

        let [height, width] = self.output;
        let gap = self.stride - 1;
        let spread = if gap == 0 {
            graph.reshape(gradient, &[1, self.count(), height, width])
        } else {
            let apart = graph.reshape(gradient, &[self.count(), height, 1, width, 1]);
            let apart = graph.pad(&apart, &[0, 0, 0, 0, 0, 0, 0, gap, 0, gap]);
            graph.reshape(&apart, &[1, self.count(), height * self.stride, width * self.stride])
        };
        let before = self.window.before.map(|before| self.kernel - 1 - before);
        let after = [0, 1].map(|axis| self.input[axis] - self.output[axis] * self.stride + self.window.before[axis]);
        let window = Window { kernel: [self.kernel; 2], before, after };
        let x = self.convolve(graph, &spread, &kernels, window, [1, 1]);
        graph.reshape(&x, &[self.channels, self.n, self.input[0], self.input[1]])
    }

    /// The gradient of the weights: each plane of the input under the plane of the output's gradient as kernel, summed
    /// over pictures.
    ///
    /// # Shapes
    /// - `x`: `[channels, n, height, width]`
    /// - `gradient`: `[channels, n, out height, out width]`
    /// - result: `[channels, 1, kernel, kernel]`
    pub fn weight_gradient(&self, graph: &mut Builder, x: &Value, gradient: &Value) -> Value {
        let x = graph.reshape(x, &[1, self.count(), self.input[0], self.input[1]]);
        let kernels = graph.reshape(gradient, &[1, self.count(), self.output[0], self.output[1]]);
        let kernels = self.blocked_kernels(graph, &kernels, self.output);
        let window = Window { kernel: self.output, ..self.window };
        let taps = self.convolve(graph, &x, &kernels, window, [1, self.stride]);
        let taps = graph.reshape(&taps, &[self.channels, self.n, self.kernel, self.kernel]);
        graph.sum_keeping(&taps, &[1])
    }

    /// One kernel for each plane out of one for each channel.
    fn kernels(&self, graph: &mut Builder, weight: &Value) -> Value {
        let [channels, taps] = [self.channels, self.kernel * self.kernel];
        let weight = graph.reshape(weight, &[channels, 1, taps]);
        let dims = graph.ints(&[channels, self.n, taps]);
        let each = graph.op("Expand", &[&weight, &dims], vec![]);
        let planes = graph.reshape(&each, &[1, self.count(), self.kernel, self.kernel]);
        self.blocked_kernels(graph, &planes, [self.kernel; 2])
    }

    /// Brings `[1, planes, height, width]` into the form in which [`Self::convolve`] takes kernels.
    fn blocked_kernels(&self, graph: &mut Builder, planes: &Value, side: [i64; 2]) -> Value {
        let dims = [self.count(), 1, side[0], side[1]];
        if self.block == 1 {
            return graph.reshape(planes, &dims);
        }
        let taps = side[0] * side[1];
        let blocks = graph.reshape(planes, &[self.count() / self.block, self.block, taps]);
        let beside = graph.transpose(&blocks, &[0, 2, 1]);
        graph.reshape(&beside, &dims)
    }

    /// Each plane under its own kernel.
    ///
    /// # Shapes
    /// - `x`: `[1, planes, height, width]`
    /// - result: `[1, planes, …]`
    fn convolve(&self, graph: &mut Builder, x: &Value, kernels: &Value, window: Window, pace: [i64; 2]) -> Value {
        let [stride, dilation] = pace;
        let mut attributes = window.attributes(stride, self.count());
        attributes.push(ints("dilations", &[dilation, dilation]));
        if self.block == 1 {
            return graph.op("Conv", &[x, kernels], attributes);
        }
        let x = graph.op_of(BLOCKED, "ReorderInput", &[x], vec![]);
        let y = graph.op_of(BLOCKED, "Conv", &[&x, kernels], attributes);
        graph.op_of(BLOCKED, "ReorderOutput", &[&y], vec![int("channels", self.count())])
    }
}

/// The graph that shows how many channels the engine puts side by side: two pixels of many channels, reordered.
///
/// The place of the second pixel of the first channel in the output `probe` is the number.
pub fn probe() -> Vec<u8> {
    let mut graph = Builder::new();
    let x = graph.input("planes", crate::onnx::Element::F32, &[1, PROBED_CHANNELS, 1, 2]);
    let y = graph.op_of(BLOCKED, "ReorderInput", &[&x], vec![]);
    let flat = graph.reshape(&y, &[BATCH]);
    graph.output("probe", &flat, crate::onnx::Element::F32, &[2 * PROBED_CHANNELS]);
    graph.finish("probe", &[])
}

/// Channels in the [`probe`]: a multiple of every block in use.
pub const PROBED_CHANNELS: i64 = 64;
