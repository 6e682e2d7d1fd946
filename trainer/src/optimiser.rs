//! The graphs of training in motion: a step at a time, and evaluation.

use api::train::Settings;

use crate::{
    Result,
    adamw::AdamW,
    data::{Pick, Samples},
    engine::{Engine, Inputs, Session},
    grad::{self, StepKind},
    model::{Feed, Layer, Network, Weights},
    sampling::Prepared,
};

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean cross-entropy of the batch before the step.
    pub loss: f64,
    /// Pictures of the batch classified rightly before the step.
    pub correct: f64,
}

/// A network's weights, the graph that tells their gradients, and AdamW, which moves them.
#[derive(Debug)]
pub struct Optimiser {
    session: Session,
    network: Network,
    n: i64,
    moving: AdamW,
    /// Per parameter: the output that is its gradient.
    gradients: Vec<String>,
}

impl Optimiser {
    /// Begins with these weights and without momentum.
    pub fn new(
        engine: &Engine,
        feed: &Feed,
        network: &Network,
        weights: &Weights,
        settings: &Settings,
        n_samples: usize,
    ) -> Result<Self> {
        let n = i64::from(settings.batch_size).min(n_samples as i64).max(1);
        let kind = StepKind { n, mixes: settings.mixup > 0.0 };
        let session = engine.session("training", &grad::training_step(feed, network, kind))?;
        let moving = AdamW::new(network, weights, settings.clip_norm, settings.weight_average);
        let gradients = network.parameters().iter().map(|parameter| grad::gradient(&parameter.name)).collect();
        Ok(Self { session, network: network.clone(), n, moving, gradients })
    }

    /// Pictures in a batch.
    pub fn batch_size(&self) -> usize {
        self.n as usize
    }

    /// One step on one batch.
    pub fn step(&mut self, prepared: &Prepared, learning_rate: f64, weight_decay: f64) -> Result<StepOutcome> {
        let n = self.n;
        let mut inputs = Inputs::new();
        prepared.batch.feed(&mut inputs)?;
        inputs.tensor(grad::TARGETS, &[n, self.network.n_classes()], &prepared.targets)?;
        if let Some((partners, own_share)) = &prepared.mixing {
            inputs.tensor(grad::PARTNERS, &[n], partners)?;
            inputs.number(grad::OWN_SHARE, *own_share)?;
        }
        let dropouts = self.network.layers().iter().filter(|p| matches!(p.layer, Layer::Dropout { .. }));
        for (placed, mask) in dropouts.zip(&prepared.masks) {
            let dims: Vec<i64> = [&[n], placed.input.as_slice()].concat();
            inputs.tensor(placed.mask(), &dims, mask)?;
        }
        for (parameter, weights) in self.network.parameters().iter().zip(self.moving.weights()) {
            inputs.tensor(parameter.name.as_str(), &parameter.dims, weights)?;
        }
        let outputs = self.session.run(inputs)?;
        let (loss, correct): (f32, f32) = (outputs.number(grad::LOSS)?, outputs.number(grad::CORRECT)?);
        let gradients: Result<Vec<&[f32]>> = self.gradients.iter().map(|name| outputs.values(name)).collect();
        self.moving.step(&gradients?, learning_rate, weight_decay);
        Ok(StepOutcome { loss: loss.into(), correct: correct.into() })
    }

    /// The present weights; their running average where one is kept.
    pub fn weights(&self) -> Weights {
        self.moving.shown()
    }

    /// Weights, moments and averages, in an order of their own.
    pub fn state(&self) -> Vec<Vec<f32>> {
        self.moving.state()
    }

    /// Goes on from a state after so many steps.
    ///
    /// # Errors
    /// `Checkpoint` if it is of another network
    pub fn restore(&mut self, state: &[Vec<f32>], steps: u64) -> Result<()> {
        self.moving.restore(state, steps)
    }
}

/// The network as it is used after training, with weights that still change.
#[derive(Debug)]
pub struct Evaluator {
    session: Session,
    n: usize,
}

impl Evaluator {
    /// Prepares the evaluation of a network on about so many samples.
    pub fn new(engine: &Engine, feed: &Feed, network: &Network, n_samples: usize) -> Result<Self> {
        let n = batch_size_for(feed).min(n_samples).max(1);
        let graph = grad::evaluation(feed, network, n as i64, api::model::OUTPUT);
        Ok(Self { session: engine.session("evaluation", &graph)?, n })
    }

    /// What the network makes of all samples, as they are or mirrored; `go_on` is asked before each batch.
    ///
    /// # Shapes
    /// result: `[samples, output…]`
    pub fn output(
        &mut self,
        network: &Network,
        weights: &Weights,
        samples: &dyn Samples,
        mirrored: bool,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<Vec<f32>> {
        let rows: Vec<usize> = (0..samples.len()).collect();
        let mut results = vec![];
        for rows in rows.chunks(self.n) {
            go_on()?;
            let mut filled = rows.to_vec();
            filled.resize(self.n, rows[0]);
            let batch = samples.batch(&filled, if mirrored { Pick::Mirrored } else { Pick::Plain });
            let mut inputs = Inputs::new();
            batch.feed(&mut inputs)?;
            for (parameter, weights) in network.parameters().iter().zip(weights) {
                inputs.tensor(parameter.name.as_str(), &parameter.dims, weights)?;
            }
            let outputs = self.session.run(inputs)?;
            let values: &[f32] = outputs.values(api::model::OUTPUT)?;
            results.extend_from_slice(&values[..values.len() / self.n * rows.len()]);
        }
        Ok(results)
    }
}

/// Pictures to run at once where nothing is learnt: many small ones, few large ones, for the sake of memory.
pub fn batch_size_for(feed: &Feed) -> usize {
    const VALUES: i64 = 1 << 21;
    (VALUES / feed.values().max(1)).clamp(8, 512) as usize
}
