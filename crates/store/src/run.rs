//! Runs: one folder each, written by one trainer, read by anyone.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{Result, StoreError, Volumes, atomic, check_name, clock, disk};
use api::train::{Hyperparameters, Progress, Results, RunLabel, RunSpec, RunState, RunStatus};

/// Times a trainer may begin to work on a run: one that died is followed by another that goes on where it stopped.
pub const MAX_ATTEMPTS: u32 = 3;

/// Longest name of a run in characters.
const NAME_CHARS: usize = 100;

/// Longest notes on a run in characters.
const NOTES_CHARS: usize = 10_000;

const SPEC: &str = "run.json";
const STATUS: &str = "status.json";
const PROGRESS: &str = "progress.jsonl";
const RESULTS: &str = "results.json";
const LOCK: &str = "lock";
const CANCEL: &str = "cancel";
const LOG: &str = "trainer.log";
const LABEL: &str = "label.json";

const QUEUED: RunStatus =
    RunStatus { state: RunState::Queued, reason: None, started: None, ended: None, version: None, attempts: 0 };

/// A run's folder.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its folder.
    pub dir: PathBuf,
    /// What was asked for.
    pub spec: RunSpec,
}

/// Held by the one process that works on a run; the system lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub struct RunLock(File);

impl Drop for RunLock {
    /// Lets go at once. Closing the file alone would not: while this process starts another one, that one holds a copy
    /// of every open file for a moment.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Volumes {
    /// Makes a run in state queued.
    pub fn create_run(&self, dataset: &str, model: &str, hyperparameters: Hyperparameters) -> Result<Run> {
        self.queue_run(RunSpec {
            run: String::new(),
            dataset: dataset.to_owned(),
            model: model.to_owned(),
            hyperparameters,
            created: String::new(),
            retry_of: None,
        })
    }

    /// Makes a run in state queued that asks for the same as another one.
    pub fn retry_run(&self, run: &Run) -> Result<Run> {
        self.queue_run(RunSpec { retry_of: Some(run.spec.run.clone()), ..run.spec.clone() })
    }

    /// `run` and `created` are filled in.
    fn queue_run(&self, mut spec: RunSpec) -> Result<Run> {
        check_name("dataset", &spec.dataset)?;
        check_name("model", &spec.model)?;
        let mut staging = atomic::Staging::new(&self.staging2(), "run-")?;
        atomic::write_json(&staging.path().join(STATUS), &QUEUED)?;
        atomic::create_dirs(&self.runs_dir())?;
        loop {
            (spec.run, spec.created) = (clock::stamp(), clock::now_rfc3339());
            atomic::write_json(&staging.path().join(SPEC), &spec)?;
            let dir = self.runs_dir().join(&spec.run);
            if staging.publish(&dir)? {
                return Ok(Run { dir, spec });
            }
        }
    }

    /// Deletes a run that has ended, with its curves, log and predictions. A version that came of it stays, and has its
    /// results.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while it has not ended, [`StoreError::NotFound`] if there is none of this id.
    pub fn delete_run(&self, id: &str) -> Result<()> {
        let run = self.run(id)?;
        let in_use =
            |because: &str| StoreError::InUse { what: "run", name: id.to_owned(), because: because.to_owned() };
        let unended = || in_use("it has not ended; cancel it first");
        let lock = run.lock().map_err(|error| match error {
            StoreError::Busy(_) => unended(),
            other => other,
        })?;
        // The lock is ours, so one that says it is running has lost its trainer.
        let written = run.written_status()?;
        if written.state == RunState::Queued || run.may_go_on(&written) {
            return Err(unended());
        }
        atomic::remove(&self.staging2(), &run.dir)?;
        drop(lock);
        Ok(())
    }

    /// All readable runs, newest first.
    pub fn runs(&self) -> Result<Vec<Run>> {
        let mut dirs = atomic::list_dirs(&self.runs_dir())?;
        dirs.reverse();
        Ok(dirs.into_iter().filter_map(|(_, dir)| Run::open(&dir).ok()).collect())
    }

    /// Ids of all runs, oldest first, readable or not.
    pub fn run_ids(&self) -> Result<Vec<String>> {
        Ok(atomic::list_dirs(&self.runs_dir())?.into_iter().map(|(id, _)| id).collect())
    }

    /// One run.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none of this id.
    pub fn run(&self, id: &str) -> Result<Run> {
        check_name("run", id)?;
        let dir = self.runs_dir().join(id);
        if !dir.is_dir() {
            return Err(StoreError::NotFound { what: "run", name: id.to_owned() });
        }
        Run::open(&dir)
    }
}

impl Run {
    /// Opens a run by its folder.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self { dir: dir.to_owned(), spec: atomic::read_json(&dir.join(SPEC), "run spec")? })
    }

    /// Id of the run.
    pub fn id(&self) -> &str {
        &self.spec.run
    }

    /// Path of `run.json`.
    pub fn spec_path(&self) -> PathBuf {
        self.dir.join(SPEC)
    }

    /// Path of the trainer's log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// Takes the run for this process.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another live process has it.
    pub fn lock(&self) -> Result<RunLock> {
        let path = self.dir.join(LOCK);
        let file = File::create(&path).map_err(StoreError::write(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock(file)),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::Busy(self.spec.run.clone())),
            Err(fs::TryLockError::Error(e)) => Err(StoreError::write(&path)(e)),
        }
    }

    /// Whether a live process works on the run.
    pub fn is_locked(&self) -> bool {
        let Ok(file) = File::open(self.dir.join(LOCK)) else { return false };
        let tried = file.try_lock_shared();
        let _let_go_at_once = RunLock(file);
        matches!(tried, Err(fs::TryLockError::WouldBlock))
    }

    /// Where the run stands, as last written.
    pub fn written_status(&self) -> Result<RunStatus> {
        atomic::read_json(&self.dir.join(STATUS), "run status")
    }

    /// Where the run stands: one that says it is running while no process works on it waits for another trainer, or has
    /// failed if there were [`MAX_ATTEMPTS`].
    ///
    /// A queued run stays queued: its trainer may not have begun.
    pub fn status(&self) -> Result<RunStatus> {
        let status = self.written_status()?;
        // The lock is tried only where somebody should have it: who takes it must not find it taken by who looks.
        if status.state != RunState::Running || self.is_locked() {
            return Ok(status);
        }
        // Read again: a trainer writes its last status before it lets go.
        let status = self.written_status()?;
        if status.state != RunState::Running {
            return Ok(status);
        }
        let (state, reason) = if self.cancel_requested() {
            (RunState::Cancelled, "cancelled")
        } else if self.may_go_on(&status) {
            (RunState::Queued, "the trainer died (it crashed or was killed); another one goes on where it stopped")
        } else {
            (RunState::Failed, "the trainer ended without finishing the run (it crashed or was killed)")
        };
        Ok(RunStatus { state, reason: Some(reason.into()), ..status })
    }

    /// Whether another trainer may take up a run with this written status that no process works on; one whose trainer
    /// died before it wrote anything too.
    pub fn may_go_on(&self, written: &RunStatus) -> bool {
        !written.state.is_final() && written.attempts < MAX_ATTEMPTS && !self.cancel_requested()
    }

    /// Replaces the status.
    pub fn write_status(&self, status: &RunStatus) -> Result<()> {
        atomic::write_json(&self.dir.join(STATUS), status)
    }

    /// Marks a run that nothing works on as ended, unless it has ended already. Returns the status it has then.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if a live process works on it.
    pub fn bury(&self, state: RunState, reason: &str) -> Result<RunStatus> {
        let _lock = self.lock()?;
        let mut status = self.written_status()?;
        if !status.state.is_final() {
            status.state = state;
            status.reason = Some(reason.to_owned());
            status.ended = Some(clock::now_rfc3339());
            self.write_status(&status)?;
        }
        Ok(status)
    }

    /// What people call the run; empty unless somebody said.
    pub fn label(&self) -> Result<RunLabel> {
        optional(atomic::read_json(&self.dir.join(LABEL), "run label")).map(Option::unwrap_or_default)
    }

    /// Replaces what people call the run.
    ///
    /// # Errors
    /// [`StoreError::Label`] if it is too long, or the name has several lines.
    pub fn write_label(&self, label: &RunLabel) -> Result<()> {
        let (name, notes) = (label.name.chars().count(), label.notes.chars().count());
        if name > NAME_CHARS {
            return Err(StoreError::Label(format!("name has {name} characters; expected at most {NAME_CHARS}")));
        }
        if label.name.chars().any(char::is_control) {
            return Err(StoreError::Label(
                "name has a line break or another control character; expected one line".into(),
            ));
        }
        if notes > NOTES_CHARS {
            return Err(StoreError::Label(format!("notes have {notes} characters; expected at most {NOTES_CHARS}")));
        }
        atomic::write_json(&self.dir.join(LABEL), label)
    }

    /// What its files take on the disk.
    pub fn bytes(&self) -> u64 {
        disk::bytes_under(&self.dir)
    }

    /// Appends one line of progress.
    pub fn append_progress(&self, progress: &Progress) -> Result<()> {
        let path = self.dir.join(PROGRESS);
        let mut line = serde_json::to_vec(progress).map_err(|e| StoreError::Draft(e.to_string()))?;
        line.push(b'\n');
        let file = File::options().create(true).append(true).open(&path);
        file.and_then(|mut f| f.write_all(&line)).map_err(StoreError::write(&path))
    }

    /// Complete lines of progress from byte `offset` on, and the offset to go on from.
    ///
    /// A line that cannot be parsed (a crash cut it off) is passed over.
    pub fn progress_from(&self, offset: u64) -> Result<(Vec<Progress>, u64)> {
        let path = self.dir.join(PROGRESS);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((vec![], offset)),
            Err(e) => return Err(StoreError::read(&path)(e)),
        };
        let mut text = vec![];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_to_end(&mut text))
            .map_err(StoreError::read(&path))?;
        let complete = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let lines = text[..complete].split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        Ok((lines.collect(), offset + complete as u64))
    }

    /// Asks whoever works on the run to stop.
    pub fn request_cancel(&self) -> Result<()> {
        let path = self.dir.join(CANCEL);
        File::create(&path).map(drop).map_err(StoreError::write(&path))
    }

    /// Whether someone asked for a stop.
    pub fn cancel_requested(&self) -> bool {
        self.dir.join(CANCEL).exists()
    }

    /// Publishes the results.
    pub fn write_results(&self, results: &Results) -> Result<()> {
        atomic::write_json(&self.dir.join(RESULTS), results)
    }

    /// The results, once there are any.
    pub fn results(&self) -> Result<Option<Results>> {
        optional(atomic::read_json(&self.dir.join(RESULTS), "results file"))
    }

    /// Last lines of the trainer's log, at most `bytes` long.
    pub fn log_tail(&self, bytes: u64) -> String {
        let Ok(mut file) = File::open(self.log_path()) else { return String::new() };
        let start = file.metadata().map_or(0, |m| m.len()).saturating_sub(bytes);
        let mut text = vec![];
        if file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_end(&mut text)).is_err() {
            return String::new();
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// `None` for what is not there.
pub(crate) fn optional<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_lock_is_let_go_of_while_a_child_still_has_a_copy_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join(LOCK)).unwrap();
        file.try_lock().unwrap();
        let as_a_child_has_it = file.try_clone().unwrap();
        let lock = RunLock(file);
        let again = || File::open(folder.path().join(LOCK)).unwrap().try_lock();
        assert!(matches!(again(), Err(fs::TryLockError::WouldBlock)));
        drop(lock);
        assert!(again().is_ok());
        drop(as_a_child_has_it);
    }
}
