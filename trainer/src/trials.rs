//! The search's bench: trials are real fits, and what they answered is kept for a trainer that may have to go on.

use api::train::{Candidate, Settings};

use crate::{
    Result, TrainerError,
    answers::Answers,
    checkpoint::{self, Trial},
    family::{self, Rows, Task},
    features::FeatureSource,
    folds::Fold,
    monitor::Monitor,
    search::{self, Bench, cost::Cost},
};

/// Fits candidates on the task's pictures.
pub struct Trials<'a, 'm> {
    /// Its pictures are the pool that is searched on.
    pub task: &'a Task<'a>,
    /// Features of the pool.
    pub source: &'a mut dyn FeatureSource,
    /// Hears of candidates, and of the seconds that have gone by.
    pub monitor: &'a mut Monitor<'m>,
    /// Trials of the run until now.
    pub known: checkpoint::Trials,
    /// Of the search.
    pub budget_seconds: f64,
    /// Seconds of the run after which the clock stops the search.
    pub limit_seconds: f64,
}

impl Trials<'_, '_> {
    /// What a trainer that died came to at this very trial.
    fn replay(&mut self, settings: &Settings) -> Option<Result<(Answers, f64)>> {
        match self.known.next_known()? {
            Trial::Answered { settings: of, logits, strangeness, seconds } if of == *settings => {
                let [logits, strangeness] =
                    [logits, strangeness].map(|bits| bits.into_iter().map(f32::from_bits).collect());
                Some(Ok((Answers { logits, strangeness }, seconds)))
            }
            Trial::Failed { settings: of, reason } if of == *settings => Some(Err(TrainerError::FailedBefore(reason))),
            // Trials of another search, as another version of this program would have made it.
            _ => self.known.forget().err().map(Err),
        }
    }
}

impl Bench for Trials<'_, '_> {
    fn cost(&self, settings: &Settings, pictures: usize) -> Result<Cost> {
        let work = family::work(self.task, settings, pictures)?;
        Ok(Cost::new(settings, pictures, work))
    }

    fn must_stop(&mut self, planned: f64, ahead: f64) -> Result<bool> {
        self.monitor.go_on()?;
        match self.known.peek_known() {
            Some(known) => Ok(*known == Trial::Stopped),
            None => {
                let late = search::is_late(self.monitor.seconds(), planned, ahead, self.limit_seconds);
                if late {
                    self.known.add(&Trial::Stopped)?;
                }
                Ok(late)
            }
        }
    }

    fn fit(&mut self, settings: &Settings, fold: &Fold) -> Result<(Answers, f64)> {
        if let Some(known) = self.replay(settings) {
            return known;
        }
        let started = self.monitor.seconds();
        // Nothing but the train rows may choose the epoch, so that the figures are those of unseen pictures.
        let patient = Settings { patience: 0, ..settings.clone() };
        let (task, source) = (self.task, &mut *self.source);
        let outcome = self.monitor.searching(self.budget_seconds, |monitor| {
            let rows = Rows { train: &fold.train, validation: &[] };
            let fitted = family::fit(task, &patient, rows, source, &mut (), monitor)?;
            fitted.answers(task, &fold.asked, source, monitor)
        });
        let seconds = self.monitor.seconds() - started;
        let settings = settings.clone();
        match outcome {
            Ok(answers) => {
                let [logits, strangeness] = [&answers.logits, &answers.strangeness]
                    .map(|values| values.iter().map(|value| value.to_bits()).collect());
                self.known.add(&Trial::Answered { settings, logits, strangeness, seconds })?;
                Ok((answers, seconds))
            }
            Err(error) if search::ends_the_run(&error) => Err(error),
            Err(error) => {
                self.known.add(&Trial::Failed { settings, reason: error.sentence() })?;
                Err(error)
            }
        }
    }

    fn tell(&mut self, candidate: &Candidate) -> Result<()> {
        self.monitor.candidate(candidate.clone())
    }

    fn rank(&mut self, numbers: &[u32]) -> Result<()> {
        self.monitor.ranking(numbers.to_vec())
    }
}
