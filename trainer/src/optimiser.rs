//! The graphs of training in motion: weights with what is held beside them, a step at a time; and their evaluation.

use api::train::Settings;

use crate::{
    Result, TrainerError,
    data::{Pick, Samples},
    engine::{Engine, Held, Inputs, Session},
    grad::{self, BETA1, BETA2, EPSILON_BASE, StepKind},
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

/// AdamW: a network's weights with their moments, and the graph that moves them.
#[derive(Debug)]
pub struct Optimiser {
    session: Session,
    network: Network,
    kind: StepKind,
    weight_average: f64,
    /// Names and values of every weight and what is held with it.
    state: Vec<(String, Held)>,
    steps: u64,
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
        let kind = StepKind {
            n: i64::from(settings.batch_size).min(n_samples as i64).max(1),
            mixes: settings.mixup > 0.0,
            clip_norm: settings.clip_norm,
            averages: settings.weight_average > 0.0,
            block: engine.channel_block(),
        };
        let session = engine.session("training", &grad::training_step(feed, network, kind))?;
        let mut state = vec![];
        for (parameter, values) in network.parameters().iter().zip(weights) {
            for (index, name) in grad::held_names(&parameter.name, kind.averages).into_iter().enumerate() {
                let is_moment = index == 1 || index == 2;
                let values = if is_moment { vec![0.0; values.len()] } else { values.clone() };
                state.push((name, Held::new(&parameter.dims, values)?));
            }
        }
        let weight_average = settings.weight_average;
        Ok(Self { session, network: network.clone(), kind, weight_average, state, steps: 0 })
    }

    /// Pictures in a batch.
    pub fn batch_size(&self) -> usize {
        self.kind.n as usize
    }

    /// One step on one batch.
    pub fn step(&mut self, prepared: &Prepared, learning_rate: f64, weight_decay: f64) -> Result<StepOutcome> {
        self.steps += 1;
        let exponent = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (correction1, correction2) = (1.0 - BETA1.powi(exponent), 1.0 - BETA2.powi(exponent));
        let n = self.kind.n;
        let mut inputs = Inputs::new();
        prepared.batch.feed(&mut inputs)?;
        inputs.tensor(grad::TARGETS, &[n, self.network.n_classes()], &prepared.targets)?;
        inputs.number(grad::STEP_SIZE, (learning_rate * correction2.sqrt() / correction1) as f32)?;
        inputs.number(grad::EPSILON, (EPSILON_BASE * correction2.sqrt()) as f32)?;
        inputs.number(grad::DECAY, (learning_rate * weight_decay) as f32)?;
        if let Some((partners, own_share)) = &prepared.mixing {
            inputs.tensor(grad::PARTNERS, &[n], partners)?;
            inputs.number(grad::OWN_SHARE, *own_share)?;
        }
        if self.kind.averages {
            // A short memory at first, so that the average soon forgets the first weights.
            let steps = self.steps as f64;
            inputs.number(grad::AVERAGE_KEEP, self.weight_average.min((1.0 + steps) / (10.0 + steps)) as f32)?;
        }
        let dropouts = self.network.layers().iter().filter(|p| matches!(p.layer, Layer::Dropout { .. }));
        for (placed, mask) in dropouts.zip(&prepared.masks) {
            let dims: Vec<i64> = [&[n], placed.input.as_slice()].concat();
            inputs.tensor(placed.mask(), &dims, mask)?;
        }
        for (name, held) in &self.state {
            inputs.held(name, held);
        }
        let mut outputs = self.session.run(inputs)?;
        let (loss, correct): (f32, f32) = (outputs.number(grad::LOSS)?, outputs.number(grad::CORRECT)?);
        let names = self.state.iter().map(|(name, _)| name);
        let state: Result<Vec<_>> = names.map(|name| Ok((name.clone(), outputs.take(&grad::next(name))?))).collect();
        drop(outputs);
        self.state = state?;
        Ok(StepOutcome { loss: loss.into(), correct: correct.into() })
    }

    /// The present weights; their running average where one is kept.
    pub fn weights(&self) -> Result<Weights> {
        self.held_weights().into_iter().map(|(_, held)| held.values().map(<[f32]>::to_vec)).collect()
    }

    /// The same, by the names of their parameters, where they lie.
    pub fn held_weights(&self) -> Vec<(&str, &Held)> {
        let per_parameter = grad::held_names("", self.kind.averages).len();
        let shown = if self.kind.averages { per_parameter - 1 } else { 0 };
        let parameters = self.network.parameters().iter().zip(self.state.chunks_exact(per_parameter));
        parameters.map(|(parameter, held)| (parameter.name.as_str(), &held[shown].1)).collect()
    }

    /// Weights, moments and averages, in an order of their own.
    pub fn state(&self) -> Result<Vec<Vec<f32>>> {
        self.state.iter().map(|(_, held)| held.values().map(<[f32]>::to_vec)).collect()
    }

    /// Goes on from a state after so many steps.
    ///
    /// # Errors
    /// `Checkpoint` if it is of another network
    pub fn restore(&mut self, state: &[Vec<f32>], steps: u64) -> Result<()> {
        let sizes = |held: &Held| held.values().map(<[f32]>::len);
        let present: Vec<usize> = self.state.iter().map(|(_, held)| sizes(held)).collect::<Result<_>>()?;
        if !state.iter().map(Vec::len).eq(present.iter().copied()) {
            return Err(TrainerError::Checkpoint("its weights are those of another network".into()));
        }
        let per_parameter = grad::held_names("", self.kind.averages).len();
        let parameters = self.network.parameters().iter();
        let dims = parameters.flat_map(|parameter| std::iter::repeat_n(&parameter.dims, per_parameter));
        for (((_, held), values), dims) in self.state.iter_mut().zip(state).zip(dims) {
            *held = Held::new(dims, values.clone())?;
        }
        self.steps = steps;
        Ok(())
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
        let graph = grad::evaluation(feed, network, n as i64, engine.channel_block(), api::model::OUTPUT);
        Ok(Self { session: engine.session("evaluation", &graph)?, n })
    }

    /// What the network makes of all samples, as they are or mirrored; `go_on` is asked before each batch.
    ///
    /// # Shapes
    /// result: `[samples, output…]`
    pub fn output(
        &mut self,
        network: &Network,
        weights: &[Vec<f32>],
        samples: &dyn Samples,
        mirrored: bool,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<Vec<f32>> {
        let held = hold(network, weights)?;
        let held: Vec<_> = held.iter().map(|(name, held)| (*name, held)).collect();
        self.run(&held, samples, mirrored, go_on)
    }

    /// The same with weights that the engine holds.
    pub fn run(
        &mut self,
        weights: &[(&str, &Held)],
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
            for (name, held) in weights {
                inputs.held(*name, held);
            }
            let outputs = self.session.run(inputs)?;
            let values: &[f32] = outputs.values(api::model::OUTPUT)?;
            results.extend_from_slice(&values[..values.len() / self.n * rows.len()]);
        }
        Ok(results)
    }
}

fn hold<'n>(network: &'n Network, weights: &[Vec<f32>]) -> Result<Vec<(&'n str, Held)>> {
    let named = network.parameters().iter().zip(weights);
    named.map(|(p, values)| Ok((p.name.as_str(), Held::new(&p.dims, values.clone())?))).collect()
}

/// Pictures to run at once where nothing is learnt: many small ones, few large ones, for the sake of memory.
pub fn batch_size_for(feed: &Feed) -> usize {
    const VALUES: i64 = 1 << 21;
    (VALUES / feed.values().max(1)).clamp(8, 512) as usize
}
