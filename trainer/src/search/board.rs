//! What the search knows of its candidates: their answers, how they compare, which is best.
//!
//! Candidates are compared by cross-entropy after temperature scaling, picture by picture: that tells close ones apart
//! with far fewer pictures than counting mistakes does, and cancels how hard the pictures are.

use api::train::{Candidate, CandidateState, Settings};

use super::{cost::Cost, schedule::Schedule};
use crate::{
    calibration::{Labelled, calibrated, temperature},
    evaluate::{cross_entropy, predicted},
};

/// A candidate with everything known of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it would be fitted with in the end.
    pub settings: Settings,
    /// What its final fit costs.
    pub cost: Cost,
    /// Share of its epochs that it is tried with.
    pub effort: f64,
    /// Per finished round, per trial: logits `[asked, n_classes]`.
    pub answers: Vec<Vec<Vec<f32>>>,
    /// As it is told.
    pub told: Candidate,
    /// Cross-entropy of every picture it was asked about, in the order of rounds.
    losses: Vec<Vec<f64>>,
}

/// How two candidates compare on the pictures that both were asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// By how much the first one's cross-entropy is less, on average.
    pub advantage: f64,
    /// Standard error of that.
    pub error: f64,
}

impl Entry {
    /// A candidate that was not tried yet.
    pub fn new(number: u32, settings: Settings, cost: Cost) -> Self {
        let told = Candidate {
            number,
            settings: settings.clone(),
            state: CandidateState::Running,
            rounds: 0,
            folds: 0,
            val_accuracy: None,
            val_loss: None,
            seconds: 0.0,
            reason: None,
        };
        Self { settings, cost, effort: 1.0, answers: vec![], told, losses: vec![] }
    }

    /// Rounds that it has finished.
    pub fn rounds(&self) -> usize {
        self.answers.len()
    }

    /// Whether it has figures to be judged by.
    pub fn was_tried(&self) -> bool {
        self.rounds() > 0 && self.told.state != CandidateState::Failed
    }

    /// Epochs of its trials.
    pub fn trial_epochs(&self) -> u32 {
        ((f64::from(self.settings.epochs) * self.effort).round() as u32).max(1)
    }

    /// Takes in the answers of one more round.
    pub fn finish_round(&mut self, answers: Vec<Vec<f32>>, schedule: &Schedule, labels: &[u32], n_classes: usize) {
        self.answers.push(answers);
        let first = if schedule.cross_validated { 0 } else { self.rounds() - 1 };
        let judged = self.pooled(schedule, labels, first);
        let of = Labelled { logits: &judged.0, labels: &judged.1, n_classes };
        let temperature = temperature(of);
        let scaled = calibrated(of.logits, temperature);
        let rows = || scaled.chunks_exact(n_classes).zip(of.labels);
        let losses: Vec<f64> = rows().map(|(row, &label)| cross_entropy(row, label as usize)).collect();
        let right = rows().filter(|(row, label)| predicted(row) == **label as usize).count();
        let n = losses.len().max(1) as f64;
        self.told.val_loss = Some(losses.iter().sum::<f64>() / n);
        self.told.val_accuracy = Some(right as f64 / n);
        self.told.rounds = self.rounds() as u32;
        if schedule.cross_validated {
            self.told.folds = self.answers.iter().map(Vec::len).sum::<usize>() as u32;
        }
        // Earlier rounds of a cross-validation are judged anew, with the temperature of all answers.
        let mut rest = losses.as_slice();
        self.losses.truncate(first);
        for round in &schedule.rounds[first..self.rounds()] {
            let (these, others) = rest.split_at(round.iter().map(|fold| fold.asked.len()).sum());
            self.losses.push(these.to_vec());
            rest = others;
        }
    }

    /// Logits and labels of all pictures asked about from a round on.
    fn pooled(&self, schedule: &Schedule, labels: &[u32], first: usize) -> (Vec<f32>, Vec<u32>) {
        let rounds = self.answers.iter().zip(&schedule.rounds).skip(first);
        let trials = || rounds.clone().flat_map(|(answers, folds)| answers.iter().zip(folds));
        (
            trials().flat_map(|(logits, _)| logits.iter().copied()).collect(),
            trials().flat_map(|(_, fold)| fold.asked.iter().map(|&row| labels[row])).collect(),
        )
    }

    /// The answers of its last judgement: rows of the pool and their logits.
    pub fn held_out(&self, schedule: &Schedule) -> (Vec<usize>, Vec<f32>) {
        let first = if schedule.cross_validated { 0 } else { self.rounds().saturating_sub(1) };
        let rounds = || self.answers.iter().zip(&schedule.rounds).skip(first);
        let rows = rounds().flat_map(|(_, folds)| folds.iter().flat_map(|fold| fold.asked.iter().copied())).collect();
        (rows, rounds().flat_map(|(answers, _)| answers.iter().flatten().copied()).collect())
    }

    /// This candidate against another one, in the rounds that both have finished.
    pub fn against(&self, other: &Self, schedule: &Schedule) -> Comparison {
        let common = self.rounds().min(other.rounds());
        let first = if schedule.cross_validated { 0 } else { common.saturating_sub(1) };
        let of = |entry: &Self| entry.losses[first..common].iter().flatten().copied().collect::<Vec<f64>>();
        let differences: Vec<f64> = of(self).iter().zip(of(other)).map(|(mine, theirs)| theirs - mine).collect();
        let n = differences.len().max(1) as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
        Comparison { advantage: mean, error: (squares / (n - 1.0).max(1.0) / n).sqrt() }
    }
}

/// Positions of the tried candidates, the best first.
///
/// Each is measured against the one that was tried most, so that candidates which were asked about different pictures
/// can still be put in order.
pub fn ranking(entries: &[Entry], schedule: &Schedule) -> Vec<usize> {
    let mut tried: Vec<usize> = (0..entries.len()).filter(|&at| entries[at].was_tried()).collect();
    let Some(&reference) = tried.iter().max_by_key(|&&at| (entries[at].rounds(), std::cmp::Reverse(at))) else {
        return vec![];
    };
    let advantage = |at: usize| entries[at].against(&entries[reference], schedule).advantage;
    tried.sort_by(|&a, &b| advantage(b).total_cmp(&advantage(a)).then(a.cmp(&b)));
    tried
}
