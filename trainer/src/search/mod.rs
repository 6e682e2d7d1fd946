//! The search for the best family and settings within a budget: rounds of trials, after each of which the worse half of
//! the candidates is dropped.
//!
//! Pure logic over a [`Bench`], which fits and tells. What decides is arithmetic, answers and the seed; measured time is
//! no more than an emergency brake.
//!
//! # Source
//! Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016 (successive
//! halving)

pub mod board;
mod budget;
pub mod choice;
pub mod cost;
pub mod proposals;
pub mod schedule;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use api::train::{Candidate, CandidateState, Family, Settings};

use crate::{Result, TrainerError, answers::Answers, folds::Fold};
use board::{Entry, ranking};
use cost::Cost;
use proposals::{Proposal, Proposals};
use schedule::Schedule;

/// Candidates whose whole cross-validation takes at most this share of the budget are tried on all of it at once.
const CHEAP: f64 = 0.04;

/// Share of the budget that the first wave may take where pictures are few: enough to see which backbone is good.
const FIRST_WAVE: f64 = 0.25;

/// Where candidates are fitted.
pub trait Bench {
    /// What a fit on so many pictures costs.
    ///
    /// # Errors
    /// If such a network cannot be built
    fn cost(&self, settings: &Settings, pictures: usize) -> Result<Cost>;

    /// Whether the clock says that the search must end: asked before each trial with the seconds of the reference machine
    /// that were planned until now, and those that the trial and the final fit would add.
    ///
    /// # Errors
    /// `Cancelled`, or if the answer cannot be kept
    fn must_stop(&mut self, planned: f64, ahead: f64) -> Result<bool>;

    /// Fits on the fold's train rows and answers for the others; and the seconds it took.
    ///
    /// # Errors
    /// Whatever kept it from an answer; the candidate has failed then, unless the error [ends the run](ends_the_run)
    fn fit(&mut self, settings: &Settings, fold: &Fold) -> Result<(Answers, f64)>;

    /// Hears of a candidate's new state.
    ///
    /// # Errors
    /// `Cancelled`, or if progress cannot be told
    fn tell(&mut self, candidate: &Candidate) -> Result<()>;

    /// Hears of the order of the candidates that have figures, by their numbers, the best first.
    ///
    /// # Errors
    /// As [`Bench::tell`]
    fn rank(&mut self, numbers: &[u32]) -> Result<()>;
}

/// What is searched for, on what, with what.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Class index of every row of the pool.
    pub labels: &'a [u32],
    /// Number of labels.
    pub n_classes: usize,
    /// On which rows candidates are tried.
    pub schedule: &'a Schedule,
    /// Pictures of the final fit.
    pub n_final: usize,
    /// Seconds of the reference machine, final fit included.
    pub budget_seconds: f64,
}

/// What the search came to.
#[derive(Clone, Debug)]
pub struct Found {
    /// Those of the final fit: the chosen candidate's, with more epochs where the budget had room for them in the end.
    pub settings: Settings,
    /// Every candidate, the chosen one first, then from the best to those that were never tried.
    pub leaderboard: Vec<Candidate>,
    /// Why these settings, in one sentence.
    pub sentence: String,
    /// What a person should know besides.
    pub notes: Vec<String>,
    /// Rows that the chosen candidate was asked about.
    pub rows: Vec<usize>,
    /// Its answers for them, from fits without them.
    pub answers: Answers,
    /// The same of the other candidates that were tried, the best first; none where all were asked about the same pictures.
    pub others: Vec<(Vec<usize>, Answers)>,
}

/// How many times its budget a run may take before the clock stops the search, unless something else is asked for.
pub const DEFAULT_OVERRUN: f64 = 2.0;

/// Whether, at the pace until now, the run would end after `limit`.
///
/// # Units
/// Seconds: `elapsed` and `limit` of this machine, `planned` until now and `ahead` of the reference machine
pub fn is_late(elapsed: f64, planned: f64, ahead: f64, limit: f64) -> bool {
    let pace = if planned > 0.0 { (elapsed / planned).max(1.0) } else { 1.0 };
    elapsed + pace * ahead > limit
}

/// Whether an error is no candidate's own: it would meet the next one too.
pub fn ends_the_run(error: &TrainerError) -> bool {
    matches!(error, TrainerError::Cancelled | TrainerError::Store(_))
}

/// Searches.
///
/// # Errors
/// What [ends the run](ends_the_run), and `Settings` if every candidate failed
pub fn search(question: &Question, proposals: &Proposals, bench: &mut dyn Bench) -> Result<Found> {
    let (entries, paid, ranked) = (vec![], HashSet::new(), vec![]);
    let mut search = Search { question, bench, entries, paid, planned: 0.0, stopped: false, ranked };
    let mut number = 0;
    while let Some(wave) = proposals.wave(number, search.best_head()) {
        let kept = if number == 0 && question.schedule.cross_validated { 1.0 - FIRST_WAVE } else { 0.0 };
        search.enter(wave, kept * question.budget_seconds)?;
        number += 1;
    }
    search.halve()?;
    search.conclude()
}

struct Search<'a> {
    question: &'a Question<'a>,
    bench: &'a mut dyn Bench,
    entries: Vec<Entry>,
    /// Features that were computed.
    paid: HashSet<String>,
    /// Seconds of the reference machine until now.
    planned: f64,
    /// Whether the emergency brake was pulled.
    stopped: bool,
    /// The order that was told last.
    ranked: Vec<u32>,
}

impl Search<'_> {
    fn schedule(&self) -> &Schedule {
        self.question.schedule
    }

    fn best(&self) -> Option<usize> {
        ranking(&self.entries, self.schedule()).first().copied()
    }

    fn best_head(&self) -> Option<&Settings> {
        let mut order = ranking(&self.entries, self.schedule()).into_iter().map(|at| &self.entries[at].settings);
        order.find(|settings| settings.family == Family::Linear)
    }

    /// Tries every candidate of a wave for the first time.
    ///
    /// Each may plan with an equal part of what is left of the budget beyond what is kept for later waves, and what one
    /// does not need is left to those behind it.
    fn enter(&mut self, wave: Vec<Proposal>, kept: f64) -> Result<()> {
        let n = wave.len();
        for (index, forms) in wave.into_iter().enumerate() {
            let part = (self.rest() - kept).max(0.0) / (n - index) as f64;
            let Some(entry) = self.affordable_form(&forms, part) else { continue };
            let at = self.entries.len();
            self.entries.push(entry);
            if self.entries[at].told.state == CandidateState::Running {
                self.first_rounds(at)?;
            } else {
                self.bench.tell(&self.entries[at].told)?;
            }
        }
        Ok(())
    }

    /// The first round, and for a cheap candidate all others too.
    fn first_rounds(&mut self, at: usize) -> Result<()> {
        self.try_round(at, 0)?;
        let rounds = self.schedule().rounds.len();
        let mut others = 0.0;
        for round in 1..rounds {
            others += self.round_seconds(&self.entries[at], round)?;
        }
        self.entries[at].is_cut_short =
            self.schedule().cross_validated && others + self.entries[at].cost.final_seconds() > self.rest();
        if others <= CHEAP * self.question.budget_seconds {
            for round in 1..rounds {
                self.try_round(at, round)?;
            }
        }
        Ok(())
    }

    /// One more round of a candidate, if the budget allows for it beside the final fit of this candidate or of the best
    /// one, whichever takes longer.
    fn try_round(&mut self, at: usize, round: usize) -> Result<()> {
        if self.entries[at].rounds() != round || self.entries[at].told.state == CandidateState::Failed {
            return Ok(());
        }
        let trial = self.round_seconds(&self.entries[at], round)?;
        let final_fits = [Some(at), self.best()].into_iter().flatten().map(|at| self.entries[at].cost.final_seconds());
        let ahead = trial + final_fits.fold(0.0, f64::max);
        if ahead > self.rest() {
            let what = if round == 0 { "a trial" } else { "another round" };
            let reason = format!("{what} would take {trial:.0} s, which the budget has not beside the final fit");
            return self.settle(at, (round == 0).then_some(CandidateState::Dropped), Some(reason));
        }
        if self.stopped || self.bench.must_stop(self.planned, ahead)? {
            self.stopped = true;
            let reason = "the search was cut short by the clock".to_owned();
            return self.settle(at, (round == 0).then_some(CandidateState::Dropped), Some(reason));
        }
        self.settle(at, Some(CandidateState::Running), None)?;
        self.planned += trial;
        self.paid.extend(self.entries[at].cost.features.clone());
        let settings = Settings { epochs: self.entries[at].trial_epochs(), ..self.entries[at].settings.clone() };
        let mut answers = vec![];
        for fold in &self.question.schedule.rounds[round] {
            match self.bench.fit(&settings, fold) {
                Ok((more, seconds)) => {
                    self.entries[at].told.seconds += seconds;
                    answers.push(more);
                }
                Err(error) if ends_the_run(&error) => return Err(error),
                Err(error) => {
                    self.settle(at, Some(CandidateState::Failed), Some(error.sentence()))?;
                    return self.rank();
                }
            }
        }
        let Question { labels, n_classes, schedule, .. } = *self.question;
        self.entries[at].finish_round(answers, schedule, labels, n_classes);
        self.settle(at, Some(CandidateState::Tried), None)?;
        self.rank()
    }

    /// Tells the order of the candidates where it has changed.
    fn rank(&mut self) -> Result<()> {
        let order = ranking(&self.entries, self.schedule());
        let numbers: Vec<u32> = order.into_iter().map(|at| self.entries[at].told.number).collect();
        if numbers != self.ranked {
            self.bench.rank(&numbers)?;
            self.ranked = numbers;
        }
        Ok(())
    }

    /// Gives a candidate its new state and tells it.
    fn settle(&mut self, at: usize, state: Option<CandidateState>, reason: Option<String>) -> Result<()> {
        let told = &mut self.entries[at].told;
        told.state = state.unwrap_or(told.state);
        told.reason = reason;
        self.bench.tell(told)
    }

    /// Round after round, drops the worse half of the candidates and tries the others more.
    fn halve(&mut self) -> Result<()> {
        for round in 1..self.schedule().rounds.len() {
            let mut alive = ranking(&self.entries, self.schedule());
            alive.retain(|&at| self.entries[at].told.state == CandidateState::Tried);
            let mut kept = alive.len().div_ceil(2);
            if !self.schedule().cross_validated {
                kept = self.spare_best_from_scratch(&mut alive, kept);
            }
            for &at in &alive[kept..] {
                let reason = "others were better after as many rounds".to_owned();
                self.settle(at, Some(CandidateState::Dropped), Some(reason))?;
            }
            for &at in &alive[..kept] {
                self.try_round(at, round)?;
            }
        }
        Ok(())
    }

    /// Moves the best network from scratch in front of those that are dropped, and returns how many are kept then: on a
    /// small share of the pictures whatever was pretrained looks better than it will on all of them.
    fn spare_best_from_scratch(&self, alive: &mut [usize], kept: usize) -> usize {
        let is_scratch = |&at: &usize| !self.entries[at].settings.family.has_backbone();
        match alive.iter().position(is_scratch) {
            Some(place) if place >= kept => {
                alive[kept..=place].rotate_right(1);
                kept + 1
            }
            _ => kept,
        }
    }

    fn conclude(mut self) -> Result<Found> {
        let Question { schedule, budget_seconds, .. } = *self.question;
        let rest = self.rest();
        let choice = choice::choose(&self.entries, schedule, |entry| entry.cost.final_seconds() <= rest);
        let (chosen, sentence) = match choice {
            Some(choice) => (choice.chosen, choice.sentence),
            None => {
                let cheapest = self.cheapest()?;
                (cheapest, choice::untried(&self.entries[cheapest].settings, budget_seconds))
            }
        };
        self.settle(chosen, Some(CandidateState::Chosen), None)?;
        let order = ranking(&self.entries, schedule);
        let others = (0..self.entries.len()).filter(|at| !order.contains(at));
        let behind = order.iter().copied().chain(others).filter(|&at| at != chosen);
        let leaderboard = [chosen].into_iter().chain(behind).map(|at| self.entries[at].told.clone()).collect();
        let (rows, answers) = self.entries[chosen].held_out(schedule);
        let behind = order.iter().filter(|&&at| at != chosen && schedule.cross_validated);
        let others = behind.map(|&at| self.entries[at].held_out(schedule)).collect();
        let settings = self.with_all_that_is_left(&self.entries[chosen]);
        let notes = self.notes(chosen, settings.epochs);
        Ok(Found { settings, leaderboard, sentence, notes, rows, answers, others })
    }

    fn notes(&self, chosen: usize, epochs: u32) -> Vec<String> {
        let mut notes = vec![];
        if self.stopped {
            notes.push(
                "The machine was slower than the search had planned with, so it was cut short by the clock: on another \
                 machine, or at another time, the same run may come to another model."
                    .to_owned(),
            );
        }
        let whole = self.unpaid_seconds(&self.entries[chosen]) + self.entries[chosen].cost.final_seconds();
        if whole > self.rest() {
            notes.push(format!(
                "A budget of {} s is too short for this many pictures: the least that can be done takes about {whole:.0} s.",
                self.question.budget_seconds
            ));
        }
        let trial_epochs = self.entries[chosen].trial_epochs();
        if trial_epochs < epochs && self.entries[chosen].was_tried() {
            notes.push(format!(
                "The budget allowed for trials with {trial_epochs} of {epochs} epochs: the published model had more training \
                 than its figures on the leaderboard."
            ));
        }
        notes
    }
}
