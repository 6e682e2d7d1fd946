//! What the search knows of its candidates: their answers, how they compare, which is best.
//!
//! Candidates are compared by cross-entropy after temperature scaling, picture by picture: that tells close ones apart
//! with far fewer pictures than counting mistakes does, and cancels how hard the pictures are.

use api::train::{Candidate, CandidateState, Family, Settings};

use super::{cost::Cost, schedule::Schedule};
use crate::{
    answers::Answers,
    calibration::{Labelled, calibrated, temperature},
    evaluate::{cross_entropy, predicted},
};

/// Standard errors by which a candidate is put in front of where it stands if the budget kept its trials from all of its
/// epochs, with which it would have done better.
const BENEFIT: f64 = 1.0;

/// The same for a backbone that is trained on with as many epochs as its recipe has, if the budget kept it from those or
/// from all of its rounds: it is passed over only if it is clearly worse, and recognises fewer pictures besides. On most data
/// it is better than a head on the frozen one, and that weighs more than a few pictures do, of which one or two that a network
/// is wrongly sure of can decide the mean cross-entropy.
///
/// # Source
/// Kornblith et al., "Do better ImageNet models transfer better?", 2019; and our own figures, in `benches/NOTES.md`
const BENEFIT_OF_TUNING: f64 = 2.0;

/// A candidate with everything known of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it would be fitted with in the end.
    pub settings: Settings,
    /// What its final fit costs.
    pub cost: Cost,
    /// Epochs that it would have with a budget without end.
    pub whole_epochs: u32,
    /// Share of its epochs that it is tried with.
    pub effort: f64,
    /// Whether the budget had no room for all of its rounds beside its final fit when it had finished the first.
    pub is_cut_short: bool,
    /// Per finished round, per trial: those for the rows that were asked about.
    pub answers: Vec<Vec<Answers>>,
    /// As it is told.
    pub told: Candidate,
    /// Per judged round, of every picture it was asked about: cross-entropy, and whether it was recognised.
    judged: Vec<Vec<(f64, bool)>>,
}

/// How two candidates compare on the pictures that both were asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// By how much the first one's cross-entropy is less, on average.
    pub advantage: f64,
    /// Standard error of that.
    pub error: f64,
    /// Shares of these pictures that the first and the second one recognise, 0..=1.
    pub accuracies: (f64, f64),
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
            pictures: 0,
            multiply_adds: (cost.per_picture > 0).then_some(cost.per_picture),
            seconds: 0.0,
            reason: None,
        };
        let whole_epochs = settings.epochs;
        Self { settings, cost, whole_epochs, effort: 1.0, is_cut_short: false, answers: vec![], told, judged: vec![] }
    }

    /// Rounds that it has finished.
    pub fn rounds(&self) -> usize {
        self.answers.len()
    }

    /// Whether it has figures to be judged by.
    pub fn was_tried(&self) -> bool {
        self.rounds() > 0 && self.told.state != CandidateState::Failed
    }

    /// Whether the budget kept it from being tried as much as others.
    pub fn is_tried_in_part(&self) -> bool {
        self.effort < 1.0 || self.is_cut_short
    }

    /// Whether it trains a backbone on, by the whole recipe, and the budget kept it from being tried as much as others.
    fn is_promising(&self) -> bool {
        let usual = Settings::defaults(self.settings.family, self.settings.input_size).epochs;
        self.settings.family == Family::FineTune && self.settings.epochs >= usual && self.is_tried_in_part()
    }

    /// By how much its cross-entropy is less, with the benefit of doubt.
    pub fn expected_advantage(&self, comparison: &Comparison) -> f64 {
        let Comparison { advantage, error, accuracies } = *comparison;
        match self.is_promising() {
            true if accuracies.0 >= accuracies.1 => (advantage + BENEFIT_OF_TUNING * error).max(f64::MIN_POSITIVE),
            true => advantage + BENEFIT_OF_TUNING * error,
            false if self.effort < 1.0 => advantage + BENEFIT * error,
            false => advantage,
        }
    }

    /// Epochs of its trials.
    pub fn trial_epochs(&self) -> u32 {
        ((f64::from(self.settings.epochs) * self.effort).round() as u32).max(1)
    }

    /// Takes in the answers of one more round.
    pub fn finish_round(&mut self, answers: Vec<Answers>, schedule: &Schedule, labels: &[u32], n_classes: usize) {
        self.answers.push(answers);
        let first = if schedule.cross_validated { 0 } else { self.rounds() - 1 };
        let (logits, labels) = self.pooled(schedule, labels, first);
        let of = Labelled { logits: &logits, labels: &labels, n_classes };
        let scaled = calibrated(&logits, temperature(of));
        let judge = |row: &[f32], label: usize| (cross_entropy(row, label), predicted(row) == label);
        let rows = scaled.chunks_exact(n_classes).zip(&labels);
        let judged: Vec<(f64, bool)> = rows.map(|(row, &label)| judge(row, label as usize)).collect();
        let (loss, accuracy) = means(&judged);
        self.told.val_loss = Some(loss);
        self.told.val_accuracy = Some(accuracy);
        self.told.pictures = judged.len() as u64;
        self.told.rounds = self.rounds() as u32;
        if schedule.cross_validated {
            self.told.folds = self.answers.iter().map(Vec::len).sum::<usize>() as u32;
        }
        // Earlier rounds of a cross-validation are judged anew, with the temperature of all answers.
        let mut rest = judged.as_slice();
        self.judged.truncate(first);
        for round in &schedule.rounds[first..self.rounds()] {
            let (these, others) = rest.split_at(round.iter().map(|fold| fold.asked.len()).sum());
            self.judged.push(these.to_vec());
            rest = others;
        }
    }

    /// Logits and labels of all pictures asked about from a round on.
    fn pooled(&self, schedule: &Schedule, labels: &[u32], first: usize) -> (Vec<f32>, Vec<u32>) {
        let rounds = self.answers.iter().zip(&schedule.rounds).skip(first);
        let trials = || rounds.clone().flat_map(|(answers, folds)| answers.iter().zip(folds));
        (
            trials().flat_map(|(answers, _)| answers.logits.iter().copied()).collect(),
            trials().flat_map(|(_, fold)| fold.asked.iter().map(|&row| labels[row])).collect(),
        )
    }

    /// Rows of the pool that its last judgement was on, and the answers for them.
    pub fn held_out(&self, schedule: &Schedule) -> (Vec<usize>, Answers) {
        let first = if schedule.cross_validated { 0 } else { self.rounds().saturating_sub(1) };
        let rounds = || self.answers.iter().zip(&schedule.rounds).skip(first);
        let rows = rounds().flat_map(|(_, folds)| folds.iter().flat_map(|fold| fold.asked.iter().copied())).collect();
        let mut all = Answers::default();
        rounds().flat_map(|(answers, _)| answers).for_each(|answers| all.extend(answers));
        (rows, all)
    }

    /// By how much its cross-entropy will fall further on twice the pictures of its last round: as much as it fell with
    /// each doubling from its first round on. 0 where rounds do not differ in their pictures, or there was only one.
    ///
    /// # Source
    /// Hestness et al., "Deep learning scaling is predictable, empirically", 2017: losses fall steadily with doublings
    pub fn outlook(&self, schedule: &Schedule) -> f64 {
        if schedule.cross_validated || self.rounds() < 2 {
            return 0.0;
        }
        let fitted = |round: usize| schedule.rounds[round].iter().map(|fold| fold.train.len()).sum::<usize>() as f64;
        let loss = |round: usize| means(&self.judged[round]).0;
        let last = self.rounds() - 1;
        let doublings = (fitted(last) / fitted(0)).log2();
        if doublings > 0.0 { ((loss(0) - loss(last)) / doublings).max(0.0) } else { 0.0 }
    }

    /// This candidate against another one, in the rounds that both have finished.
    pub fn against(&self, other: &Self, schedule: &Schedule) -> Comparison {
        let common = self.rounds().min(other.rounds());
        let first = if schedule.cross_validated { 0 } else { common.saturating_sub(1) };
        let of = |entry: &Self| entry.judged[first..common].concat();
        let (mine, theirs) = (of(self), of(other));
        let differences: Vec<f64> = mine.iter().zip(&theirs).map(|((mine, _), (theirs, _))| theirs - mine).collect();
        let n = differences.len().max(1) as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
        let error = (squares / (n - 1.0).max(1.0) / n).sqrt();
        Comparison { advantage: mean, error, accuracies: (means(&mine).1, means(&theirs).1) }
    }
}

/// Mean cross-entropy, and the share that was recognised.
fn means(judged: &[(f64, bool)]) -> (f64, f64) {
    let n = judged.len().max(1) as f64;
    let right = judged.iter().filter(|(_, right)| *right).count();
    (judged.iter().map(|(loss, _)| loss).sum::<f64>() / n, right as f64 / n)
}

/// Positions of the tried candidates, the best first.
///
/// Each is measured against the best of those that were tried most, on the pictures that both were asked about: one that
/// was asked about easy pictures only is in front of it only if it was better on them. One that the budget kept from all of
/// its epochs gets the [benefit of doubt](Entry::expected_advantage). And where rounds differ in their pictures, those that
/// were tried most are compared as their [outlook](Entry::outlook) is.
pub fn ranking(entries: &[Entry], schedule: &Schedule) -> Vec<usize> {
    let mut tried: Vec<usize> = (0..entries.len()).filter(|&at| entries[at].was_tried()).collect();
    let most = tried.iter().map(|&at| entries[at].rounds()).max();
    let loss = |at: usize| entries[at].told.val_loss.unwrap_or(f64::INFINITY);
    let longest = tried.iter().copied().filter(|&at| Some(entries[at].rounds()) == most);
    let Some(reference) = longest.min_by(|&a, &b| loss(a).total_cmp(&loss(b))) else { return vec![] };
    let advantage = |at: usize| {
        let comparison = entries[at].against(&entries[reference], schedule);
        let is_longest = Some(entries[at].rounds()) == most;
        let outlook =
            if is_longest { entries[at].outlook(schedule) - entries[reference].outlook(schedule) } else { 0.0 };
        entries[at].expected_advantage(&comparison) + outlook
    };
    tried.sort_by(|&a, &b| advantage(b).total_cmp(&advantage(a)).then(a.cmp(&b)));
    tried
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folds::Fold;

    /// A candidate that gives the true class of each picture this logit, and the other one none.
    fn entry(number: u32, rounds: &[&[f32]], schedule: &Schedule) -> Entry {
        let cost = Cost { features: None, features_seconds: 0.0, fit_seconds: 1.0, after_seconds: 0.0, per_picture: 1 };
        let mut entry = Entry::new(number, Settings::defaults(Family::Cnn, 32), cost);
        entry.told.state = CandidateState::Tried;
        for round in rounds {
            let logits = round.iter().flat_map(|&logit| [logit, 0.0]).collect();
            let answers = Answers { logits, strangeness: round.to_vec() };
            entry.finish_round(vec![answers], schedule, &[0; 8], 2);
        }
        entry
    }

    fn schedule() -> Schedule {
        let fold = |asked: std::ops::Range<usize>| {
            vec![Fold { train: (0..8).filter(|row| !asked.contains(row)).collect(), asked: asked.collect() }]
        };
        Schedule { rounds: vec![fold(0..4), fold(4..8)], cross_validated: true }
    }

    #[test]
    fn a_candidate_that_was_asked_less_is_judged_on_what_both_were_asked() {
        let schedule = schedule();
        // The first round's pictures are easy, the second one's hard.
        let thorough = entry(1, &[&[4.0, 4.0, 4.0, 4.0], &[1.0, 1.0, -1.0, -1.0]], &schedule);
        let worse = entry(2, &[&[3.0, 1.0, 1.0, -2.0], &[1.0, -1.0, -1.0, -1.0]], &schedule);
        let lucky = entry(3, &[&[4.0, 4.0, 4.0, -1.0]], &schedule);
        assert!(lucky.told.val_loss < thorough.told.val_loss, "its figure is better, for its pictures are easier");
        let order = ranking(&[worse, lucky.clone(), thorough.clone()], &schedule);
        assert_eq!(order[0], 2);
        assert!(lucky.against(&thorough, &schedule).advantage < 0.0);
    }

    #[test]
    fn a_candidate_with_a_part_of_its_epochs_gets_the_benefit_of_doubt() {
        let schedule = schedule();
        let whole = entry(1, &[&[2.0, 2.0, 2.0, -1.0]], &schedule);
        let mut part = entry(2, &[&[0.5, 3.5, 3.5, -1.0]], &schedule);
        assert!(part.against(&whole, &schedule).advantage < 0.0);
        assert_eq!(ranking(&[part.clone(), whole.clone()], &schedule)[0], 1);
        let cut_short = Entry { is_cut_short: true, ..part.clone() };
        assert_eq!(ranking(&[cut_short.clone(), whole.clone()], &schedule)[0], 1, "it had all of its epochs");
        let tuned = Entry { settings: Settings::defaults(Family::FineTune, 32), ..cut_short };
        assert_eq!(ranking(&[tuned, whole.clone()], &schedule)[0], 0, "it has to be clearly worse");
        part.effort = 0.5;
        assert_eq!(ranking(&[part.clone(), whole.clone()], &schedule)[0], 0);

        let mut worse = entry(3, &[&[0.5, 2.5, 2.5, -1.9]], &schedule);
        worse.effort = 0.5;
        let Comparison { advantage, error, .. } = worse.against(&whole, &schedule);
        assert!((-2.0..-1.0).contains(&(advantage / error)), "{advantage} ± {error}");
        assert_eq!(ranking(&[worse.clone(), whole.clone()], &schedule)[0], 1);
        worse.settings = Settings::defaults(Family::FineTune, 32);
        assert_eq!(ranking(&[worse.clone(), whole.clone()], &schedule)[0], 0, "it has to be clearly worse");
        worse.settings.epochs /= 2;
        assert_eq!(ranking(&[worse, whole], &schedule)[0], 1, "this is not the recipe that is known to be good");
    }

    #[test]
    fn the_whole_recipe_is_passed_over_only_if_it_recognises_fewer_pictures_too() {
        let schedule = schedule();
        let tuned = |rounds: &[&[f32]]| {
            let settings = Settings::defaults(Family::FineTune, 32);
            Entry { settings, effort: 0.5, ..entry(2, rounds, &schedule) }
        };
        let order = |tuned: Entry, head: Entry| {
            let Comparison { advantage, error, .. } = tuned.against(&head, &schedule);
            assert!(advantage + 2.0 * error < 0.0, "{advantage} ± {error}");
            ranking(&[head, tuned], &schedule)
        };
        let as_many = tuned(&[&[1.0, 1.0, 1.0, -1.0]]);
        assert_eq!(order(as_many, entry(1, &[&[4.0, 4.0, 4.0, -1.0]], &schedule)), [1, 0]);
        let fewer = tuned(&[&[1.0, -1.0, -1.0, -1.0]]);
        assert_eq!(order(fewer, entry(1, &[&[4.0, 4.0, 4.0, 4.0]], &schedule)), [0, 1]);
    }

    #[test]
    fn a_loss_that_fell_with_more_pictures_is_expected_to_fall_on() {
        let rounds = [1000, 4000].map(|n| vec![Fold { train: (8..8 + n).collect(), asked: (0..4).collect() }]);
        let schedule = Schedule { rounds: rounds.into(), cross_validated: false };
        let steady = entry(1, &[&[1.0, -1.0, 1.0, 1.0], &[1.0, -1.0, 1.1, 1.1]], &schedule);
        let learning = entry(2, &[&[-1.0, -1.0, 1.0, 1.0], &[1.0, -1.0, 1.0, 1.0]], &schedule);
        let losses = |entry: &Entry| [0, 1].map(|round| means(&entry.judged[round]).0);
        let [before, after] = losses(&learning);
        assert!((learning.outlook(&schedule) - (before - after) / 2.0).abs() < 1e-12, "two doublings lie between");
        assert!(after > losses(&steady)[1] && learning.outlook(&schedule) > steady.outlook(&schedule));
        assert_eq!(ranking(&[steady.clone(), learning.clone()], &schedule), [1, 0]);

        let once = entry(3, &[&[1.0, 1.0, 1.0, -1.0]], &schedule);
        assert_eq!(once.outlook(&schedule), 0.0);
        let cross_validated = Schedule { cross_validated: true, ..schedule };
        assert_eq!(learning.outlook(&cross_validated), 0.0);
    }

    #[test]
    fn figures_are_those_of_all_rounds_of_a_cross_validation() {
        let schedule = schedule();
        let entry = entry(1, &[&[1.0, 1.0, 1.0, -1.0], &[1.0, -1.0, 1.0, 1.0]], &schedule);
        assert_eq!((entry.told.rounds, entry.told.folds, entry.told.val_accuracy), (2, 2, Some(0.75)));
        assert_eq!((entry.told.pictures, entry.told.multiply_adds), (8, Some(1)));
        let (rows, answers) = entry.held_out(&schedule);
        assert_eq!((rows, answers.logits.len()), ((0..8).collect(), 16));
        assert_eq!(answers.strangeness, [1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0]);
        let itself = entry.against(&entry, &schedule);
        assert_eq!((itself.advantage, itself.error), (0.0, 0.0));
    }
}
