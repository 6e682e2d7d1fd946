//! What of the budget is left, and in which form a candidate still fits into it.

use api::train::{CandidateState, Family, Settings};

use super::{Search, board::Entry, cost::Cost};
use crate::{Result, TrainerError};

/// Share of the budget that nothing is planned for: reading, calibrating, writing files.
const SPARE: f64 = 0.1;

/// Share of the budget that a head's features may take where pictures are many and other features are there already: which
/// backbone is chosen matters less there than time for other families.
const FURTHER_FEATURES: f64 = 0.05;

/// Shares of its epochs that a costly candidate may be tried with first, where the budget does not allow for all.
const EFFORTS: [f64; 3] = [1.0, 0.5, 0.25];

impl Search<'_> {
    /// Seconds of the budget that nothing was planned for.
    pub(super) fn rest(&self) -> f64 {
        self.question.budget_seconds * (1.0 - SPARE) - self.planned
    }

    /// The first form of a candidate whose first trial and final fit take no more than `part`, or at least no more than
    /// what is left of the budget; a dropped or failed entry if there is none; nothing if it was considered before.
    pub(super) fn affordable_form(&self, forms: &[Settings], part: f64) -> Option<Entry> {
        let number = self.entries.len() as u32 + 1;
        let whole_epochs = forms.iter().map(|settings| settings.epochs).max().unwrap_or_default();
        let mut least: Option<(f64, Entry)> = None;
        let mut too_many = None;
        for settings in forms {
            if self.entries.iter().any(|entry| entry.settings == *settings) {
                return None;
            }
            for effort in EFFORTS {
                let mut entry = match self.bench.cost(settings, self.question.n_final) {
                    Ok(cost) => Entry::new(number, settings.clone(), cost),
                    Err(error) => return Some(failed(number, settings, &error)),
                };
                (entry.whole_epochs, entry.effort) = (whole_epochs, effort);
                if self.is_one_backbone_too_many(&entry) {
                    too_many = Some(entry);
                    continue;
                }
                let needed = match self.round_seconds(&entry, 0) {
                    Ok(trial) => trial + entry.cost.final_seconds(),
                    Err(error) => return Some(failed(number, settings, &error)),
                };
                if needed <= part {
                    return Some(entry);
                }
                if least.as_ref().is_none_or(|(seconds, _)| needed < *seconds) {
                    least = Some((needed, entry));
                }
            }
        }
        let Some((needed, mut entry)) = least else {
            let mut entry: Entry = too_many?;
            entry.told.state = CandidateState::Dropped;
            let seconds = self.unpaid_seconds(&entry);
            let reason =
                format!("its features would take {seconds:.0} s; with as many pictures that is left to others");
            entry.told.reason = Some(reason);
            return Some(entry);
        };
        if needed > self.rest() {
            entry.told.state = CandidateState::Dropped;
            let rest = self.rest().max(0.0);
            let reason =
                format!("a trial and the final fit would take {needed:.0} s; {rest:.0} s of the budget were left");
            entry.told.reason = Some(reason);
        }
        Some(entry)
    }

    /// Whether a head needs features beside those that are there which take too large a part of the budget.
    fn is_one_backbone_too_many(&self, entry: &Entry) -> bool {
        let is_head = matches!(entry.settings.family, Family::Linear | Family::Mlp);
        let most = FURTHER_FEATURES * self.question.budget_seconds;
        let is_few = self.schedule().cross_validated || self.paid.is_empty();
        is_head && !is_few && self.unpaid_seconds(entry) > most
    }

    /// Seconds of the reference machine that one round of a candidate takes, features that are missing included.
    pub(super) fn round_seconds(&self, entry: &Entry, round: usize) -> Result<f64> {
        let settings = Settings { epochs: entry.trial_epochs(), ..entry.settings.clone() };
        let mut seconds = self.unpaid_seconds(entry);
        for fold in &self.schedule().rounds[round] {
            seconds += self.bench.cost(&settings, fold.train.len())?.fit_seconds;
        }
        Ok(seconds)
    }

    pub(super) fn unpaid_seconds(&self, entry: &Entry) -> f64 {
        match &entry.cost.features {
            Some(features) if !self.paid.contains(features) => entry.cost.features_seconds,
            _ => 0.0,
        }
    }

    /// A candidate's settings with as many epochs, of those that a budget without end would have allowed it, as what is left
    /// of this one has room for.
    pub(super) fn with_all_that_is_left(&self, entry: &Entry) -> Settings {
        let of = |epochs| Settings { epochs, ..entry.settings.clone() };
        let rest = self.rest() - self.unpaid_seconds(entry);
        let fits = |&epochs: &u32| {
            self.bench.cost(&of(epochs), self.question.n_final).is_ok_and(|cost| cost.final_seconds() <= rest)
        };
        let more: Vec<u32> = (entry.settings.epochs + 1..=entry.whole_epochs).collect();
        let n = more.partition_point(fits);
        of(more[..n].last().copied().unwrap_or(entry.settings.epochs))
    }

    /// What is taken where nothing could be tried.
    pub(super) fn cheapest(&self) -> Result<usize> {
        let whole = |at: usize| self.unpaid_seconds(&self.entries[at]) + self.entries[at].cost.final_seconds();
        let usable = (0..self.entries.len()).filter(|&at| self.entries[at].told.state != CandidateState::Failed);
        usable.min_by(|&a, &b| whole(a).total_cmp(&whole(b))).ok_or_else(|| {
            let reasons = self.entries.iter().filter_map(|entry| entry.told.reason.clone());
            TrainerError::Settings(reasons.collect())
        })
    }
}

/// A candidate that cannot be built at all.
fn failed(number: u32, settings: &Settings, error: &TrainerError) -> Entry {
    let nothing = Cost { features: None, features_seconds: 0.0, fit_seconds: 0.0, after_seconds: 0.0, per_picture: 0 };
    let mut entry = Entry::new(number, settings.clone(), nothing);
    entry.told.state = CandidateState::Failed;
    entry.told.reason = Some(error.sentence());
    entry
}
