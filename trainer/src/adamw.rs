//! AdamW: what a step makes of the gradients.
//!
//! Each weight is read and written once a step. As a chain of graph operators, each of which writes what the next one
//! reads, this took more than half of the time of fine-tuning.
//!
//! # Source
//! Kingma and Ba, "Adam", 2015, with its section 2 order of computation; Loshchilov and Hutter, "Decoupled weight decay
//! regularization", 2019; Pascanu et al., "On the difficulty of training recurrent neural networks", 2013 (clipping)

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    Result, TrainerError,
    model::{Network, Parameter, Weights},
};

/// Share of the first moment that stays.
const BETA1: f64 = 0.9;
/// Share of the second moment that stays.
const BETA2: f64 = 0.999;
/// Keeps the step finite where gradients vanish.
const EPSILON: f64 = 1e-8;

/// What is the same for all weights in one step.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Learning rate with both bias corrections folded in.
    size: f32,
    /// [`EPSILON`] with the second bias correction folded in.
    epsilon: f32,
    /// Share of a weight that decoupled weight decay takes away.
    decay: f32,
    /// What all gradients are shortened by.
    factor: f32,
    /// Share of the running average that stays.
    keep: f32,
}

/// One parameter and what belongs to it.
#[derive(Clone, Debug)]
struct Moving {
    weights: Vec<f32>,
    means: Vec<f32>,
    variances: Vec<f32>,
    /// Empty where no average is kept.
    averages: Vec<f32>,
}

/// A network's weights with their moments and, if wanted, their running average.
#[derive(Clone, Debug)]
pub struct AdamW {
    parameters: Vec<Parameter>,
    moving: Vec<Moving>,
    clip_norm: f64,
    weight_average: f64,
    steps: u64,
}

impl AdamW {
    /// Begins with these weights and without momentum. A clip norm of 0 is any length; a weight average of 0 is none.
    pub fn new(network: &Network, weights: &Weights, clip_norm: f64, weight_average: f64) -> Self {
        let moving = weights.iter().map(|weights| Moving {
            weights: weights.clone(),
            means: vec![0.0; weights.len()],
            variances: vec![0.0; weights.len()],
            averages: if weight_average > 0.0 { weights.clone() } else { vec![] },
        });
        let moving = moving.collect();
        Self { parameters: network.parameters().to_vec(), moving, clip_norm, weight_average, steps: 0 }
    }

    /// Moves the weights against the gradients, of which there is one per parameter.
    pub fn step(&mut self, gradients: &[&[f32]], learning_rate: f64, weight_decay: f64) {
        self.steps += 1;
        let exponent = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (correction1, correction2) = (1.0 - BETA1.powi(exponent), 1.0 - BETA2.powi(exponent));
        // A short memory at first, so that the average soon forgets the first weights.
        let keep = self.weight_average.min((1.0 + self.steps as f64) / (10.0 + self.steps as f64));
        let step = Step {
            size: (learning_rate * correction2.sqrt() / correction1) as f32,
            epsilon: (EPSILON * correction2.sqrt()) as f32,
            decay: (learning_rate * weight_decay) as f32,
            factor: self.factor(gradients),
            keep: keep as f32,
        };
        let all = self.moving.par_iter_mut().zip(&self.parameters).zip(gradients);
        all.for_each(|((moving, parameter), gradient)| moving.step(parameter, gradient, step));
    }

    /// Shortens all gradients alike if they are longer together than allowed.
    fn factor(&self, gradients: &[&[f32]]) -> f32 {
        if self.clip_norm == 0.0 {
            return 1.0;
        }
        let all = self.parameters.par_iter().zip(gradients);
        // Added up in the parameters' order, so that the sum is the same every time.
        let squares: Vec<f64> = all.map(|(parameter, gradient)| square(parameter, gradient)).collect();
        let length = squares.iter().sum::<f64>().sqrt();
        (self.clip_norm / length.max(self.clip_norm)) as f32
    }

    /// The present weights, parameter by parameter.
    pub fn weights(&self) -> impl Iterator<Item = &[f32]> {
        self.moving.iter().map(|moving| moving.weights.as_slice())
    }

    /// The weights as they are used: their running average where one is kept.
    pub fn shown(&self) -> Weights {
        let shown = |moving: &Moving| match moving.averages.is_empty() {
            true => moving.weights.clone(),
            false => moving.averages.clone(),
        };
        self.moving.iter().map(shown).collect()
    }

    /// Weights, moments and averages of each parameter in turn.
    pub fn state(&self) -> Vec<Vec<f32>> {
        let of = |moving: &Moving| {
            let Moving { weights, means, variances, averages } = moving.clone();
            [weights, means, variances, averages]
        };
        self.moving.iter().flat_map(of).collect()
    }

    /// Goes on from a state after so many steps.
    ///
    /// # Errors
    /// `Checkpoint` if it is of another network
    pub fn restore(&mut self, state: &[Vec<f32>], steps: u64) -> Result<()> {
        let lengths = |moving: &Moving| {
            let Moving { weights, means, variances, averages } = moving;
            [weights, means, variances, averages].map(Vec::len)
        };
        if !state.iter().map(Vec::len).eq(self.moving.iter().flat_map(lengths)) {
            return Err(TrainerError::Checkpoint("its weights are those of another network".into()));
        }
        for (moving, state) in self.moving.iter_mut().zip(state.chunks_exact(4)) {
            let [weights, means, variances, averages] = [0, 1, 2, 3].map(|at| state[at].clone());
            *moving = Moving { weights, means, variances, averages };
        }
        self.steps = steps;
        Ok(())
    }
}

impl Moving {
    fn step(&mut self, parameter: &Parameter, gradient: &[f32], step: Step) {
        let size = step.size * parameter.pace;
        let decay = if parameter.decays { step.decay * parameter.pace } else { 0.0 };
        for (range, gain) in gains(parameter) {
            let (factor, size) = (step.factor * gain, size * gain);
            let weights = self.weights[range.clone()].iter_mut();
            let moments = self.means[range.clone()].iter_mut().zip(&mut self.variances[range.clone()]);
            for ((weight, (mean, variance)), gradient) in weights.zip(moments).zip(&gradient[range]) {
                let gradient = gradient * factor;
                *mean = running(*mean, gradient, BETA1 as f32);
                *variance = running(*variance, gradient * gradient, BETA2 as f32);
                *weight -= *mean / (variance.sqrt() + step.epsilon) * size + *weight * decay;
            }
        }
        for (average, &weight) in self.averages.iter_mut().zip(&self.weights) {
            *average = running(*average, weight, step.keep);
        }
    }
}

/// `mean · keep + new · (1 - keep)`.
fn running(mean: f32, new: f32, keep: f32) -> f32 {
    new + (mean - new) * keep
}

/// A parameter's values in equal parts, each with its gain; one part where there are no gains.
fn gains(parameter: &Parameter) -> impl Iterator<Item = (Range<usize>, f32)> {
    let gains = parameter.gain.as_deref().unwrap_or(&[1.0]);
    let part = parameter.len() / gains.len().max(1);
    gains.iter().enumerate().map(move |(index, &gain)| (index * part..(index + 1) * part, gain))
}

/// Squared length of a gradient with its gains.
fn square(parameter: &Parameter, gradient: &[f32]) -> f64 {
    /// Sums side by side, which the processor adds up at once.
    const LANES: usize = 8;
    let parts = gains(parameter).map(|(range, gain)| {
        let mut lanes = [0f32; LANES];
        for some in gradient[range].chunks(LANES) {
            for (lane, value) in lanes.iter_mut().zip(some) {
                *lane += value * value;
            }
        }
        lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() * f64::from(gain).powi(2)
    });
    parts.sum()
}
