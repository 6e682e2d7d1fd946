//! One training step as one plain graph: forward, gradients by the chain rule, optimiser.
//!
//! The graph runs on an ordinary inference engine. What a step needs comes in as inputs (a batch, dropout masks,
//! numbers of the schedule, weights and moments) and what it changes comes out as outputs, so nothing is hidden in the
//! engine.

use crate::{
    graph::{Builder, Value},
    model::{Feed, Layer, Network, Placed, same_padding, two_by_two},
    onnx::{BATCH, Element, int},
};

/// Class indices of the batch: i64 `[N]`.
pub const LABELS: &str = "labels";
/// Mean cross-entropy of the batch: f32 `[]`.
pub const LOSS: &str = "loss";
/// Pictures of the batch classified rightly: i64 `[]`.
pub const CORRECT: &str = "correct";
/// Learning rate with both bias corrections folded in: f32 `[]`.
pub const STEP_SIZE: &str = "step_size";
/// [`EPSILON_BASE`] with the second bias correction folded in: f32 `[]`.
pub const EPSILON: &str = "epsilon";
/// Factor that decoupled weight decay puts on weights: f32 `[]`.
pub const SHRINK: &str = "shrink";

/// Share of the first moment that stays.
pub const BETA1: f64 = 0.9;
/// Share of the second moment that stays.
pub const BETA2: f64 = 0.999;
/// Keeps the step finite where gradients vanish.
pub const EPSILON_BASE: f64 = 1e-8;

/// Names of a parameter's moments.
pub fn moments(parameter: &str) -> [String; 2] {
    [format!("{parameter}.mean"), format!("{parameter}.variance")]
}

/// Name under which a parameter's or moment's new value comes out.
pub fn next(name: &str) -> String {
    format!("next.{name}")
}

/// The graph of one AdamW step.
///
/// # Shapes
/// - inputs: the feed's, [`LABELS`], a mask per dropout layer `[N, layer's shape…]`, [`STEP_SIZE`], [`EPSILON`],
///   [`SHRINK`], and every parameter with its [`moments`]
/// - outputs: [`LOSS`], [`CORRECT`], and the [`next`] of every parameter and moment
///
/// # Source
/// Kingma and Ba, "Adam", 2015, with its section 2 order of computation; Loshchilov and Hutter, "Decoupled weight decay
/// regularization", 2019
pub fn training_step(feed: &Feed, network: &Network) -> Vec<u8> {
    let mut graph = Builder::new();
    let gradients = loss_and_gradients(&mut graph, feed, network);
    let [step_size, epsilon, shrink] = [STEP_SIZE, EPSILON, SHRINK].map(|name| graph.input(name, Element::F32, &[]));
    let [keep1, take1, keep2, take2] = [BETA1, 1.0 - BETA1, BETA2, 1.0 - BETA2].map(|v| graph.scalar(v as f32));
    for (parameter, gradient) in network.parameters().iter().zip(&gradients) {
        let weight = Value::named(&parameter.name);
        let [mean_name, variance_name] = moments(&parameter.name);
        let [mean, variance] =
            [&mean_name, &variance_name].map(|name| graph.input(name, Element::F32, &parameter.dims));

        let mean = decayed_average(&mut graph, &mean, gradient, &keep1, &take1);
        let square = graph.mul(gradient, gradient);
        let variance = decayed_average(&mut graph, &variance, &square, &keep2, &take2);
        let deviation = graph.op("Sqrt", &[&variance], vec![]);
        let divisor = graph.add(&deviation, &epsilon);
        let direction = graph.div(&mean, &divisor);
        let change = graph.mul(&direction, &step_size);
        let kept = if parameter.decays { graph.mul(&weight, &shrink) } else { weight };
        let weight = graph.sub(&kept, &change);

        for (name, value) in [(&parameter.name, &weight), (&mean_name, &mean), (&variance_name, &variance)] {
            graph.output(&next(name), value, Element::F32, &parameter.dims);
        }
    }
    graph.finish("training step", &[])
}

fn decayed_average(graph: &mut Builder, average: &Value, new: &Value, keep: &Value, take: &Value) -> Value {
    let kept = graph.mul(average, keep);
    let taken = graph.mul(new, take);
    graph.add(&kept, &taken)
}

/// The graph that evaluates: same layers, weights as inputs, no dropout; the output is `logits`.
pub fn evaluation(feed: &Feed, network: &Network) -> Vec<u8> {
    let mut graph = Builder::new();
    let x = feed.append(&mut graph);
    network.declare_parameters(&mut graph);
    let logits = network.infer(&mut graph, &x);
    graph.output(api::model::OUTPUT, &logits, Element::F32, &[BATCH, network.n_classes()]);
    graph.finish("evaluation", &[])
}

/// Appends forward, loss and gradients; declares their inputs and outputs.
///
/// The result has one gradient per parameter, in the network's order.
fn loss_and_gradients(graph: &mut Builder, feed: &Feed, network: &Network) -> Vec<Value> {
    let mut x = feed.append(graph);
    graph.input(LABELS, Element::I64, &[BATCH]);
    network.declare_parameters(graph);
    let mut tape = Vec::with_capacity(network.layers().len());
    for placed in network.layers() {
        let saved = forward(graph, placed, &x);
        x = saved.output.clone();
        tape.push(saved);
    }
    let mut gradient = cross_entropy(graph, &x, network.n_classes());
    let mut by_layer = vec![];
    for (index, (placed, saved)) in network.layers().iter().zip(&tape).enumerate().rev() {
        let backward = backward(graph, placed, saved, &gradient, index > 0);
        by_layer.extend(backward.parameters.into_iter().rev());
        match backward.input {
            Some(input) => gradient = input,
            None => break,
        }
    }
    by_layer.reverse();
    debug_assert_eq!(by_layer.len(), network.parameters().len());
    by_layer
}

/// What the way back needs to remember of the way forward.
struct Saved {
    input: Value,
    output: Value,
    /// Where each maximum came from.
    indices: Option<Value>,
}

fn forward(graph: &mut Builder, placed: &Placed, x: &Value) -> Saved {
    let (output, indices) = match placed.layer {
        Layer::MaxPool => {
            let (output, indices) = graph.op2("MaxPool", &[x], two_by_two());
            (output, Some(indices))
        }
        Layer::Dropout { .. } => {
            let dims: Vec<i64> = [&[BATCH], placed.input.as_slice()].concat();
            graph.input(&placed.mask(), Element::F32, &dims);
            (placed.forward(graph, x), None)
        }
        _ => (placed.forward(graph, x), None),
    };
    Saved { input: x.clone(), output, indices }
}

/// What one layer contributes on the way back.
struct Backward {
    /// Gradients of the layer's weight and bias, if it has any.
    parameters: Vec<Value>,
    /// Gradient of the layer's input; absent where nobody asks for it.
    input: Option<Value>,
}

/// The chain rule for one layer: from the gradient of its output to those of its parameters and input.
fn backward(graph: &mut Builder, placed: &Placed, saved: &Saved, gradient: &Value, wants_input: bool) -> Backward {
    match placed.layer {
        Layer::Dense { .. } => {
            let weight = graph.op("Gemm", &[&saved.input, gradient], vec![int("transA", 1)]);
            let bias = graph.sum(gradient, &[0]);
            let input = wants_input.then(|| graph.op("Gemm", &[gradient, &placed.weight()], vec![int("transB", 1)]));
            Backward { parameters: vec![weight, bias], input }
        }
        Layer::Conv { filters, kernel } => {
            let weight = conv_weight_gradient(graph, placed, &saved.input, gradient, filters, kernel);
            let bias = graph.sum(gradient, &[0, 2, 3]);
            let input =
                wants_input.then(|| graph.op("ConvTranspose", &[gradient, &placed.weight()], same_padding(kernel)));
            Backward { parameters: vec![weight, bias], input }
        }
        Layer::Relu => {
            let open = graph.is_positive(&saved.output);
            Backward { parameters: vec![], input: Some(graph.mul(gradient, &open)) }
        }
        Layer::MaxPool => {
            let indices = saved.indices.as_ref().expect("pooling saves its indices");
            let shape = graph.op("Shape", &[&saved.input], vec![]);
            let input = graph.op("MaxUnpool", &[gradient, indices, &shape], two_by_two());
            Backward { parameters: vec![], input: Some(input) }
        }
        Layer::Dropout { .. } => {
            let mask = Value::named(placed.mask());
            Backward { parameters: vec![], input: Some(graph.mul(gradient, &mask)) }
        }
        Layer::Flatten => {
            let dims: Vec<i64> = [&[BATCH], placed.input.as_slice()].concat();
            Backward { parameters: vec![], input: Some(graph.reshape(gradient, &dims)) }
        }
    }
}

/// Gradient of a convolution's weights: one matrix product per tap of the kernel, over shifted slices of the input.
///
/// Channels go last first, so that a slice is a plain matrix `[N·h·w, channels]`.
fn conv_weight_gradient(
    graph: &mut Builder,
    placed: &Placed,
    x: &Value,
    gradient: &Value,
    filters: i64,
    kernel: i64,
) -> Value {
    let (channels, height, width) = (placed.input[0], placed.input[1], placed.input[2]);
    let padding = kernel / 2;
    let by_filter = graph.transpose(gradient, &[1, 0, 2, 3]);
    let by_filter = graph.reshape(&by_filter, &[filters, BATCH]);
    let mut pixels = graph.transpose(x, &[0, 2, 3, 1]);
    if padding > 0 {
        let pads = graph.ints(&[0, padding, padding, 0, 0, padding, padding, 0]);
        pixels = graph.op("Pad", &[&pixels, &pads], vec![]);
    }
    let axes = graph.ints(&[1, 2]);
    let mut taps = vec![];
    for row in 0..kernel {
        for column in 0..kernel {
            let starts = graph.ints(&[row, column]);
            let ends = graph.ints(&[row + height, column + width]);
            let shifted = graph.op("Slice", &[&pixels, &starts, &ends, &axes], vec![]);
            let shifted = graph.reshape(&shifted, &[BATCH, channels]);
            taps.push(graph.matmul(&by_filter, &shifted));
        }
    }
    let taps: Vec<&Value> = taps.iter().collect();
    let all = graph.op("Concat", &taps, vec![int("axis", 1)]);
    let all = graph.reshape(&all, &[filters, kernel, kernel, channels]);
    graph.transpose(&all, &[0, 3, 1, 2])
}

/// Appends the mean softmax cross-entropy and the count of right answers; returns the gradient of the logits.
fn cross_entropy(graph: &mut Builder, logits: &Value, n_classes: i64) -> Value {
    let labels = Value::named(LABELS);
    let classes: Vec<i64> = (0..n_classes).collect();
    let classes = graph.ints(&classes);
    let column = graph.reshape(&labels, &[BATCH, 1]);
    let hit = graph.op("Equal", &[&column, &classes], vec![]);
    let target = graph.cast(&hit, Element::F32);

    let log_probability = graph.op("LogSoftmax", &[logits], vec![int("axis", 1)]);
    let picked = graph.mul(&log_probability, &target);
    let per_picture = graph.sum(&picked, &[1]);
    let mean = graph.op("ReduceMean", &[&per_picture], vec![int("keepdims", 0)]);
    let loss = graph.op("Neg", &[&mean], vec![]);
    graph.output(LOSS, &loss, Element::F32, &[]);

    let predicted = graph.op("ArgMax", &[logits], vec![int("axis", 1), int("keepdims", 0)]);
    let right = graph.op("Equal", &[&predicted, &labels], vec![]);
    let right = graph.cast(&right, Element::I64);
    let correct = graph.op("ReduceSum", &[&right], vec![int("keepdims", 0)]);
    graph.output(CORRECT, &correct, Element::I64, &[]);

    let probability = graph.op("Exp", &[&log_probability], vec![]);
    let difference = graph.sub(&probability, &target);
    let count = graph.op("Size", &[&labels], vec![]);
    let count = graph.cast(&count, Element::F32);
    graph.div(&difference, &count)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_pcg::Pcg64;

    use super::*;
    use crate::{
        data::Batch,
        engine::{Engine, Inputs, Session},
        model::Weights,
        random::{Purpose, generator},
        testing::library,
        train::Optimiser,
    };

    /// A batch with everything a gradient depends on.
    struct Case {
        network: Network,
        session: Session,
        batch: Batch,
        labels: Vec<i64>,
        masks: Vec<Vec<f32>>,
        weights: Weights,
    }

    impl Case {
        fn new(engine: &Engine, shape: &[i64], layers: &[Layer], n: i64) -> Self {
            let feed = Feed::Features { shape: shape.to_vec() };
            let network = Network::new(shape, layers);
            let mut graph = Builder::new();
            let gradients = loss_and_gradients(&mut graph, &feed, &network);
            for (parameter, gradient) in network.parameters().iter().zip(&gradients) {
                let name = format!("gradient.{}", parameter.name);
                graph.output(&name, gradient, Element::F32, &parameter.dims);
            }
            let session = engine.session("gradient", &graph.finish("gradient", &[])).expect("a valid graph");
            let random = &mut generator(3, Purpose::Weights, 0);
            let dims = [&[n], shape].concat();
            let values = uniform(random, dims.iter().product::<i64>() as usize, 1.0);
            let labels = (0..n).map(|_| random.random_range(0..network.n_classes())).collect();
            let mask = |random: &mut Pcg64| if random.random_bool(0.4) { 0.0 } else { 1.0 / 0.6 };
            let masks = network.layers().iter().filter(|p| matches!(p.layer, Layer::Dropout { .. }));
            let masks =
                masks.map(|p| (0..n * p.input.iter().product::<i64>()).map(|_| mask(random)).collect()).collect();
            let scale = |fan_in: i64| (3.0 / fan_in as f32).sqrt();
            let weights = network.parameters().iter().map(|p| uniform(random, p.len(), scale(p.fan_in))).collect();
            Self { network, session, batch: Batch::Features { dims, values }, labels, masks, weights }
        }

        /// Loss and gradients at these weights.
        fn run(&mut self, weights: &Weights) -> (f64, Weights) {
            let n = self.labels.len() as i64;
            let mut inputs = Inputs::new();
            self.batch.feed(&mut inputs).expect("a batch");
            inputs.tensor(LABELS, &[n], &self.labels).expect("labels");
            let dropouts = self.network.layers().iter().filter(|p| matches!(p.layer, Layer::Dropout { .. }));
            for (placed, mask) in dropouts.zip(&self.masks) {
                inputs.tensor(placed.mask(), &[&[n], placed.input.as_slice()].concat(), mask).expect("a mask");
            }
            for (parameter, values) in self.network.parameters().iter().zip(weights) {
                inputs.tensor(parameter.name.as_str(), &parameter.dims, values).expect("weights");
            }
            let outputs = self.session.run(inputs).expect("a step");
            let gradient = |name: &str| outputs.values(&format!("gradient.{name}")).expect("a gradient").to_vec();
            let gradients = self.network.parameters().iter().map(|p| gradient(&p.name)).collect();
            (f64::from(outputs.number::<f32>(LOSS).expect("a loss")), gradients)
        }
    }

    fn uniform(random: &mut Pcg64, n: usize, most: f32) -> Vec<f32> {
        (0..n).map(|_| random.random_range(-most..most)).collect()
    }

    fn norm(values: impl Iterator<Item = f64>) -> f64 {
        values.map(|v| v * v).sum::<f64>().sqrt()
    }

    /// Compares every gradient with central differences of the loss.
    #[track_caller]
    fn check(engine: &Engine, shape: &[i64], layers: &[Layer]) {
        /// Small enough to miss the kinks of ReLU and pooling, large against the rounding of a loss in 32 bits.
        const STEP: f32 = 3e-4;
        /// Of a gradient's length. Rounding stays at half of it, a wrong term does not.
        const TOLERANCE: f64 = 0.005;
        let mut case = Case::new(engine, shape, layers, 6);
        let start = case.weights.clone();
        let (_, gradients) = case.run(&start);
        for (index, gradient) in gradients.iter().enumerate() {
            let mut differences = vec![];
            for at in 0..gradient.len() {
                let mut loss_at = |step: f32| {
                    let mut weights = start.clone();
                    weights[index][at] += step;
                    case.run(&weights).0
                };
                differences.push((loss_at(STEP) - loss_at(-STEP)) / f64::from(2.0 * STEP));
            }
            let length = norm(differences.iter().copied());
            let error = norm(differences.iter().zip(gradient).map(|(d, &g)| d - f64::from(g)));
            let name = &case.network.parameters()[index].name;
            assert!(length > 1e-3, "{name} of {layers:?} has no influence on the loss");
            assert!(error < TOLERANCE * length, "{name} of {layers:?} is off by {:.3} of its length", error / length);
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let engine = Engine::load_from(library()).expect("ONNX Runtime");
        let conv = |filters, kernel| Layer::Conv { filters, kernel };
        let dense = |units| Layer::Dense { units };
        let (relu, pool, flatten, dropout) =
            (Layer::Relu, Layer::MaxPool, Layer::Flatten, Layer::Dropout { rate: 0.4 });
        for (shape, layers) in [
            (vec![5], vec![dense(3)]),
            (vec![5], vec![dense(6), relu, dense(4)]),
            (vec![5], vec![dense(6), dropout, dense(4)]),
            (vec![5], vec![dropout, dense(4)]),
            (vec![2, 3, 2], vec![flatten, dense(3)]),
            (vec![2, 5, 4], vec![conv(3, 3), flatten, dense(3)]),
            (vec![2, 4, 3], vec![conv(3, 1), conv(2, 3), flatten, dense(3)]),
            (vec![1, 5, 6], vec![conv(2, 3), conv(3, 5), flatten, dense(2)]),
            (vec![2, 5, 7], vec![conv(3, 3), pool, flatten, dense(3)]),
            (vec![1, 9, 8], vec![conv(2, 3), relu, pool, conv(3, 3), relu, pool, flatten, dropout, dense(3)]),
        ] {
            check(&engine, &shape, &layers);
        }
    }

    #[test]
    fn a_step_is_the_textbooks_adamw() {
        let engine = Engine::load_from(library()).expect("ONNX Runtime");
        let layers = [Layer::Dense { units: 4 }, Layer::Relu, Layer::Dense { units: 3 }];
        let mut case = Case::new(&engine, &[5], &layers, 8);
        let feed = Feed::Features { shape: vec![5] };
        let mut optimiser = Optimiser::new(&engine, &feed, &case.network, &case.weights).expect("an optimiser");
        let mut expected: Vec<Vec<f64>> =
            case.weights.iter().map(|w| w.iter().map(|&w| f64::from(w)).collect()).collect();
        let mut means: Vec<Vec<f64>> = expected.iter().map(|w| vec![0.0; w.len()]).collect();
        let mut variances = means.clone();
        for step in 1..=5 {
            let (rate, decay) = (0.02 / f64::from(step), 0.3);
            let before = optimiser.weights().expect("weights");
            let (loss, gradients) = case.run(&before);
            let outcome = optimiser.step(&case.batch, &case.labels, &case.masks, rate, decay).expect("a step");
            assert!((outcome.loss - loss).abs() < 1e-6);
            for (index, gradient) in gradients.iter().enumerate() {
                let decays = case.network.parameters()[index].decays;
                for (at, &g) in gradient.iter().enumerate() {
                    let g = f64::from(g);
                    let (mean, variance) = (&mut means[index][at], &mut variances[index][at]);
                    *mean = 0.9 * *mean + 0.1 * g;
                    *variance = 0.999 * *variance + 0.001 * g * g;
                    let mean = *mean / (1.0 - 0.9f64.powi(step));
                    let variance = *variance / (1.0 - 0.999f64.powi(step));
                    let weight = &mut expected[index][at];
                    *weight -= rate * (mean / (variance.sqrt() + 1e-8) + if decays { decay * *weight } else { 0.0 });
                }
            }
            let after = optimiser.weights().expect("weights");
            for (after, expected) in after.iter().flatten().zip(expected.iter().flatten()) {
                assert!((f64::from(*after) - expected).abs() < 1e-5, "step {step}: {after} instead of {expected}");
            }
        }
    }
}
