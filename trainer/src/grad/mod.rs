//! Loss and gradients of one training step as one plain graph: forward, then the chain rule.
//!
//! The graph runs on an ordinary inference engine, with operations of our own where it has no fast ones. What a step needs
//! comes in as inputs (a batch, dropout masks, weights) and the gradients come out, so nothing is hidden in the engine. The
//! number of pictures is fixed; a smaller batch is filled up with pictures whose targets are all zero, which add nothing to
//! loss or gradients.

mod layers;

#[cfg(test)]
mod tests;

use self::layers::{Laid, Order, backward, forward};
use crate::{
    graph::{Builder, Value},
    model::{Feed, Network},
    onnx::{Element, int},
};

/// What the rows of a batch should come out as: f32 `[n, n_classes]`, each row of sum 1, or 0 if it only fills up.
pub const TARGETS: &str = "targets";
/// Mean cross-entropy of the batch: f32 `[]`.
pub const LOSS: &str = "loss";
/// Pictures of the batch whose largest logit is where their largest target is: f32 `[]`.
pub const CORRECT: &str = "correct";
/// Row that each row is mixed with: i64 `[n]`; only with mixup.
pub const PARTNERS: &str = "partners";
/// Share of a mixed row that is its own: f32 `[]`; only with mixup.
pub const OWN_SHARE: &str = "own_share";

/// What kind of step a graph makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepKind {
    /// Pictures in a batch.
    pub n: i64,
    /// Whether pictures are mixed.
    pub mixes: bool,
}

/// Name of the output with a parameter's gradient.
pub fn gradient(parameter: &str) -> String {
    format!("gradient.{parameter}")
}

/// The graph of one step's loss and gradients.
///
/// # Shapes
/// - inputs: the feed's, [`TARGETS`], a mask per dropout layer `[n, layer's shape…]`, those of mixup, and every parameter
/// - outputs: [`LOSS`], [`CORRECT`], and the [`gradient`] of every parameter, of its shape
///
/// # Source
/// Zhang et al., "mixup", 2018
pub fn training_step(feed: &Feed, network: &Network, kind: StepKind) -> Vec<u8> {
    let mut graph = Builder::new();
    let gradients = loss_and_gradients(&mut graph, feed, network, kind);
    for (parameter, value) in network.parameters().iter().zip(&gradients) {
        graph.output(&gradient(&parameter.name), value, Element::F32, &parameter.dims);
    }
    graph.finish("training step", &[])
}

/// `mean · keep + new · (1 - keep)`.
fn running_mean(graph: &mut Builder, mean: &Value, new: &Value, keep: &Value) -> Value {
    let difference = graph.sub(mean, new);
    let kept = graph.mul(&difference, keep);
    graph.add(new, &kept)
}

/// The graph that evaluates `n` pictures: same layers, weights as inputs, no dropout; the output is named.
pub fn evaluation(feed: &Feed, network: &Network, n: i64, output: &str) -> Vec<u8> {
    let mut graph = Builder::new();
    let x = feed.append(&mut graph, n);
    network.declare_parameters(&mut graph);
    let mut inputs = vec![Laid::new(x)];
    for (index, placed) in network.layers().iter().enumerate() {
        let saved = forward(&mut graph, placed, &inputs, n, false);
        debug_assert_eq!(inputs.len(), index + 1);
        inputs.push(saved.output);
    }
    let last = inputs.pop().expect("there is the feed at least").into_order(&mut graph, Order::ChannelsFirst);
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
        let saved = forward(graph, placed, &inputs, kind.n, true);
        inputs.push(saved.output.clone());
        tape.push(saved);
    }
    let logits = inputs.pop().expect("there is the feed at least").into_order(graph, Order::ChannelsFirst);

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
