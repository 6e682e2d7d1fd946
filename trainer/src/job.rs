//! One run from its spec to its end, and its status whatever happens on the way; also where another trainer died.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Duration,
};

use api::train::{Progress, RunState, RunStatus};
use store::{ModelVersion, Run, Volumes, now_rfc3339};

use crate::{
    Result, TrainerError, cache,
    checkpoint::{self, Checkpoints},
    monitor::Monitor,
    promotion, publishing, search,
};

/// A run to be worked on, and what surrounds it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where datasets and models lie.
    pub volumes: Volumes,
    /// What was asked for.
    pub run: Run,
    /// How it is worked on.
    pub options: Options,
}

/// How runs are worked on, whatever they ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Folder of built-in backbones' weights, if there is one.
    pub backbones: Option<PathBuf>,
    /// Whether the version in use stays in use, where there is one.
    pub keep_current: bool,
    /// By how much a version may be worse than the one in use and still take its place, 0..=1.
    pub margin: f64,
    /// How many times its budget a search may take before the clock stops it.
    pub overrun: f64,
    /// Bytes that cached features may take on their volume.
    pub cache_bytes: u64,
    /// Time between two checkpoints of a fit, at least.
    pub checkpoint_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backbones: None,
            keep_current: false,
            margin: promotion::DEFAULT_MARGIN,
            overrun: search::DEFAULT_OVERRUN,
            cache_bytes: cache::DEFAULT_LIMIT_BYTES,
            checkpoint_interval: checkpoint::INTERVAL,
        }
    }
}

impl Job {
    /// Trains, checks and publishes; writes the run's status, progress and results on the way. A run that says it is
    /// running, while no living process has it, is gone on with.
    ///
    /// `echo` sees every event of progress after it was written; `stop` says whether someone asked to stop, beside the
    /// run's own cancel file.
    ///
    /// # Errors
    /// Whatever kept the run from a model; the status says so too, unless another process has the run or it ended before
    pub fn work(&self, echo: &mut dyn FnMut(&Progress), stop: &dyn Fn() -> bool) -> Result<ModelVersion> {
        let _lock = self.run.lock()?;
        let before = self.run.written_status()?;
        if before.state.is_final() {
            return Err(TrainerError::Ended { run: self.run.id().into(), state: before.state.name() });
        }
        let resumed = before.state == RunState::Running;
        let running = RunStatus {
            state: RunState::Running,
            reason: None,
            started: before.started.clone().or_else(|| Some(now_rfc3339())),
            ended: None,
            version: None,
            attempts: before.attempts + 1,
        };
        self.run.write_status(&running)?;

        let mut tell = |progress: &Progress| {
            self.run.append_progress(progress)?;
            echo(progress);
            Ok(())
        };
        let stop = || stop() || self.run.cancel_requested();
        let mut monitor = Monitor::new(&mut tell, &stop);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let checkpoints = Checkpoints::of(&self.run.dir)?;
            let resumed = if resumed { Some(self.resume(&checkpoints, &mut monitor)?) } else { None };
            publishing::publish(self, &checkpoints, resumed, &mut monitor)
        }))
        .unwrap_or_else(|panic| Err(TrainerError::Panicked(panic_message(&*panic))));

        let (state, reason, version) = match &outcome {
            Ok(published) => (RunState::Succeeded, None, Some(published.manifest.version)),
            Err(TrainerError::Cancelled) => (RunState::Cancelled, None, None),
            Err(error) => (RunState::Failed, Some(error.sentence()), None),
        };
        let ended = Some(now_rfc3339());
        let status = RunStatus { state, reason: reason.clone(), ended, version, ..running };
        let written = self.run.write_status(&status);
        // What went wrong first is the better answer than a status or a last line that could not be written.
        let told = monitor.end(state, reason, version);
        Checkpoints::clear(&self.run.dir);
        let published = outcome?;
        written?;
        told?;
        Ok(published)
    }

    /// Takes over from a trainer that died; returns the epoch that is gone on from.
    fn resume(&self, checkpoints: &Checkpoints, monitor: &mut Monitor) -> Result<u32> {
        let (told, _) = self.run.progress_from(0)?;
        let seconds = told.iter().map(seconds_of).fold(0.0, f64::max);
        let epoch = checkpoints.last_epoch();
        monitor.resumed(epoch, seconds)?;
        Ok(epoch)
    }
}

/// Since the run began; candidates and their order do not tell.
fn seconds_of(progress: &Progress) -> f64 {
    match progress {
        Progress::Stage { seconds, .. }
        | Progress::Step { seconds, .. }
        | Progress::Resumed { seconds, .. }
        | Progress::End { seconds, .. } => *seconds,
        Progress::Epoch(metrics) => metrics.seconds,
        Progress::Candidate(_) | Progress::Ranking { .. } => 0.0,
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
