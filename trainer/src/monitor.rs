//! A run as it is watched: progress told at a bearable rate, stops noticed between pieces of work.
//!
//! Where progress goes and who may ask for a stop is the caller's.

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use api::train::{Candidate, EpochMetrics, Progress, RunState};

use crate::{Result, TrainerError};

/// Steps and stages are told at most this often.
const INTERVAL: Duration = Duration::from_millis(250);

/// Tells progress and asks whether to go on.
pub struct Monitor<'a> {
    started: Instant,
    /// Seconds that trainers before this one worked on the run.
    before: f64,
    told: Option<Instant>,
    timings: BTreeMap<String, f64>,
    tell: &'a mut dyn FnMut(&Progress) -> Result<()>,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Monitor<'a> {
    /// The run begins now. `tell` gets every event; `stop` says whether someone asked to stop.
    pub fn new(tell: &'a mut dyn FnMut(&Progress) -> Result<()>, stop: &'a dyn Fn() -> bool) -> Self {
        Self { started: Instant::now(), before: 0.0, told: None, timings: BTreeMap::new(), tell, stop }
    }

    /// Seconds since the run began.
    pub fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// The run began with another trainer, which worked on it for so many seconds; epochs after this one come again.
    pub fn resumed(&mut self, epoch: u32, seconds: f64) -> Result<()> {
        self.before = seconds;
        self.send(Progress::Resumed { epoch, seconds })
    }

    /// Seconds by stage, so far.
    pub fn timings(&self) -> &BTreeMap<String, f64> {
        &self.timings
    }

    /// Does one stage of the run and notes how long it took.
    pub fn timed<T>(&mut self, stage: &str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = work(self)?;
        *self.timings.entry(stage.to_owned()).or_default() += start.elapsed().as_secs_f64();
        Ok(result)
    }

    /// Does a piece of work that is no epoch of the run's own; only a stop is still noticed.
    pub fn quietly<T>(&mut self, work: impl FnOnce(&mut Monitor) -> Result<T>) -> Result<T> {
        self.retold("fit", |_, _| Ok(()), work)
    }

    /// Does a trial of the search: its steps and epochs are told as seconds of the budget that have gone by, each once.
    pub fn searching<T>(&mut self, budget_seconds: f64, work: impl FnOnce(&mut Monitor) -> Result<T>) -> Result<T> {
        let last = Cell::new(None);
        let retell = |tell: &mut dyn FnMut(&Progress) -> Result<()>, progress: &Progress| match progress {
            Progress::Step { seconds, .. } | Progress::Epoch(EpochMetrics { seconds, .. }) => {
                let total = budget_seconds.ceil() as u64;
                let done = (*seconds as u64).min(total);
                match last.replace(Some(done)) {
                    Some(before) if before == done => Ok(()),
                    _ => tell(&Progress::Stage { stage: "search".into(), done, total, seconds: *seconds }),
                }
            }
            other => tell(other),
        };
        self.retold("search", retell, work)
    }

    /// Does a piece of work whose progress is told in other words, and whose fits are timed under another name: "fit" is
    /// the run's own.
    fn retold<T>(
        &mut self,
        fit: &str,
        retell: impl Fn(&mut dyn FnMut(&Progress) -> Result<()>, &Progress) -> Result<()>,
        work: impl FnOnce(&mut Monitor) -> Result<T>,
    ) -> Result<T> {
        let tell = &mut *self.tell;
        let mut tell = |progress: &Progress| retell(tell, progress);
        let mut inner = Monitor {
            started: self.started,
            before: self.before,
            told: self.told,
            timings: BTreeMap::new(),
            tell: &mut tell,
            stop: self.stop,
        };
        let result = work(&mut inner);
        let (told, timings) = (inner.told, std::mem::take(&mut inner.timings));
        self.told = told;
        for (stage, seconds) in timings {
            let stage = if stage == "fit" { fit.to_owned() } else { stage };
            *self.timings.entry(stage).or_default() += seconds;
        }
        result
    }

    /// A candidate of the search has a new state.
    pub fn candidate(&mut self, candidate: Candidate) -> Result<()> {
        self.send(Progress::Candidate(candidate))
    }

    /// The candidates of the search stand in another order.
    pub fn ranking(&mut self, numbers: Vec<u32>) -> Result<()> {
        self.send(Progress::Ranking { numbers })
    }

    /// # Errors
    /// `Cancelled` if someone asked to stop
    pub fn go_on(&self) -> Result<()> {
        if (self.stop)() { Err(TrainerError::Cancelled) } else { Ok(()) }
    }

    /// A piece of a stage is done. The first and last piece are always told.
    ///
    /// # Errors
    /// `Cancelled` if someone asked to stop
    pub fn stage(&mut self, stage: &str, done: usize, total: usize) -> Result<()> {
        self.go_on()?;
        if done == 0 || done == total || self.is_due() {
            let seconds = self.seconds();
            self.send(Progress::Stage { stage: stage.into(), done: done as u64, total: total as u64, seconds })?;
        }
        Ok(())
    }

    /// A step is done.
    ///
    /// # Errors
    /// `Cancelled` if someone asked to stop
    pub fn step(&mut self, epoch: u32, step: u64, steps: u64, loss: f64, remaining_seconds: f64) -> Result<()> {
        self.go_on()?;
        if self.is_due() {
            let seconds = self.seconds();
            self.send(Progress::Step { epoch, step, steps, loss, seconds, remaining_seconds })?;
        }
        Ok(())
    }

    /// An epoch is done.
    pub fn epoch(&mut self, metrics: EpochMetrics) -> Result<()> {
        self.send(Progress::Epoch(metrics))
    }

    /// The run is over.
    pub fn end(&mut self, state: RunState, reason: Option<String>, version: Option<u32>) -> Result<()> {
        let seconds = self.seconds();
        self.send(Progress::End { state, reason, version, seconds })
    }

    fn is_due(&self) -> bool {
        self.told.is_none_or(|told| told.elapsed() >= INTERVAL)
    }

    fn send(&mut self, progress: Progress) -> Result<()> {
        self.told = Some(Instant::now());
        (self.tell)(&progress)
    }
}
