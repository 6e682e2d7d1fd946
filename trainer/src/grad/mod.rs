//! One training step as one plain graph: forward, gradients by the chain rule, optimiser.
//!
//! The graph runs on an ordinary inference engine. What a step needs comes in as inputs (a batch, dropout masks,
//! numbers of the schedule, weights and moments) and what it changes comes out as outputs, so nothing is hidden in the
//! engine. The number of pictures is fixed; a smaller batch is filled up with pictures whose targets are all zero, which
//! add nothing to loss or gradients.

mod depthwise;
mod layers;

#[cfg(test)]
mod tests;

pub(crate) use self::depthwise::{PROBED_CHANNELS, probe};
use self::layers::{Laid, Order, backward, forward};
use crate::{
    graph::{Builder, Value},
    model::{Feed, Network, Parameter},
    onnx::{Element, int},
};

/// What the rows of a batch should come out as: f32 `[n, n_classes]`, each row of sum 1, or 0 if it only fills up.
pub const TARGETS: &str = "targets";
/// Mean cross-entropy of the batch: f32 `[]`.
pub const LOSS: &str = "loss";
/// Pictures of the batch whose largest logit is where their largest target is: f32 `[]`.
pub const CORRECT: &str = "correct";
/// Learning rate with both bias corrections folded in: f32 `[]`.
pub const STEP_SIZE: &str = "step_size";
/// [`EPSILON_BASE`] with the second bias correction folded in: f32 `[]`.
pub const EPSILON: &str = "epsilon";
/// Share of a weight that decoupled weight decay takes away: f32 `[]`.
pub const DECAY: &str = "decay";
/// Row that each row is mixed with: i64 `[n]`; only with mixup.
pub const PARTNERS: &str = "partners";
/// Share of a mixed row that is its own: f32 `[]`; only with mixup.
pub const OWN_SHARE: &str = "own_share";
/// Share of the running average of the weights that stays: f32 `[]`; only with such an average.
pub const AVERAGE_KEEP: &str = "average_keep";

/// Share of the first moment that stays.
pub const BETA1: f64 = 0.9;
/// Share of the second moment that stays.
pub const BETA2: f64 = 0.999;
/// Keeps the step finite where gradients vanish.
pub const EPSILON_BASE: f64 = 1e-8;

/// What kind of step a graph makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepKind {
    /// Pictures in a batch.
    pub n: i64,
    /// Whether pictures are mixed.
    pub mixes: bool,
    /// Longest gradient over all weights together; 0 for any length.
    pub clip_norm: f64,
    /// Whether a running average of the weights is kept.
    pub averages: bool,
    /// Channels that the engine wants side by side in a depthwise convolution; 1 if it has no such layout.
    pub block: i64,
}

/// Names under which a parameter and what belongs to it are held between steps: itself, its two moments, and its average
/// where there is one.
pub fn held_names(parameter: &str, averages: bool) -> Vec<String> {
    let of = |part: &str| format!("{parameter}.{part}");
    let average = averages.then(|| of("average"));
    [parameter.to_owned(), of("mean"), of("variance")].into_iter().chain(average).collect()
}

/// Name under which the new value of what is held comes out.
pub fn next(name: &str) -> String {
    format!("next.{name}")
}

/// The graph of one AdamW step.
///
/// # Shapes
/// - inputs: the feed's, [`TARGETS`], a mask per dropout layer `[n, layer's shape…]`, [`STEP_SIZE`], [`EPSILON`],
///   [`DECAY`], those of mixup and average, and every parameter with what is held with it
/// - outputs: [`LOSS`], [`CORRECT`], and the [`next`] of all that is held
///
/// # Source
/// Kingma and Ba, "Adam", 2015, with its section 2 order of computation; Loshchilov and Hutter, "Decoupled weight decay
/// regularization", 2019; Zhang et al., "mixup", 2018; Pascanu et al., "On the difficulty of training recurrent neural
/// networks", 2013 (clipping)
pub fn training_step(feed: &Feed, network: &Network, kind: StepKind) -> Vec<u8> {
    let mut graph = Builder::new();
    let mut gradients = loss_and_gradients(&mut graph, feed, network, kind);
    let gains: Vec<Option<Value>> = network.parameters().iter().map(|p| gain(&mut graph, p)).collect();
    for (gradient, gain) in gradients.iter_mut().zip(&gains) {
        if let Some(gain) = gain {
            *gradient = graph.mul(gradient, gain);
        }
    }
    if kind.clip_norm > 0.0 {
        clip(&mut graph, &mut gradients, kind.clip_norm as f32);
    }
    let [step_size, epsilon, decay] = [STEP_SIZE, EPSILON, DECAY].map(|name| graph.input(name, Element::F32, &[]));
    let average_keep = kind.averages.then(|| graph.input(AVERAGE_KEEP, Element::F32, &[]));
    for ((parameter, gradient), gain) in network.parameters().iter().zip(&gradients).zip(&gains) {
        let names = held_names(&parameter.name, kind.averages);
        let held: Vec<Value> = names[1..].iter().map(|n| graph.input(n, Element::F32, &parameter.dims)).collect();
        let pace = graph.scalar(parameter.pace);
        let weight = Value::named(&parameter.name);

        let keep = graph.scalar(BETA1 as f32);
        let mean = running_mean(&mut graph, &held[0], gradient, &keep);
        let keep = graph.scalar(BETA2 as f32);
        let square = graph.mul(gradient, gradient);
        let variance = running_mean(&mut graph, &held[1], &square, &keep);
        let deviation = graph.op("Sqrt", &[&variance], vec![]);
        let divisor = graph.add(&deviation, &epsilon);
        let direction = graph.div(&mean, &divisor);
        let size = graph.mul(&step_size, &pace);
        let mut change = graph.mul(&direction, &size);
        if let Some(gain) = gain {
            change = graph.mul(&change, gain);
        }
        if parameter.decays {
            let share = graph.mul(&decay, &pace);
            let decayed = graph.mul(&weight, &share);
            change = graph.add(&change, &decayed);
        }
        let weight = graph.sub(&weight, &change);

        let mut values = vec![weight.clone(), mean, variance];
        if let Some(keep) = &average_keep {
            values.push(running_mean(&mut graph, &held[2], &weight, keep));
        }
        for (name, value) in names.iter().zip(&values) {
            graph.output(&next(name), value, Element::F32, &parameter.dims);
        }
    }
    graph.finish("training step", &[])
}

/// The parameter's gain, shaped to be multiplied with it.
fn gain(graph: &mut Builder, parameter: &Parameter) -> Option<Value> {
    let gain = parameter.gain.as_ref()?;
    let mut dims = vec![1; parameter.dims.len()];
    dims[0] = parameter.dims[0];
    Some(graph.constant(&format!("{}.gain", parameter.name), &dims, gain))
}

/// `mean · keep + new · (1 - keep)`.
fn running_mean(graph: &mut Builder, mean: &Value, new: &Value, keep: &Value) -> Value {
    let difference = graph.sub(mean, new);
    let kept = graph.mul(&difference, keep);
    graph.add(new, &kept)
}

/// Shortens all gradients alike if they are longer together than `most`.
fn clip(graph: &mut Builder, gradients: &mut [Value], most: f32) {
    let squares: Vec<Value> =
        gradients.iter().map(|g| graph.op("ReduceSumSquare", &[g], vec![int("keepdims", 0)])).collect();
    let squares: Vec<&Value> = squares.iter().collect();
    let sum = graph.op("Sum", &squares, vec![]);
    let length = graph.op("Sqrt", &[&sum], vec![]);
    let most = graph.scalar(most);
    let divisor = graph.op("Max", &[&length, &most], vec![]);
    let factor = graph.div(&most, &divisor);
    for gradient in gradients {
        *gradient = graph.mul(gradient, &factor);
    }
}

/// The graph that evaluates `n` pictures: same layers, weights as inputs, no dropout; the output is named.
pub fn evaluation(feed: &Feed, network: &Network, n: i64, block: i64, output: &str) -> Vec<u8> {
    let mut graph = Builder::new();
    let x = feed.append(&mut graph, n);
    network.declare_parameters(&mut graph);
    let mut inputs = vec![Laid::new(x)];
    for (index, placed) in network.layers().iter().enumerate() {
        let saved = forward(&mut graph, placed, &inputs, n, block, false);
        debug_assert_eq!(inputs.len(), index + 1);
        inputs.push(saved.output);
    }
    let last = inputs.pop().expect("there is the feed at least").into_order(&mut graph, Order::PicturesFirst);
    let dims: Vec<i64> = [&[n], network.output()].concat();
    graph.output(output, &last, Element::F32, &dims);
    graph.finish("evaluation", &[])
}

/// Appends forward, loss and gradients; declares their inputs and outputs.
///
/// The result has one gradient per parameter, in the network's order.
fn loss_and_gradients(graph: &mut Builder, feed: &Feed, network: &Network, kind: StepKind) -> Vec<Value> {
    let mut x = feed.append(graph, kind.n);
    let targets = graph.input(TARGETS, Element::F32, &[kind.n, network.n_classes()]);
    network.declare_parameters(graph);
    if kind.mixes {
        let partners = graph.input(PARTNERS, Element::I64, &[kind.n]);
        let own_share = graph.input(OWN_SHARE, Element::F32, &[]);
        let partner = graph.op("Gather", &[&x, &partners], vec![int("axis", 0)]);
        x = running_mean(graph, &x, &partner, &own_share);
    }
    let mut inputs = vec![Laid::new(x)];
    let mut tape = Vec::with_capacity(network.layers().len());
    for placed in network.layers() {
        let saved = forward(graph, placed, &inputs, kind.n, kind.block, true);
        inputs.push(saved.output.clone());
        tape.push(saved);
    }
    let logits = inputs.pop().expect("there is the feed at least").into_order(graph, Order::PicturesFirst);

    // Entry i is the gradient of what goes into layer i, as far as it is known.
    let mut gradients: Vec<Option<Laid>> = vec![None; tape.len()];
    gradients.push(Some(Laid::new(cross_entropy(graph, &logits, &targets))));
    let mut by_layer = vec![];
    for (index, (placed, saved)) in network.layers().iter().zip(&tape).enumerate().rev() {
        let gradient = gradients[index + 1].take().expect("every layer leads to the loss");
        let back = backward(graph, placed, saved, gradient, index > 0, kind);
        by_layer.extend(back.parameters.into_iter().rev());
        for (places, gradient) in back.inputs {
            let at = index - places;
            if at == 0 {
                continue;
            }
            gradients[at] = Some(match gradients[at].take() {
                Some(known) => known.plus(graph, gradient),
                None => gradient,
            });
        }
    }
    by_layer.reverse();
    debug_assert_eq!(by_layer.len(), network.parameters().len());
    by_layer
}

/// Appends the mean softmax cross-entropy and the count of right answers; returns the gradient of the logits.
fn cross_entropy(graph: &mut Builder, logits: &Value, targets: &Value) -> Value {
    let weight = graph.sum_keeping(targets, &[1]);
    let count = graph.op("ReduceSum", &[targets], vec![int("keepdims", 0)]);

    let log_probability = graph.op("LogSoftmax", &[logits], vec![int("axis", 1)]);
    let parts = graph.mul(&log_probability, targets);
    let sum = graph.op("ReduceSum", &[&parts], vec![int("keepdims", 0)]);
    let mean = graph.div(&sum, &count);
    let loss = graph.op("Neg", &[&mean], vec![]);
    graph.output(LOSS, &loss, Element::F32, &[]);

    let [predicted, wanted] =
        [logits, targets].map(|x| graph.op("ArgMax", &[x], vec![int("axis", 1), int("keepdims", 1)]));
    let right = graph.op("Equal", &[&predicted, &wanted], vec![]);
    let right = graph.cast(&right, Element::F32);
    let right = graph.mul(&right, &weight);
    let correct = graph.op("ReduceSum", &[&right], vec![int("keepdims", 0)]);
    graph.output(CORRECT, &correct, Element::F32, &[]);

    let probability = graph.op("Exp", &[&log_probability], vec![]);
    let expected = graph.mul(&probability, &weight);
    let difference = graph.sub(&expected, targets);
    graph.div(&difference, &count)
}
