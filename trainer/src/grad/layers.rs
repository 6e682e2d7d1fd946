//! The chain rule, layer by layer.
//!
//! Values with channels last (`[n, h, w, c]`) make one plain product of matrices of every pointwise convolution and of its
//! gradients, and let a depthwise one work on many channels at once; other operators want channels before height and width.
//! Each value says how it lies, and is turned only when a layer needs it the other way.

use super::StepKind;
use crate::{
    graph::{Builder, Value},
    layer::Window,
    model::{Layer, Placed},
    onnx::{Attribute, BATCH, Element, float, int, ints},
    operators::{
        CONVOLUTION_INPUT_GRADIENT, CONVOLUTION_WEIGHT_GRADIENT, DEPTHWISE, DEPTHWISE_INPUT_GRADIENT,
        DEPTHWISE_WEIGHT_GRADIENT, DOMAIN, KERNEL, MAX_POOL, MAX_POOL_GRADIENT, MOST, PADDING, RELU_GRADIENT, SIDES,
        STRIDE,
    },
};

/// How the axes are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// `[n, c, h, w]`, or `[n, c]`.
    ChannelsFirst,
    /// `[n, h, w, c]`.
    ChannelsLast,
}

/// A value and how it lies.
#[derive(Clone, Debug)]
pub(super) struct Laid {
    value: Value,
    order: Order,
}

impl Laid {
    /// A value with channels first.
    pub fn new(value: Value) -> Self {
        Self { value, order: Order::ChannelsFirst }
    }

    fn channels_last(value: Value) -> Self {
        Self { value, order: Order::ChannelsLast }
    }

    /// The value in this order.
    pub fn into_order(self, graph: &mut Builder, order: Order) -> Value {
        match (self.order, order) {
            (Order::ChannelsFirst, Order::ChannelsLast) => graph.transpose(&self.value, &[0, 2, 3, 1]),
            (Order::ChannelsLast, Order::ChannelsFirst) => graph.transpose(&self.value, &[0, 3, 1, 2]),
            _ => self.value,
        }
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
pub(super) fn forward(graph: &mut Builder, placed: &Placed, inputs: &[Laid], n: i64, trains: bool) -> Saved {
    let input = inputs.last().expect("a layer has an input").clone();
    let same = |value: Value| Laid { value, order: input.order };
    let output = match placed.layer {
        Layer::Conv { kernel: 1, stride: 1, filters } => {
            let x = input.in_order(graph, Order::ChannelsLast);
            let x = graph.reshape(&x, &[BATCH, placed.input[0]]);
            let weight = graph.reshape(&placed.weight(), &[filters, placed.input[0]]);
            let product = graph.op("Gemm", &[&x, &weight, &placed.bias()], vec![int("transB", 1)]);
            Laid::channels_last(graph.reshape(&product, &channels_last_dims(&placed.output, n)))
        }
        Layer::Depthwise { kernel, stride } => {
            let x = input.in_order(graph, Order::ChannelsLast);
            let attributes = window(placed, kernel, stride);
            let values = [&x, &placed.weight(), &placed.bias()];
            Laid::channels_last(graph.op_of(DOMAIN, DEPTHWISE, &values, attributes))
        }
        Layer::Relu6 | Layer::Relu => same(placed.append(graph, &input.value, |_| input.value.clone())),
        Layer::Add { back } => input.clone().plus(graph, inputs[inputs.len() - 1 - back].clone()),
        Layer::GlobalAveragePool => {
            let x = input.in_order(graph, Order::ChannelsLast);
            Laid::new(graph.op("ReduceMean", &[&x], vec![ints("axes", &[1, 2]), int("keepdims", 0)]))
        }
        Layer::Dropout { .. } if trains => {
            let x = input.in_order(graph, Order::ChannelsFirst);
            let dims: Vec<i64> = [&[n], placed.input.as_slice()].concat();
            let mask = graph.input(&placed.mask(), Element::F32, &dims);
            Laid::new(graph.mul(&x, &mask))
        }
        Layer::Dropout { .. } => input.clone(),
        Layer::MaxPool => {
            let x = input.in_order(graph, Order::ChannelsFirst);
            Laid::new(graph.op_of(DOMAIN, MAX_POOL, &[&x], vec![]))
        }
        Layer::Conv { .. } | Layer::Flatten | Layer::Dense { .. } => {
            let x = input.in_order(graph, Order::ChannelsFirst);
            Laid::new(placed.append(graph, &x, |_| x.clone()))
        }
    };
    Saved { input, output }
}

/// `[c, h, w]` → `[n, h, w, c]`.
fn channels_last_dims(dims: &[i64], n: i64) -> [i64; 4] {
    [n, dims[1], dims[2], dims[0]]
}

/// The attributes of our operations on a convolution.
fn window(placed: &Placed, kernel: i64, stride: i64) -> Vec<Attribute> {
    let window = Window::of(&placed.input, kernel, stride);
    let sides = ints(SIDES, &placed.input[1..]);
    vec![int(KERNEL, kernel), int(STRIDE, stride), ints(PADDING, &window.before), sides]
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
            let x = x.in_order(graph, Order::ChannelsFirst);
            let gradient = gradient.into_order(graph, Order::ChannelsFirst);
            let weight = graph.op("Gemm", &[&x, &gradient], vec![int("transA", 1)]);
            let bias = graph.sum(&gradient, &[0]);
            let input = wants_input
                .then(|| Laid::new(graph.op("Gemm", &[&gradient, &placed.weight()], vec![int("transB", 1)])));
            Backward { parameters: vec![weight, bias], inputs: input.map(|g| (0, g)).into_iter().collect() }
        }
        Layer::Conv { kernel: 1, stride: 1, .. } => pointwise(graph, placed, x, gradient, wants_input, kind.n),
        Layer::Conv { kernel, stride, .. } | Layer::Depthwise { kernel, stride } => {
            let (order, of_weights, of_input) = match placed.layer {
                Layer::Depthwise { .. } => (Order::ChannelsLast, DEPTHWISE_WEIGHT_GRADIENT, DEPTHWISE_INPUT_GRADIENT),
                _ => (Order::ChannelsFirst, CONVOLUTION_WEIGHT_GRADIENT, CONVOLUTION_INPUT_GRADIENT),
            };
            let (x, gradient) = (x.in_order(graph, order), gradient.into_order(graph, order));
            let attributes = window(placed, kernel, stride);
            let parameters: [Value; 2] = graph.ops_of(DOMAIN, of_weights, &[&x, &gradient], attributes.clone());
            let input = wants_input.then(|| {
                let value = graph.op_of(DOMAIN, of_input, &[&gradient, &placed.weight()], attributes);
                (0, Laid { value, order })
            });
            Backward { parameters: parameters.into(), inputs: input.into_iter().collect() }
        }
        Layer::Relu | Layer::Relu6 => {
            let Laid { value: output, order } = &saved.output;
            let gradient = gradient.into_order(graph, *order);
            let most = if placed.layer == Layer::Relu6 { 6.0 } else { f32::INFINITY };
            let gradient = graph.op_of(DOMAIN, RELU_GRADIENT, &[output, &gradient], vec![float(MOST, most)]);
            Backward::input(Laid { value: gradient, order: *order })
        }
        Layer::Add { back } => Backward { parameters: vec![], inputs: vec![(0, gradient.clone()), (back, gradient)] },
        Layer::GlobalAveragePool => {
            let (height, width) = (placed.input[1], placed.input[2]);
            let share = graph.scalar(1.0 / (height * width) as f32);
            let gradient = graph.mul(&gradient.value, &share);
            let gradient = graph.reshape(&gradient, &[kind.n, 1, 1, placed.input[0]]);
            let dims = graph.ints(&channels_last_dims(&placed.input, kind.n));
            Backward::input(Laid::channels_last(graph.op("Expand", &[&gradient, &dims], vec![])))
        }
        Layer::MaxPool => {
            let x = x.in_order(graph, Order::ChannelsFirst);
            let gradient = gradient.into_order(graph, Order::ChannelsFirst);
            Backward::input(Laid::new(graph.op_of(DOMAIN, MAX_POOL_GRADIENT, &[&x, &gradient], vec![])))
        }
        Layer::Dropout { .. } => {
            let gradient = gradient.into_order(graph, Order::ChannelsFirst);
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
    let x = x.in_order(graph, Order::ChannelsLast);
    let x = graph.reshape(&x, &[BATCH, channels]);
    let gradient = gradient.into_order(graph, Order::ChannelsLast);
    let gradient = graph.reshape(&gradient, &[BATCH, filters]);
    let weight = graph.op("Gemm", &[&gradient, &x], vec![int("transA", 1)]);
    let weight = graph.reshape(&weight, &[filters, channels, 1, 1]);
    let bias = graph.sum(&gradient, &[0]);
    let inputs = wants_input.then(|| {
        let matrix = graph.reshape(&placed.weight(), &[filters, channels]);
        let input = graph.matmul(&gradient, &matrix);
        (0, Laid::channels_last(graph.reshape(&input, &channels_last_dims(&placed.input, n))))
    });
    Backward { parameters: vec![weight, bias], inputs: inputs.into_iter().collect() }
}
