//! How far a run is, read from its progress: what is done at the moment, how long it still takes, what it came to by now.

use api::train::{Candidate, CandidateState, EpochMetrics, Progress, RunState};
use store::Run;

use crate::{chart, error::Result, words};

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// What is being done, for people; told aloud whenever it changes, so nothing that changes all the time is in it.
    pub doing: String,
    /// How far that is, for people.
    pub detail: String,
    /// Units done of what is being done; 0 of 0 while nothing is known.
    pub done: u64,
    /// Units in all.
    pub total: u64,
    /// Estimated rest, if anything is known of it.
    pub rest: Option<Rest>,
    /// Since the run began, as last told.
    pub seconds: f64,
    /// What the search has tried, in the order of trial.
    pub candidates: Vec<Candidate>,
    /// Numbers of those with figures, best first, as last told.
    pub order: Vec<u32>,
    /// What each trial came to, in the order of their ends.
    pub trials: Vec<Trial>,
    /// Mean cross-entropy of the last batch that was told of.
    pub batch_loss: Option<f64>,
    /// Every epoch of the final fit that ended.
    pub curves: Vec<EpochMetrics>,
    /// The stage that is told of, and its first word.
    stage: Option<(String, u64, f64)>,
    /// When the search's time will be over, refitting included; in seconds since the run began.
    budget_ends: Option<f64>,
}

/// How long it still takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rest {
    /// Seconds.
    pub seconds: f64,
    /// Whether that is the whole run, and not only what is being done.
    pub is_all: bool,
}

/// What a trial of the search came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Since the run began.
    pub seconds: f64,
    /// The candidate, as it was then.
    pub candidate: Candidate,
    /// Its accuracy outside the fit, 0..=1.
    pub accuracy: f64,
    /// The accuracy of the best candidate by then.
    pub best: f64,
}

impl Live {
    /// Reads all of a run's progress; `hindrance` is what keeps it while there is none.
    pub fn of(run: &Run, hindrance: Option<String>) -> Result<Self> {
        let (lines, _) = run.progress_from(0)?;
        let doing = hindrance.unwrap_or_else(|| "waiting for the trainer".into());
        let mut live = Self { doing, ..Self::default() };
        let waiting = live.doing.clone();
        for line in lines {
            live.take(line);
        }
        let state = run.status()?.state;
        if state.is_final() {
            live.leave_unfinished();
        }
        // Between a trainer that died and the one that goes on.
        if live.seconds > 0.0 && state == RunState::Queued {
            (live.doing, live.rest) = (waiting, None);
            live.detail.clear();
        }
        Ok(live)
    }

    /// Nobody fits any more what was being fitted at the end.
    fn leave_unfinished(&mut self) {
        let fitted = self.candidates.iter_mut().filter(|candidate| candidate.state == CandidateState::Running);
        fitted.for_each(|candidate| candidate.state = CandidateState::Unfinished);
    }

    /// The candidates as the results have them: the chosen one, then as the search ranks them, then in the order of trial.
    pub fn leaderboard(&self) -> Vec<Candidate> {
        let place = |one: &Candidate| {
            let ranked = self.order.iter().position(|number| *number == one.number).unwrap_or(usize::MAX);
            (one.state != CandidateState::Chosen, ranked, one.number)
        };
        let mut board = self.candidates.clone();
        board.sort_by_key(place);
        board
    }

    fn take(&mut self, line: Progress) {
        match line {
            Progress::Stage { stage, done, total, seconds } => {
                self.doing = doing(&stage).to_owned();
                self.detail.clear();
                self.rest = self.rest_of(&stage, done, total, seconds);
                (self.done, self.total, self.seconds) = (done, total, seconds);
            }
            Progress::Step { epoch, step, steps, loss, seconds, remaining_seconds } => {
                self.train(format!("epoch {epoch}"), (step, steps), seconds, remaining_seconds);
                self.batch_loss = Some(loss);
            }
            Progress::Epoch(metrics) => {
                let detail = format!("epoch {} of at most {}", metrics.epoch, metrics.epochs);
                let done = (u64::from(metrics.epoch), u64::from(metrics.epochs));
                self.train(detail, done, metrics.seconds, metrics.remaining_seconds);
                self.curves.push(metrics);
            }
            Progress::Candidate(candidate) => self.try_out(candidate),
            Progress::Ranking { numbers } => self.order = numbers,
            Progress::Resumed { epoch, seconds } => {
                self.curves.retain(|metrics| metrics.epoch <= epoch);
                self.seconds = seconds;
            }
            Progress::End { state, seconds, .. } => {
                self.doing = words::state(state).to_owned();
                self.detail.clear();
                (self.done, self.total, self.seconds) = (1, 1, seconds);
                self.rest = None;
            }
        }
    }

    fn train(&mut self, detail: String, (done, total): (u64, u64), seconds: f64, remaining_seconds: f64) {
        (self.doing, self.detail, self.stage) = (TRAINING.to_owned(), detail, None);
        (self.done, self.total, self.seconds) = (done, total, seconds);
        self.rest = Some(Rest { seconds: remaining_seconds, is_all: true });
    }

    fn try_out(&mut self, candidate: Candidate) {
        match self.candidates.iter_mut().find(|known| known.number == candidate.number) {
            Some(known) => *known = candidate.clone(),
            None => self.candidates.push(candidate.clone()),
        }
        let has_ended = matches!(candidate.state, CandidateState::Tried | CandidateState::Dropped);
        let Some(accuracy) = candidate.val_accuracy.filter(|_| has_ended) else { return };
        let accuracies = self.candidates.iter().filter_map(|one| one.val_accuracy);
        let best = accuracies.fold(accuracy, f64::max);
        // That a candidate is dropped is told after its trial, and is no other one.
        let is_told = |last: &Trial| {
            (last.candidate.number, last.candidate.rounds) == (candidate.number, candidate.rounds)
                && last.accuracy == accuracy
        };
        if !self.trials.iter().any(is_told) {
            self.trials.push(Trial { seconds: self.seconds, candidate, accuracy, best });
        }
    }

    /// The rest from a stage's word on: what is left of the search's time, else what follows from the stage's own pace,
    /// else what was told before.
    fn rest_of(&mut self, stage: &str, done: u64, total: u64, seconds: f64) -> Option<Rest> {
        if stage == "search" {
            self.budget_ends = Some(seconds + total.saturating_sub(done) as f64);
        }
        let begun = match self.stage.take() {
            Some(begun) if begun.0 == stage && begun.1 <= done => begun,
            _ => (stage.to_owned(), done, seconds),
        };
        let (pieces, took) = (done.saturating_sub(begun.1) as f64, seconds - begun.2);
        self.stage = Some(begun);
        let pace = (pieces > 0.0 && done < total && stage != "search")
            .then(|| took * total.saturating_sub(done) as f64 / pieces);
        let is_before_the_fit = self.curves.is_empty() && self.batch_loss.is_none();
        let budget =
            self.budget_ends.filter(|_| is_before_the_fit).map(|ends| ends - seconds).filter(|rest| *rest > 0.0);
        match (budget, pace, self.rest) {
            (Some(budget), pace, _) => {
                Some(Rest { seconds: pace.map_or(budget, |pace| pace.max(budget)), is_all: true })
            }
            (None, Some(pace), _) => Some(Rest { seconds: pace, is_all: false }),
            (None, None, Some(before)) => {
                let left = before.seconds - (seconds - self.seconds);
                (left > 0.0).then_some(Rest { seconds: left, ..before })
            }
            (None, None, None) => None,
        }
    }

    /// The rest in words; empty where nothing is known.
    pub fn rest_told(&self) -> String {
        let of = |rest: &Rest| if rest.is_all { "" } else { " of this step" };
        self.rest.map_or_else(String::new, |rest| format!("about {} left{}", words::seconds(rest.seconds), of(&rest)))
    }

    /// The figures of the moment by their usual names: of the final fit once it has begun, of the search before.
    pub fn tiles(&self) -> Vec<(&'static str, String)> {
        let mut tiles = vec![];
        let best = self.leaderboard().into_iter().next();
        let best = best.filter(|best| best.val_accuracy.is_some());
        match (self.curves.last(), self.batch_loss, best) {
            (Some(last), _, best) => {
                tiles.push(("Loss", words::loss_or_dash(Some(last.loss))));
                tiles.push(("Accuracy", words::percent(last.accuracy)));
                match (last.val_loss, last.val_accuracy, best) {
                    (Some(loss), Some(accuracy), _) => {
                        tiles.push(("Validation loss", words::loss_or_dash(Some(loss))));
                        tiles.push(("Validation accuracy", words::percent(accuracy)));
                    }
                    // There is no validation split left: the fit has all pictures.
                    (.., Some(best)) if best.folds > 0 => {
                        tiles.push(("Cross-validated loss", words::loss_or_dash(best.val_loss)));
                        tiles.push(("Cross-validated accuracy", words::percent_or_dash(best.val_accuracy)));
                    }
                    (.., Some(best)) => {
                        tiles.push(("Validation loss in the search", words::loss_or_dash(best.val_loss)));
                        tiles.push(("Validation accuracy in the search", words::percent_or_dash(best.val_accuracy)));
                    }
                    _ => {}
                }
                tiles.push(("Learning rate", chart::scientific(last.learning_rate)));
                tiles.push(("Images/s", format!("{:.0}", last.images_per_second)));
            }
            (None, Some(loss), _) => tiles.push(("Loss", words::loss_or_dash(Some(loss)))),
            (None, None, Some(best)) => {
                tiles.push(("Best accuracy so far", words::percent_or_dash(best.val_accuracy)));
                tiles.push(("Its loss", words::loss_or_dash(best.val_loss)));
                tiles.push(("Candidates", self.candidates.len().to_string()));
            }
            (None, None, None) => {}
        }
        if let Some(rest) = self.rest.filter(|_| !tiles.is_empty()) {
            tiles
                .push((if rest.is_all { "Time left" } else { "Time left of this step" }, words::seconds(rest.seconds)));
        }
        tiles
    }
}

const TRAINING: &str = "training";

fn doing(stage: &str) -> &str {
    match stage {
        "search" => "looking for the best family and settings",
        "calibrate" => "finding out how far probabilities can be believed",
        "features" => "computing features of the pictures",
        "evaluate" => "evaluating on the test pictures",
        "compare" => "comparing with the version in use",
        "export" => "exporting the model",
        "check" => "comparing two engines on the exported model",
        "publish" => "publishing the model",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use api::train::{Family, STAGES, Settings};

    use super::*;

    fn stage(stage: &str, done: u64, total: u64, seconds: f64) -> Progress {
        Progress::Stage { stage: stage.into(), done, total, seconds }
    }

    fn candidate(number: u32, rounds: u32, state: CandidateState, val_accuracy: Option<f64>) -> Progress {
        Progress::Candidate(Candidate {
            number,
            settings: Settings::defaults(Family::Cnn, 32),
            state,
            rounds,
            folds: 5,
            val_accuracy,
            val_loss: val_accuracy.map(|accuracy| 1.0 - accuracy),
            pictures: 40,
            multiply_adds: None,
            seconds: 1.0,
            reason: None,
        })
    }

    fn epoch(val_accuracy: Option<f64>) -> Progress {
        Progress::Epoch(EpochMetrics {
            epoch: 1,
            epochs: 10,
            step: 5,
            loss: 0.5,
            accuracy: 0.75,
            val_loss: val_accuracy.map(|accuracy| 1.0 - accuracy),
            val_accuracy,
            learning_rate: 5e-4,
            images_per_second: 1234.0,
            seconds: 50.0,
            remaining_seconds: 9.0,
        })
    }

    fn after(lines: impl IntoIterator<Item = Progress>) -> Live {
        let mut live = Live::default();
        lines.into_iter().for_each(|line| live.take(line));
        live
    }

    fn rest(lines: &[Progress]) -> Option<(f64, bool)> {
        after(lines.to_vec()).rest.map(|rest| (rest.seconds, rest.is_all))
    }

    #[test]
    fn every_stage_has_words() {
        for name in STAGES {
            assert_ne!(doing(name), name);
        }
    }

    #[test]
    fn the_rest_stays_whatever_the_search_does() {
        let search = stage("search", 10, 60, 10.0);
        assert_eq!(rest(std::slice::from_ref(&search)), Some((50.0, true)));
        let features = [search.clone(), stage("features", 0, 400, 12.0), stage("features", 200, 400, 14.0)];
        assert_eq!(rest(&features), Some((46.0, true)));
        let slow = [search, stage("features", 0, 400, 12.0), stage("features", 100, 400, 32.0)];
        assert_eq!(rest(&slow), Some((60.0, true)), "the features alone take longer than the budget");
    }

    #[test]
    fn after_the_fit_the_rest_follows_from_what_was_told_then_from_the_stages_pace() {
        let fit = [stage("search", 10, 90, 10.0), epoch(None)];
        assert_eq!(rest(&fit), Some((9.0, true)));
        for name in ["features", "calibrate", "evaluate", "compare", "check"] {
            let begun = [&fit[..], &[stage(name, 0, 100, 53.0)]].concat();
            assert_eq!(rest(&begun), Some((6.0, true)), "{name}");
            let half = [&begun[..], &[stage(name, 50, 100, 55.0)]].concat();
            assert_eq!(rest(&half), Some((2.0, false)), "{name}");
            assert_eq!(after(half).rest_told(), "about 2.0 s left of this step", "{name}");
        }
    }

    #[test]
    fn without_a_search_the_features_tell_their_own_rest() {
        assert_eq!(rest(&[stage("features", 0, 400, 1.0)]), None);
        assert_eq!(rest(&[stage("features", 0, 400, 1.0), stage("features", 100, 400, 2.0)]), Some((3.0, false)));
    }

    #[test]
    fn each_trial_is_a_point_and_the_best_is_the_leaderboards() {
        use CandidateState::{Chosen, Dropped, Running, Tried};
        let live = after([
            stage("search", 1, 60, 1.0),
            candidate(1, 0, Running, None),
            candidate(1, 1, Tried, Some(0.5)),
            stage("search", 3, 60, 3.0),
            candidate(2, 1, Tried, Some(0.75)),
            candidate(1, 1, Dropped, Some(0.5)),
            stage("search", 5, 60, 5.0),
            candidate(2, 2, Tried, Some(0.625)),
            candidate(2, 2, Chosen, Some(0.625)),
        ]);
        let points: Vec<_> = live.trials.iter().map(|trial| (trial.seconds, trial.accuracy, trial.best)).collect();
        assert_eq!(points, [(1.0, 0.5, 0.5), (3.0, 0.75, 0.75), (5.0, 0.625, 0.625)]);
        let figure = chart::best(&live.trials).expect("a chart");
        let svg = figure.inline().expect("it renders");
        assert!(svg.contains("62.5 % after 3 trials and 5.0 s"), "{svg}");
        assert_eq!(figure.table.csv().lines().nth(2), Some("3,2,CNN,0.75,0.75"));
        assert_eq!(chart::best(&[]), None);
    }

    #[test]
    fn tiles_have_the_figures_there_are_by_their_usual_names() {
        use CandidateState::{Chosen, Tried};
        let names = |live: &Live| live.tiles().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let mut live = after([stage("search", 10, 60, 10.0)]);
        assert_eq!(names(&live), Vec::<&str>::new());
        live.take(candidate(1, 1, Tried, Some(0.5)));
        live.take(Progress::Ranking { numbers: vec![1] });
        assert_eq!(names(&live), ["Best accuracy so far", "Its loss", "Candidates", "Time left"]);
        live.take(candidate(1, 1, Chosen, Some(0.5)));
        live.take(epoch(None));
        let tiles = live.tiles();
        assert!(tiles.contains(&("Cross-validated accuracy", "50.0 %".into())), "{tiles:?}");
        assert!(tiles.contains(&("Learning rate", "5e-4".into())), "{tiles:?}");
        assert!(tiles.iter().all(|(_, value)| value != "–"), "{tiles:?}");
        live.take(epoch(Some(0.25)));
        let usual =
            ["Loss", "Accuracy", "Validation loss", "Validation accuracy", "Learning rate", "Images/s", "Time left"];
        assert_eq!(names(&live), usual);
    }
}
