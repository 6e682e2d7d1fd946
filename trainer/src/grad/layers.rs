//! The chain rule, layer by layer.
//!
//! Values with channels in front (`[c, n, h, w]`) make one plain product of matrices of every pointwise convolution and
//! of its gradients; other operators want pictures in front. Each value says how it lies, and is turned only when a layer
//! needs it the other way.

use super::{StepKind, depthwise::Planes};
use crate::{
    graph::{Builder, Value},
    layer::Window,
    model::{Layer, Placed},
    onnx::{BATCH, Element, int, ints},
    operators::{CONVOLUTION_WEIGHT_GRADIENT, DOMAIN, KERNEL, MAX_POOL_GRADIENT, PADDING, STRIDE},
};

/// Which axis comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// `[n, …]`.
    PicturesFirst,
    /// `[c, n, h, w]`.
    ChannelsFirst,
}

/// A value and how it lies.
#[derive(Clone, Debug)]
pub(super) struct Laid {
    value: Value,
    order: Order,
}

impl Laid {
    /// A value with pictures in front.
    pub fn new(value: Value) -> Self {
        Self { value, order: Order::PicturesFirst }
    }

    fn channels_first(value: Value) -> Self {
        Self { value, order: Order::ChannelsFirst }
    }

    /// The value in this order.
    pub fn into_order(self, graph: &mut Builder, order: Order) -> Value {
        if self.order == order { self.value } else { graph.transpose(&self.value, &[1, 0, 2, 3]) }
    }

    fn in_order(&self, graph: &mut Builder, order: Order) -> Value {
        self.clone().into_order(graph, order)
    }

    /// The sum, in this value's order.
    pub fn plus(self, graph: &mut Builder, other: Self) -> Self {
        let order = self.order;
        let other = other.into_order(graph, order);
        Self { value: graph.add(&self.value, &other), order }
    }
}

/// What the way back needs to remember of the way forward.
pub(super) struct Saved {
    input: Laid,
    pub output: Laid,
}

/// Appends a layer; `inputs` are what came into it and into all layers before.
pub(super) fn forward(
    graph: &mut Builder,
    placed: &Placed,
    inputs: &[Laid],
    n: i64,
    block: i64,
    trains: bool,
) -> Saved {
    let input = inputs.last().expect("a layer has an input").clone();
    let same = |value: Value| Laid { value, order: input.order };
    let output = match placed.layer {
        Layer::Conv { kernel: 1, stride: 1, filters } => {
            let x = input.in_order(graph, Order::ChannelsFirst);
            let x = graph.reshape(&x, &[placed.input[0], BATCH]);
            let weight = graph.reshape(&placed.weight(), &[filters, placed.input[0]]);
            let product = graph.matmul(&weight, &x);
            let bias = graph.reshape(&placed.bias(), &[filters, 1]);
            let sum = graph.add(&product, &bias);
            Laid::channels_first(graph.reshape(&sum, &channels_first_dims(&placed.output, n)))
        }
        Layer::Depthwise { kernel, stride } => {
            let x = input.in_order(graph, Order::ChannelsFirst);
            let planes = Planes::new(&placed.input, n, kernel, stride, block);
            let y = planes.forward(graph, &x, &placed.weight());
            let bias = graph.reshape(&placed.bias(), &[placed.input[0], 1, 1, 1]);
            Laid::channels_first(graph.add(&y, &bias))
        }
        Layer::Relu6 | Layer::Relu => same(placed.append(graph, &input.value, |_| input.value.clone())),
        Layer::Add { back } => input.clone().plus(graph, inputs[inputs.len() - 1 - back].clone()),
        Layer::GlobalAveragePool => {
            let x = input.in_order(graph, Order::ChannelsFirst);
            let mean = graph.op("ReduceMean", &[&x], vec![ints("axes", &[2, 3]), int("keepdims", 0)]);
            Laid::new(graph.transpose(&mean, &[1, 0]))
        }
        Layer::Dropout { .. } if trains => {
            let x = input.in_order(graph, Order::PicturesFirst);
            let dims: Vec<i64> = [&[n], placed.input.as_slice()].concat();
            let mask = graph.input(&placed.mask(), Element::F32, &dims);
            Laid::new(graph.mul(&x, &mask))
        }
        Layer::Dropout { .. } => input.clone(),
        Layer::Conv { .. } | Layer::MaxPool | Layer::Flatten | Layer::Dense { .. } => {
            let x = input.in_order(graph, Order::PicturesFirst);
            Laid::new(placed.append(graph, &x, |_| x.clone()))
        }
    };
    Saved { input, output }
}

/// `[c, h, w]` → `[c, n, h, w]`.
fn channels_first_dims(dims: &[i64], n: i64) -> [i64; 4] {
    [dims[0], n, dims[1], dims[2]]
}

/// What one layer contributes on the way back.
pub(super) struct Backward {
    /// Gradients of the layer's weight and bias, if it has any.
    pub parameters: Vec<Value>,
    /// Gradients of what came into the layer (0) and into layers this many places before.
    pub inputs: Vec<(usize, Laid)>,
}

impl Backward {
    fn input(gradient: Laid) -> Self {
        Self { parameters: vec![], inputs: vec![(0, gradient)] }
    }
}

/// The chain rule for one layer: from the gradient of its output to those of its parameters and inputs.
pub(super) fn backward(
    graph: &mut Builder,
    placed: &Placed,
    saved: &Saved,
    gradient: Laid,
    wants_input: bool,
    kind: StepKind,
) -> Backward {
    let x = &saved.input;
    match placed.layer {
        Layer::Dense { .. } => {
            let x = x.in_order(graph, Order::PicturesFirst);
            let gradient = gradient.into_order(graph, Order::PicturesFirst);
            let weight = graph.op("Gemm", &[&x, &gradient], vec![int("transA", 1)]);
            let bias = graph.sum(&gradient, &[0]);
            let input = wants_input
                .then(|| Laid::new(graph.op("Gemm", &[&gradient, &placed.weight()], vec![int("transB", 1)])));
            Backward { parameters: vec![weight, bias], inputs: input.map(|g| (0, g)).into_iter().collect() }
        }
        Layer::Conv { kernel: 1, stride: 1, .. } => pointwise(graph, placed, x, gradient, wants_input, kind.n),
        Layer::Conv { kernel, stride, .. } => {
            let x = x.in_order(graph, Order::PicturesFirst);
            let gradient = gradient.into_order(graph, Order::PicturesFirst);
            let parameters = conv_parameter_gradients(graph, placed, &x, &gradient, kernel, stride);
            let input = wants_input.then(|| Laid::new(conv_input_gradient(graph, placed, &gradient, kernel, stride)));
            Backward { parameters: parameters.into(), inputs: input.map(|g| (0, g)).into_iter().collect() }
        }
        Layer::Depthwise { kernel, stride } => {
            let x = x.in_order(graph, Order::ChannelsFirst);
            let gradient = gradient.into_order(graph, Order::ChannelsFirst);
            let planes = Planes::new(&placed.input, kind.n, kernel, stride, kind.block);
            let weight = planes.weight_gradient(graph, &x, &gradient);
            let bias = graph.sum(&gradient, &[1, 2, 3]);
            let input =
                wants_input.then(|| Laid::channels_first(planes.input_gradient(graph, &gradient, &placed.weight())));
            Backward { parameters: vec![weight, bias], inputs: input.map(|g| (0, g)).into_iter().collect() }
        }
        Layer::Relu | Layer::Relu6 => {
            let Laid { value: output, order } = &saved.output;
            let gradient = gradient.into_order(graph, *order);
            let zero = graph.scalar(0.0);
            let mut open = graph.op("Greater", &[output, &zero], vec![]);
            if placed.layer == Layer::Relu6 {
                let six = graph.scalar(6.0);
                let below = graph.op("Less", &[output, &six], vec![]);
                open = graph.op("And", &[&open, &below], vec![]);
            }
            // A product is nine times as fast as a choice there.
            let open = graph.cast(&open, Element::F32);
            let gradient = graph.mul(&gradient, &open);
            Backward::input(Laid { value: gradient, order: *order })
        }
        Layer::Add { back } => Backward { parameters: vec![], inputs: vec![(0, gradient.clone()), (back, gradient)] },
        Layer::GlobalAveragePool => {
            let (height, width) = (placed.input[1], placed.input[2]);
            let share = graph.scalar(1.0 / (height * width) as f32);
            let gradient = graph.mul(&gradient.value, &share);
            let gradient = graph.transpose(&gradient, &[1, 0]);
            let gradient = graph.reshape(&gradient, &[placed.input[0], kind.n, 1, 1]);
            let dims = graph.ints(&channels_first_dims(&placed.input, kind.n));
            Backward::input(Laid::channels_first(graph.op("Expand", &[&gradient, &dims], vec![])))
        }
        Layer::MaxPool => {
            let x = x.in_order(graph, Order::PicturesFirst);
            let gradient = gradient.into_order(graph, Order::PicturesFirst);
            Backward::input(Laid::new(graph.op_of(DOMAIN, MAX_POOL_GRADIENT, &[&x, &gradient], vec![])))
        }
        Layer::Dropout { .. } => {
            let gradient = gradient.into_order(graph, Order::PicturesFirst);
            Backward::input(Laid::new(graph.mul(&gradient, &Value::named(placed.mask()))))
        }
        Layer::Flatten => {
            let dims: Vec<i64> = [&[kind.n], placed.input.as_slice()].concat();
            Backward::input(Laid::new(graph.reshape(&gradient.value, &dims)))
        }
    }
}

/// Gradients of a convolution that looks at one pixel: products of matrices.
fn pointwise(graph: &mut Builder, placed: &Placed, x: &Laid, gradient: Laid, wants_input: bool, n: i64) -> Backward {
    let (channels, filters) = (placed.input[0], placed.output[0]);
    let x = x.in_order(graph, Order::ChannelsFirst);
    let x = graph.reshape(&x, &[channels, BATCH]);
    let gradient = gradient.into_order(graph, Order::ChannelsFirst);
    let gradient = graph.reshape(&gradient, &[filters, BATCH]);
    let weight = graph.op("Gemm", &[&gradient, &x], vec![int("transB", 1)]);
    let weight = graph.reshape(&weight, &[filters, channels, 1, 1]);
    let bias = graph.sum(&gradient, &[1]);
    let inputs = wants_input.then(|| {
        let matrix = graph.reshape(&placed.weight(), &[filters, channels]);
        let input = graph.op("Gemm", &[&matrix, &gradient], vec![int("transA", 1)]);
        (0, Laid::channels_first(graph.reshape(&input, &channels_first_dims(&placed.input, n))))
    });
    Backward { parameters: vec![weight, bias], inputs: inputs.into_iter().collect() }
}

/// Gradient of a convolution's input.
fn conv_input_gradient(graph: &mut Builder, placed: &Placed, gradient: &Value, kernel: i64, stride: i64) -> Value {
    let window = Window::of(&placed.input, kernel, stride);
    if stride == 1 {
        // The same as below, as a convolution with the kernels turned by half a turn, which is faster.
        let turned = graph.half_turn(&placed.weight());
        let turned = graph.transpose(&turned, &[1, 0, 2, 3]);
        let beyond = |padding: [i64; 2]| padding.map(|zeros| kernel - 1 - zeros);
        let window = Window { before: beyond(window.before), after: beyond(window.after), ..window };
        return graph.op("Conv", &[gradient, &turned], window.attributes(1, 1));
    }
    let mut attributes = window.attributes(stride, 1);
    // Rows and columns at the end that no output looked at.
    let left = [0, 1].map(|axis| {
        let padding = window.before[axis] + window.after[axis];
        placed.input[axis + 1] - ((placed.output[axis + 1] - 1) * stride + kernel - padding)
    });
    attributes.push(ints("output_padding", &left));
    graph.op("ConvTranspose", &[gradient, &placed.weight()], attributes)
}

/// Gradients of a convolution's weights and offsets.
fn conv_parameter_gradients(
    graph: &mut Builder,
    placed: &Placed,
    x: &Value,
    gradient: &Value,
    kernel: i64,
    stride: i64,
) -> [Value; 2] {
    let window = Window::of(&placed.input, kernel, stride);
    let attributes = vec![int(KERNEL, kernel), int(STRIDE, stride), ints(PADDING, &window.before)];
    graph.ops_of(DOMAIN, CONVOLUTION_WEIGHT_GRADIENT, &[x, gradient], attributes)
}
