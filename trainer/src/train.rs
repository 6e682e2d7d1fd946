//! Fitting a network: epochs of AdamW steps, validation after each, the best epoch's weights kept.
//!
//! Works on any feed; knows nothing of families, files or pictures.

use std::time::Instant;

use api::train::{EpochMetrics, Settings};
use rand::{RngExt, seq::SliceRandom};
use rand_pcg::Pcg64;

use crate::{
    Result, TrainerError,
    data::{Batch, Samples},
    engine::{Engine, Held, Inputs, Session},
    evaluate::Evaluation,
    grad::{self, BETA1, BETA2, EPSILON_BASE},
    model::{Feed, Layer, Network, Weights},
    monitor::Monitor,
    random::{Purpose, generator},
};

/// What fitting came to.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Those of the best epoch.
    pub weights: Weights,
    /// One entry per epoch that ran.
    pub curves: Vec<EpochMetrics>,
    /// From 1.
    pub best_epoch: u32,
}

impl Fit {
    /// Figures of the best epoch.
    pub fn best(&self) -> &EpochMetrics {
        &self.curves[self.best_epoch as usize - 1]
    }
}

/// Fits a network to the train samples.
///
/// The best epoch is the one of the least validation loss; without validation samples, of the least train loss.
///
/// # Errors
/// `Diverged` if a loss is not finite, `Cancelled` if someone asked to stop
pub fn fit(
    engine: &Engine,
    feed: &Feed,
    network: &Network,
    train: &dyn Samples,
    validation: &dyn Samples,
    settings: &Settings,
    monitor: &mut Monitor,
) -> Result<Fit> {
    let seed = settings.seed;
    let batch_size = settings.batch_size as usize;
    let weights = network.first_weights(&mut generator(seed, Purpose::Weights, 0));
    let mut optimiser = Optimiser::new(engine, feed, network, &weights)?;
    let mut evaluator = Evaluator::new(engine, feed, network)?;
    let steps = u64::from(settings.epochs) * train.len().div_ceil(batch_size) as u64;
    let diverged = |epoch, step| TrainerError::Diverged { epoch, step, learning_rate: settings.learning_rate };

    let started = Instant::now();
    let mut curves: Vec<EpochMetrics> = vec![];
    let mut best: Option<(f64, u32, Weights)> = None;
    let mut step = 0;
    for epoch in 1..=settings.epochs {
        let epoch_started = Instant::now();
        let mut order: Vec<usize> = (0..train.len()).collect();
        order.shuffle(&mut generator(seed, Purpose::Order, epoch));
        let mut augmentation = generator(seed, Purpose::Augmentation, epoch);
        let mut dropout = generator(seed, Purpose::Dropout, epoch);
        let (mut loss_sum, mut correct, mut learning_rate) = (0.0, 0, 0.0);
        for rows in order.chunks(batch_size) {
            learning_rate = cosine(settings.learning_rate, step, steps);
            let batch = train.batch(rows, Some(&mut augmentation));
            let labels: Vec<i64> = rows.iter().map(|&row| i64::from(train.labels()[row])).collect();
            let masks = draw_masks(network, rows.len(), &mut dropout);
            let outcome = optimiser.step(&batch, &labels, &masks, learning_rate, settings.weight_decay)?;
            step += 1;
            if !outcome.loss.is_finite() {
                return Err(diverged(epoch, step));
            }
            loss_sum += outcome.loss * rows.len() as f64;
            correct += outcome.correct;
            monitor.step(epoch, step, steps, outcome.loss, remaining(started, step, steps))?;
        }
        let epoch_seconds = epoch_started.elapsed().as_secs_f64();
        let validated = evaluator.evaluate(&optimiser, validation, monitor)?;
        let loss = loss_sum / train.len() as f64;
        let deciding = validated.as_ref().map_or(loss, |v| v.loss);
        if !deciding.is_finite() {
            return Err(diverged(epoch, step));
        }
        if best.as_ref().is_none_or(|(least, ..)| deciding < *least) {
            best = Some((deciding, epoch, optimiser.weights()?));
        }
        let metrics = EpochMetrics {
            epoch,
            epochs: settings.epochs,
            step,
            loss,
            accuracy: correct as f64 / train.len() as f64,
            val_loss: validated.as_ref().map(|v| v.loss),
            val_accuracy: validated.as_ref().map(|v| v.accuracy),
            learning_rate,
            images_per_second: train.len() as f64 / epoch_seconds,
            seconds: monitor.seconds(),
            remaining_seconds: remaining(started, step, steps),
        };
        curves.push(metrics.clone());
        monitor.epoch(metrics)?;
        let best_epoch = best.as_ref().map_or(epoch, |(_, epoch, _)| *epoch);
        if settings.patience > 0 && epoch - best_epoch >= settings.patience {
            break;
        }
    }
    let (_, best_epoch, weights) = best.expect("there is at least one epoch");
    Ok(Fit { weights, curves, best_epoch })
}

/// Learning rate of a step, from the peak down to almost nothing.
///
/// # Source
/// Loshchilov and Hutter, "SGDR", 2017, without restarts
fn cosine(peak: f64, step: u64, steps: u64) -> f64 {
    0.5 * peak * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos())
}

fn remaining(started: Instant, step: u64, steps: u64) -> f64 {
    started.elapsed().as_secs_f64() / step as f64 * (steps - step) as f64
}

/// Masks of all dropout layers for one batch: zero where a value is dropped, else what keeps the mean.
fn draw_masks(network: &Network, n: usize, random: &mut Pcg64) -> Vec<Vec<f32>> {
    let layers = network.layers().iter();
    layers
        .filter_map(|placed| match placed.layer {
            Layer::Dropout { rate } => {
                let kept = (1.0 / (1.0 - rate)) as f32;
                let values = n * placed.input.iter().product::<i64>() as usize;
                Some((0..values).map(|_| if random.random_bool(rate) { 0.0 } else { kept }).collect())
            }
            _ => None,
        })
        .collect()
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean cross-entropy of the batch before the step.
    pub loss: f64,
    /// Pictures of the batch classified rightly before the step.
    pub correct: u64,
}

/// AdamW: a network's weights with their moments, and the graph that moves them.
#[derive(Debug)]
pub struct Optimiser {
    session: Session,
    network: Network,
    /// Names and values of every weight and moment.
    state: Vec<(String, Held)>,
    steps: i32,
}

impl Optimiser {
    /// Begins with these weights and without momentum.
    pub fn new(engine: &Engine, feed: &Feed, network: &Network, weights: &Weights) -> Result<Self> {
        let session = engine.session("training", &grad::training_step(feed, network))?;
        let mut state = vec![];
        for (parameter, values) in network.parameters().iter().zip(weights) {
            state.push((parameter.name.clone(), Held::new(&parameter.dims, values.clone())?));
            for moment in grad::moments(&parameter.name) {
                state.push((moment, Held::new(&parameter.dims, vec![0.0; values.len()])?));
            }
        }
        Ok(Self { session, network: network.clone(), state, steps: 0 })
    }

    /// One step on one batch.
    ///
    /// # Shapes
    /// - `labels`: `[n]`
    /// - `masks`: per dropout layer `[n, layer's shape…]`
    pub fn step(
        &mut self,
        batch: &Batch,
        labels: &[i64],
        masks: &[Vec<f32>],
        learning_rate: f64,
        weight_decay: f64,
    ) -> Result<StepOutcome> {
        self.steps += 1;
        let (correction1, correction2) = (1.0 - BETA1.powi(self.steps), 1.0 - BETA2.powi(self.steps));
        let n = labels.len() as i64;
        let mut inputs = Inputs::new();
        batch.feed(&mut inputs)?;
        inputs.tensor(grad::LABELS, &[n], labels)?;
        inputs.number(grad::STEP_SIZE, (learning_rate * correction2.sqrt() / correction1) as f32)?;
        inputs.number(grad::EPSILON, (EPSILON_BASE * correction2.sqrt()) as f32)?;
        inputs.number(grad::SHRINK, (1.0 - learning_rate * weight_decay) as f32)?;
        let dropouts = self.network.layers().iter().filter(|p| matches!(p.layer, Layer::Dropout { .. }));
        for (placed, mask) in dropouts.zip(masks) {
            let dims: Vec<i64> = [&[n], placed.input.as_slice()].concat();
            inputs.tensor(placed.mask(), &dims, mask)?;
        }
        for (name, held) in &self.state {
            inputs.held(name, held);
        }
        let mut outputs = self.session.run(inputs)?;
        let loss: f32 = outputs.number(grad::LOSS)?;
        let correct: i64 = outputs.number(grad::CORRECT)?;
        let names = self.state.iter().map(|(name, _)| name);
        let state: Result<Vec<_>> = names.map(|name| Ok((name.clone(), outputs.take(&grad::next(name))?))).collect();
        drop(outputs);
        self.state = state?;
        Ok(StepOutcome { loss: f64::from(loss), correct: correct.unsigned_abs() })
    }

    /// The present weights.
    pub fn weights(&self) -> Result<Weights> {
        self.held_weights().map(|(_, held)| held.values().map(<[f32]>::to_vec)).collect()
    }

    fn held_weights(&self) -> impl Iterator<Item = (&str, &Held)> {
        // Each parameter is followed by its two moments.
        self.state.iter().step_by(3).map(|(name, held)| (name.as_str(), held))
    }
}

/// The network as it is used after training, with weights that still change.
#[derive(Debug)]
pub struct Evaluator {
    session: Session,
    n_classes: usize,
    batch_size: usize,
}

impl Evaluator {
    /// Prepares the evaluation of a network.
    pub fn new(engine: &Engine, feed: &Feed, network: &Network) -> Result<Self> {
        let session = engine.session("evaluation", &grad::evaluation(feed, network))?;
        let batch_size = batch_size_for(&feed.shape());
        Ok(Self { session, n_classes: network.n_classes() as usize, batch_size })
    }

    fn evaluate(
        &mut self,
        optimiser: &Optimiser,
        samples: &dyn Samples,
        monitor: &Monitor,
    ) -> Result<Option<Evaluation>> {
        let held: Vec<_> = optimiser.held_weights().collect();
        let logits = self.run(&held, samples, || monitor.go_on())?;
        Ok(Evaluation::of(&logits, samples.labels(), self.n_classes))
    }

    /// Logits of all samples.
    ///
    /// # Shapes
    /// result: `[n, n_classes]`
    pub fn logits(&mut self, network: &Network, weights: &Weights, samples: &dyn Samples) -> Result<Vec<f32>> {
        let named = network.parameters().iter().zip(weights);
        let held: Vec<(&str, Held)> = named
            .map(|(p, values)| Ok((p.name.as_str(), Held::new(&p.dims, values.clone())?)))
            .collect::<Result<_>>()?;
        let held: Vec<_> = held.iter().map(|(name, held)| (*name, held)).collect();
        self.run(&held, samples, || Ok(()))
    }

    fn run(
        &mut self,
        weights: &[(&str, &Held)],
        samples: &dyn Samples,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<Vec<f32>> {
        let rows: Vec<usize> = (0..samples.len()).collect();
        let mut logits = Vec::with_capacity(rows.len() * self.n_classes);
        for rows in rows.chunks(self.batch_size) {
            go_on()?;
            let batch = samples.batch(rows, None);
            let mut inputs = Inputs::new();
            batch.feed(&mut inputs)?;
            for (name, held) in weights {
                inputs.held(*name, held);
            }
            logits.extend_from_slice(self.session.run(inputs)?.values(api::model::OUTPUT)?);
        }
        Ok(logits)
    }
}

/// Pictures to run at once where nothing is learnt: many small ones, few large ones, for the sake of memory.
///
/// # Shapes
/// `shape`: of one input
pub fn batch_size_for(shape: &[i64]) -> usize {
    const VALUES: i64 = 1 << 21;
    (VALUES / shape.iter().product::<i64>().max(1)).clamp(8, 512) as usize
}

#[cfg(test)]
mod tests {
    use api::train::Family;

    use super::*;
    use crate::{data::Features, testing::library};

    fn features(values: Vec<f32>, labels: Vec<u32>) -> Features {
        let n_features = values.len() / labels.len().max(1);
        Features { values, labels, n_variants: 1, n_features }
    }

    /// Fits a linear head on two features.
    fn fit_head(train: &Features, validation: &Features, settings: &Settings, stop: &dyn Fn() -> bool) -> Result<Fit> {
        let engine = Engine::load_from(library()).expect("ONNX Runtime");
        let feed = Feed::Features { shape: vec![2] };
        let network = Network::of_family(settings, &[2], 2);
        let mut tell = |_: &api::train::Progress| Ok(());
        fit(&engine, &feed, &network, train, validation, settings, &mut Monitor::new(&mut tell, stop))
    }

    fn settings() -> Settings {
        Settings {
            epochs: 20,
            batch_size: 4,
            learning_rate: 0.1,
            dropout: 0.0,
            ..Settings::defaults(Family::Linear, 8)
        }
    }

    /// Class 1 where the first feature is above zero.
    fn separable() -> Features {
        let points = [-2.0, 1.0, -1.0, -1.0, -0.5, 0.3, 0.5, 0.2, 1.0, -1.0, 2.0, 1.0];
        features(points.to_vec(), vec![0, 0, 0, 1, 1, 1])
    }

    #[test]
    fn a_head_separates_what_can_be_separated() {
        let fit = fit_head(&separable(), &separable(), &settings(), &|| false).expect("a fit");
        assert_eq!(fit.best().val_accuracy, Some(1.0));
        assert!(fit.curves.windows(2).all(|pair| pair[1].learning_rate < pair[0].learning_rate));
    }

    #[test]
    fn the_weights_are_those_of_the_best_epoch_and_not_of_the_last() {
        // What is right for training is wrong for validation, so that the first epoch stays the best.
        let contrary = features(separable().values, vec![1, 1, 1, 0, 0, 0]);
        let patient = Settings { patience: 0, ..settings() };
        let fit = fit_head(&separable(), &contrary, &patient, &|| false).expect("a fit");
        assert_eq!((fit.best_epoch, fit.curves.len()), (1, 20));
        let engine = Engine::load_from(library()).expect("ONNX Runtime");
        let network = Network::of_family(&patient, &[2], 2);
        let mut evaluator = Evaluator::new(&engine, &Feed::Features { shape: vec![2] }, &network).expect("a graph");
        let logits = evaluator.logits(&network, &fit.weights, &contrary).expect("logits");
        let again = Evaluation::of(&logits, &contrary.labels, 2).expect("six pictures");
        assert_eq!(Some(again.loss), fit.best().val_loss);

        let impatient = Settings { patience: 3, ..settings() };
        let fit = fit_head(&separable(), &contrary, &impatient, &|| false).expect("a fit");
        assert_eq!((fit.best_epoch, fit.curves.len()), (1, 4));
    }

    #[test]
    fn a_loss_that_is_not_finite_ends_training_with_advice() {
        let mut wild = separable();
        wild.values[0] = f32::INFINITY;
        let error = fit_head(&wild, &separable(), &settings(), &|| false).expect_err("it diverges");
        assert!(matches!(error, TrainerError::Diverged { epoch: 1, .. }), "{error}");
        assert!(error.to_string().contains("lower the learning rate (it is 0.1)"), "{error}");
    }

    #[test]
    fn a_stop_is_noticed_between_steps() {
        let asked = std::cell::Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 2
        };
        let error = fit_head(&separable(), &separable(), &settings(), &stop).expect_err("it was stopped");
        assert!(matches!(error, TrainerError::Cancelled));
        assert_eq!(asked.get(), 3);
    }

    #[test]
    fn the_cosine_goes_from_the_peak_to_almost_nothing() {
        assert_eq!(cosine(0.2, 0, 100), 0.2);
        assert!((cosine(0.2, 50, 100) - 0.1).abs() < 1e-12);
        assert!(cosine(0.2, 99, 100) < 1e-4);
    }

    #[test]
    fn dropout_drops_its_share_and_keeps_the_mean() {
        let network = Network::new(&[50], &[Layer::Dropout { rate: 0.25 }, Layer::Dense { units: 2 }]);
        let masks = draw_masks(&network, 200, &mut generator(1, Purpose::Dropout, 1));
        assert_eq!((masks.len(), masks[0].len()), (1, 10_000));
        let dropped = masks[0].iter().filter(|&&m| m == 0.0).count() as f64 / 1e4;
        let mean = masks[0].iter().map(|&m| f64::from(m)).sum::<f64>() / 1e4;
        assert!((dropped - 0.25).abs() < 0.02, "{dropped} of the values were dropped");
        assert!((mean - 1.0).abs() < 0.02, "the mean became {mean}");
    }
}
