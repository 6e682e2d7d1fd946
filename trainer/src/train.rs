//! Fitting a network: epochs of AdamW steps, validation after each.
//!
//! Works on any feed; knows nothing of families, files or pictures.

use std::{sync::mpsc, time::Instant};

use api::train::{EpochMetrics, Settings};

use crate::{
    Result, TrainerError,
    data::Samples,
    engine::Engine,
    evaluate::Evaluation,
    model::{Feed, Network, Weights},
    monitor::Monitor,
    optimiser::{Evaluator, Optimiser},
    sampling::{Epoch, Prepared},
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

/// A fit after one of its epochs: all that is needed to go on from there and come to the very same end.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Optimiser steps so far.
    pub steps: u64,
    /// Weights, moments and averages, as [`Optimiser::state`] gives them.
    pub state: Vec<Vec<f32>>,
    /// One entry per epoch.
    pub curves: Vec<EpochMetrics>,
    /// Deciding loss, epoch and weights of the best epoch so far.
    pub best: (f64, u32, Weights),
}

/// Where a fit leaves its checkpoints. `()` keeps none.
pub trait Keeper {
    /// What an earlier fit of the same settings and samples left; asked once, in front of the first epoch.
    fn restore(&mut self) -> Result<Option<Kept>>;

    /// Keeps a checkpoint in place of the one before.
    fn keep(&mut self, kept: &Kept) -> Result<()>;

    /// Whether anything will be kept; a checkpoint that nobody wants is not made.
    fn is_wanted(&self) -> bool {
        true
    }
}

impl Keeper for () {
    fn restore(&mut self) -> Result<Option<Kept>> {
        Ok(None)
    }

    fn keep(&mut self, _: &Kept) -> Result<()> {
        Ok(())
    }

    fn is_wanted(&self) -> bool {
        false
    }
}

/// What is fitted, and on what.
#[derive(Clone, Copy)]
pub struct Lesson<'a> {
    /// What leads to the network's input.
    pub feed: &'a Feed,
    /// What is trained.
    pub network: &'a Network,
    /// Weights to start from.
    pub first: &'a Weights,
    /// Fits the weights.
    pub train: &'a dyn Samples,
    /// Chooses the epoch; may be empty.
    pub validation: &'a dyn Samples,
    /// Every setting of the fit.
    pub settings: &'a Settings,
}

/// Fits a network to the train samples.
///
/// The best epoch is the one of the least validation loss; without validation samples, of the least train loss. With a
/// patience of 0 it is the last one: nothing is chosen.
///
/// # Errors
/// `Diverged` if a loss is not finite, `Cancelled` if someone asked to stop
pub fn fit(engine: &Engine, lesson: Lesson, keeper: &mut dyn Keeper, monitor: &mut Monitor) -> Result<Fit> {
    let Lesson { feed, network, train, validation, settings, .. } = lesson;
    let mut optimiser = Optimiser::new(engine, feed, network, lesson.first, settings, train.len())?;
    let mut evaluator = Evaluator::new(engine, feed, network, validation.len())?;
    let per_epoch = train.len().div_ceil(optimiser.batch_size()) as u64;
    let steps = u64::from(settings.epochs) * per_epoch;
    let diverged = |epoch, step| TrainerError::Diverged { epoch, step, learning_rate: settings.learning_rate };

    let mut curves: Vec<EpochMetrics> = vec![];
    let mut best: Option<(f64, u32, Weights)> = None;
    let mut step = 0;
    if let Some(kept) = keeper.restore()? {
        optimiser.restore(&kept.state, kept.steps)?;
        step = kept.steps;
        curves = kept.curves;
        best = Some(kept.best);
    }
    let (started, first_step) = (Instant::now(), step);
    let remaining = |step: u64| {
        let done = (step - first_step).max(1);
        started.elapsed().as_secs_f64() / done as f64 * steps.saturating_sub(step) as f64
    };
    for epoch in curves.len() as u32 + 1..=settings.epochs {
        if is_enough(settings, epoch - 1, best.as_ref()) {
            break;
        }
        let epoch_started = Instant::now();
        let plan = Epoch::new(epoch, settings, network, train, optimiser.batch_size());
        let (mut loss_sum, mut correct, mut learning_rate) = (0.0, 0.0, 0.0);
        in_order(&plan, |prepared| {
            learning_rate = schedule(settings.learning_rate, step, steps);
            let outcome = optimiser.step(&prepared, learning_rate, settings.weight_decay)?;
            step += 1;
            if !outcome.loss.is_finite() {
                return Err(diverged(epoch, step));
            }
            loss_sum += outcome.loss * prepared.n_real as f64;
            correct += outcome.correct;
            monitor.step(epoch, step, steps, outcome.loss, remaining(step))
        })?;
        let epoch_seconds = epoch_started.elapsed().as_secs_f64();
        let weights = optimiser.weights();
        let logits = evaluator.output(network, &weights, validation, false, || monitor.go_on())?;
        let validated = Evaluation::of(&logits, validation.labels(), network.n_classes() as usize);
        let loss = loss_sum / train.len() as f64;
        let deciding = validated.as_ref().map_or(loss, |v| v.loss);
        if !deciding.is_finite() {
            return Err(diverged(epoch, step));
        }
        if settings.patience == 0 || best.as_ref().is_none_or(|(least, ..)| deciding < *least) {
            best = Some((deciding, epoch, weights));
        }
        let metrics = EpochMetrics {
            epoch,
            epochs: settings.epochs,
            step,
            loss,
            accuracy: correct / train.len() as f64,
            val_loss: validated.as_ref().map(|v| v.loss),
            val_accuracy: validated.as_ref().map(|v| v.accuracy),
            learning_rate,
            images_per_second: train.len() as f64 / epoch_seconds,
            seconds: monitor.seconds(),
            remaining_seconds: remaining(step),
        };
        curves.push(metrics.clone());
        monitor.epoch(metrics)?;
        if let Some(best) = best.as_ref().filter(|_| keeper.is_wanted()) {
            let (state, curves) = (optimiser.state(), curves.clone());
            keeper.keep(&Kept { epoch, steps: step, state, curves, best: best.clone() })?;
        }
    }
    let (_, best_epoch, weights) = best.expect("there is at least one epoch");
    Ok(Fit { weights, curves, best_epoch })
}

/// Whether the fit has waited long enough for a better epoch.
fn is_enough(settings: &Settings, epoch: u32, best: Option<&(f64, u32, Weights)>) -> bool {
    settings.patience > 0 && best.is_some_and(|(_, best, _)| epoch - best >= settings.patience)
}

/// Prepares batches on a thread of its own while the one before is worked on.
fn in_order(plan: &Epoch, mut work: impl FnMut(Prepared) -> Result<()>) -> Result<()> {
    /// Batches that lie ready.
    const AHEAD: usize = 2;
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel(AHEAD);
        scope.spawn(move || {
            for prepared in plan.batches() {
                // Nobody listens any more once a step has failed.
                if send.send(prepared).is_err() {
                    break;
                }
            }
        });
        receive.into_iter().try_for_each(&mut work)
    })
}

/// Learning rate of a step: up to the peak within a tenth of the steps, at most ten, then down to almost nothing.
///
/// # Source
/// Loshchilov and Hutter, "SGDR", 2017, without restarts
fn schedule(peak: f64, step: u64, steps: u64) -> f64 {
    let warm_up = (steps / 10).min(10);
    let warmth = (step as f64 + 1.0) / (warm_up as f64 + 1.0);
    0.5 * peak * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos()) * warmth.min(1.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::train::{Augmentation, Family};

    use super::*;
    use crate::{
        data::{FeatureSamples, Values},
        random::{Purpose, generator},
        recipe,
        testing::library,
    };

    static ALL: [usize; 6] = [0, 1, 2, 3, 4, 5];

    fn features(values: &[f32], labels: &[u32]) -> FeatureSamples<'static> {
        FeatureSamples::new(vec![Arc::new(values.to_vec()) as Values], vec![2], &ALL, labels)
    }

    struct Head {
        engine: Engine,
        feed: Feed,
        network: Network,
        first: Weights,
        settings: Settings,
    }

    impl Head {
        /// A linear head on two features.
        fn new(settings: Settings) -> Self {
            let engine = Engine::load_from(library()).expect("ONNX Runtime");
            let feed = Feed::Features { shape: vec![2] };
            let network = recipe::network(&settings, &[2], 2);
            let first = network.first_weights(&mut generator(settings.seed, Purpose::Weights, 0));
            Self { engine, feed, network, first, settings }
        }

        fn fit(&self, train: &dyn Samples, validation: &dyn Samples, keeper: &mut dyn Keeper) -> Result<Fit> {
            self.fit_until(&|| false, train, validation, keeper)
        }

        fn fit_until(
            &self,
            stop: &dyn Fn() -> bool,
            train: &dyn Samples,
            validation: &dyn Samples,
            keeper: &mut dyn Keeper,
        ) -> Result<Fit> {
            let Self { feed, network, first, settings, .. } = self;
            let mut tell = |_: &api::train::Progress| Ok(());
            let lesson = Lesson { feed, network, first, train, validation, settings };
            fit(&self.engine, lesson, keeper, &mut Monitor::new(&mut tell, stop))
        }
    }

    fn settings() -> Settings {
        Settings {
            epochs: 20,
            batch_size: 4,
            learning_rate: 0.1,
            dropout: 0.0,
            augmentation: Augmentation::None,
            label_smoothing: 0.0,
            patience: 15,
            ..Settings::defaults(Family::Linear, 8)
        }
    }

    const POINTS: [f32; 12] = [-2.0, 1.0, -1.0, -1.0, -0.5, 0.3, 0.5, 0.2, 1.0, -1.0, 2.0, 1.0];

    /// Class 1 where the first feature is above zero.
    fn separable() -> FeatureSamples<'static> {
        features(&POINTS, &[0, 0, 0, 1, 1, 1])
    }

    #[test]
    fn a_head_separates_what_can_be_separated() {
        let fit = Head::new(settings()).fit(&separable(), &separable(), &mut ()).expect("a fit");
        assert_eq!(fit.best().val_accuracy, Some(1.0));
    }

    #[test]
    fn smoothing_mixing_clipping_and_averaging_still_separate() {
        let all = Settings {
            label_smoothing: 0.1,
            mixup: 0.2,
            clip_norm: 1.0,
            weight_average: 0.9,
            dropout: 0.1,
            epochs: 60,
            ..settings()
        };
        let fit = Head::new(all).fit(&separable(), &separable(), &mut ()).expect("a fit");
        assert_eq!(fit.best().val_accuracy, Some(1.0));
    }

    #[test]
    fn the_weights_are_those_of_the_best_epoch_unless_nothing_is_to_be_chosen() {
        // What is right for training is wrong for validation, so that the first epoch stays the best.
        let contrary = features(&POINTS, &[1, 1, 1, 0, 0, 0]);
        let patient = Head::new(Settings { patience: 20, ..settings() });
        let fit = patient.fit(&separable(), &contrary, &mut ()).expect("a fit");
        assert_eq!((fit.best_epoch, fit.curves.len()), (1, 20));
        let mut evaluator = Evaluator::new(&patient.engine, &patient.feed, &patient.network, 6).expect("a graph");
        let logits = evaluator.output(&patient.network, &fit.weights, &contrary, false, || Ok(())).expect("logits");
        let again = Evaluation::of(&logits, contrary.labels(), 2).expect("six pictures");
        assert_eq!(Some(again.loss), fit.best().val_loss);

        let of = |patience| Head::new(Settings { patience, ..settings() }).fit(&separable(), &contrary, &mut ());
        let fit = of(3).expect("a fit");
        assert_eq!((fit.best_epoch, fit.curves.len()), (1, 4));
        let fit = of(0).expect("a fit");
        assert_eq!((fit.best_epoch, fit.curves.len()), (20, 20));
    }

    /// Keeps the checkpoint of one epoch, and fails in the next as a crash would.
    struct Crash(u32, Option<Kept>);

    impl Keeper for Crash {
        fn restore(&mut self) -> Result<Option<Kept>> {
            Ok(self.1.clone())
        }

        fn keep(&mut self, kept: &Kept) -> Result<()> {
            if kept.epoch > self.0 {
                return Err(TrainerError::Cancelled);
            }
            self.1 = Some(kept.clone());
            Ok(())
        }
    }

    #[test]
    fn a_fit_that_goes_on_from_a_checkpoint_comes_to_the_same_end() {
        let head = Head::new(Settings { dropout: 0.2, mixup: 0.3, weight_average: 0.5, ..settings() });
        let whole = head.fit(&separable(), &separable(), &mut ()).expect("a fit");
        let mut crash = Crash(7, None);
        assert!(head.fit(&separable(), &separable(), &mut crash).is_err());
        let resumed = head.fit(&separable(), &separable(), &mut Crash(99, crash.1)).expect("a fit");
        assert_eq!((resumed.weights, resumed.best_epoch), (whole.weights, whole.best_epoch));
        let losses = |curves: &[EpochMetrics]| curves.iter().map(|epoch| epoch.loss).collect::<Vec<_>>();
        assert_eq!(losses(&resumed.curves), losses(&whole.curves));
    }

    #[test]
    fn a_loss_that_is_not_finite_ends_training_with_advice() {
        let mut wild = POINTS;
        wild[0] = f32::INFINITY;
        let wild = features(&wild, &[0, 0, 0, 1, 1, 1]);
        let error = Head::new(settings()).fit(&wild, &separable(), &mut ()).expect_err("it diverges");
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
        let stopped = Head::new(settings()).fit_until(&stop, &separable(), &separable(), &mut ());
        assert!(matches!(stopped, Err(TrainerError::Cancelled)));
        assert_eq!(asked.get(), 3);
    }

    #[test]
    fn the_learning_rate_warms_up_and_falls_to_almost_nothing() {
        let rates: Vec<f64> = (0..200).map(|step| schedule(1.0, step, 200)).collect();
        assert!(rates[0] < 0.1 && rates[..10].windows(2).all(|pair| pair[0] < pair[1]), "{rates:?}");
        assert!(rates[10] > 0.99 && rates[10..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!(rates[199] < 1e-3);
    }
}
