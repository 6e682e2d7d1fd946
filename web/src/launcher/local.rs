//! Trainers as processes of this machine: each a child in a process group of its own.
//!
//! A run whose trainer ends without a last
//! status is marked failed with the reason. A trainer outlives a service that is killed; the next service finds it
//! again by its lock and looks after it.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::train::RunState;
use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use store::{Run, Volumes};
use tokio::{
    process::{Child, Command},
    sync::Semaphore,
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{LaunchError, Launcher, bury};
use crate::error::chain;

/// How often a trainer that is not our child is looked at.
const ADOPTED_INTERVAL: Duration = Duration::from_secs(1);

/// What a trainer gets to end after a cancel, before it is killed.
const CANCEL_GRACE: Duration = Duration::from_secs(30);

/// Bytes of the trainer's log in which the last line is looked for.
const LOG_TAIL_BYTES: u64 = 4096;

/// Longest line of the log that becomes part of a reason, in characters.
const REASON_CHARS: usize = 400;

/// Trainers as child processes of this one.
#[derive(Clone, Debug)]
pub struct LocalProcess {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    volumes: Volumes,
    slots: Semaphore,
    supervised: Mutex<HashMap<String, Control>>,
    tasks: TaskTracker,
}

/// How a run's supervisor is told to end its trainer.
#[derive(Clone, Debug, Default)]
struct Control {
    /// Cancelled when its trainer begins.
    has_room: CancellationToken,
    cancel: CancellationToken,
    kill: CancellationToken,
}

impl LocalProcess {
    /// Runs `program`, at most `slots` of it at once.
    pub fn new(program: PathBuf, volumes: Volumes, slots: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                program,
                volumes,
                slots: Semaphore::new(slots),
                supervised: Mutex::default(),
                tasks: TaskTracker::new(),
            }),
        }
    }
}

impl Launcher for LocalProcess {
    fn start<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), LaunchError>> {
        Box::pin(async move {
            self.inner.supervise(run.clone(), Inner::train)?;
            Ok(())
        })
    }

    fn stop<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), LaunchError>> {
        Box::pin(async move {
            run.request_cancel()?;
            match self.inner.controls().get(run.id()) {
                Some(control) => control.cancel.cancel(),
                // Nobody here works on it: it has ended, or another program's trainer does and sees the request.
                None if run.is_locked() => {}
                None => {
                    run.bury(RunState::Cancelled, "cancelled while no trainer worked on it")?;
                }
            }
            Ok(())
        })
    }

    fn recover(&self) -> BoxFuture<'_, Result<(), LaunchError>> {
        Box::pin(async move {
            for run in self.inner.volumes.runs()? {
                let state = run.written_status()?.state;
                if state.is_final() {
                    continue;
                }
                if run.is_locked() {
                    tracing::info!(run = run.id(), "a trainer of an earlier service still works");
                    self.inner.supervise(run, Inner::adopt)?;
                } else if state == RunState::Queued && !run.cancel_requested() {
                    tracing::info!(run = run.id(), "starting a run that was waiting");
                    self.inner.supervise(run, Inner::train)?;
                } else {
                    let how = if run.cancel_requested() { RunState::Cancelled } else { RunState::Failed };
                    bury(&run, how, "the trainer ended while the service was not there to see why");
                }
            }
            Ok(())
        })
    }

    fn hindrance(&self, run: &str) -> Option<String> {
        let waits = self.inner.controls().get(run).is_some_and(|control| !control.has_room.is_cancelled());
        waits.then(|| "waiting for another run to end: as many trainers work as may at once".to_owned())
    }

    fn log<'a>(&'a self, run: &'a Run, bytes: u64) -> BoxFuture<'a, Result<String, LaunchError>> {
        let run = run.clone();
        Box::pin(async move { Ok(tokio::task::spawn_blocking(move || run.log_tail(bytes)).await?) })
    }

    fn shutdown(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.inner.tasks.close();
            let controls: Vec<_> = self.inner.controls().iter().map(|(id, c)| (id.clone(), c.clone())).collect();
            for (id, control) in &controls {
                match self.inner.volumes.run(id).and_then(|run| run.request_cancel()) {
                    Ok(()) => tracing::info!(run = id, "cancelling, because the service stops"),
                    Err(e) => tracing::error!(run = id, error = chain(&e), "cannot ask the trainer to stop"),
                }
                control.cancel.cancel();
            }
            if time::timeout(deadline, self.inner.tasks.wait()).await.is_err() {
                for (_, control) in &controls {
                    control.kill.cancel();
                }
                self.inner.tasks.wait().await;
            }
        })
    }
}

impl Inner {
    fn controls(&self) -> MutexGuard<'_, HashMap<String, Control>> {
        self.supervised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a run to a task of its own, unless it has one.
    fn supervise<F>(self: &Arc<Self>, run: Run, work: fn(Arc<Self>, Run, Control) -> F) -> Result<(), LaunchError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut controls = self.controls();
        if self.tasks.is_closed() {
            return Err(LaunchError::Stopping);
        }
        if controls.contains_key(run.id()) {
            return Ok(());
        }
        let control = Control::default();
        controls.insert(run.id().to_owned(), control.clone());
        let this = self.clone();
        self.tasks.spawn(async move {
            let id = run.id().to_owned();
            work(this.clone(), run, control).await;
            this.controls().remove(&id);
        });
        Ok(())
    }

    /// Waits for room, trains, and sees to it that the run has an end.
    async fn train(self: Arc<Self>, run: Run, control: Control) {
        let _slot = tokio::select! {
            slot = self.slots.acquire() => slot,
            () = control.cancel.cancelled() => {
                bury(&run, RunState::Cancelled, "cancelled before training began");
                return;
            }
        };
        control.has_room.cancel();
        let mut child = match self.spawn(&run) {
            Ok(child) => child,
            Err(e) => {
                let reason = format!("cannot start the trainer {}: {e}", self.program.display());
                bury(&run, RunState::Failed, &reason);
                return;
            }
        };
        match wait(&mut child, &control).await {
            Ok(status) => conclude(&run, &status),
            Err(e) => {
                bury(&run, RunState::Failed, &format!("cannot wait for the trainer: {e}"));
            }
        }
    }

    /// Looks after a trainer that an earlier service started.
    async fn adopt(self: Arc<Self>, run: Run, control: Control) {
        control.has_room.cancel();
        let mut interval = time::interval(ADOPTED_INTERVAL);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = control.kill.cancelled() => {
                    tracing::warn!(run = run.id(), "left behind: its trainer is no child of this service");
                    return;
                }
            }
            if !run.is_locked() {
                let how = if run.cancel_requested() { RunState::Cancelled } else { RunState::Failed };
                bury(&run, how, &with_last_line(&run, "the trainer ended without finishing the run"));
                return;
            }
        }
    }

    fn spawn(&self, run: &Run) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(run.log_path())?;
        Command::new(&self.program)
            .arg("--spec")
            .arg(run.spec_path())
            .arg("--datasets")
            .arg(self.volumes.volume1())
            .arg("--models")
            .arg(self.volumes.volume2())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
    }
}

/// Waits for the trainer's end; once asked to stop it has [`CANCEL_GRACE`], then its group is killed.
async fn wait(child: &mut Child, control: &Control) -> io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        () = control.cancel.cancelled() => {}
    }
    tokio::select! {
        status = child.wait() => return status,
        () = time::sleep(CANCEL_GRACE) => {}
        () = control.kill.cancelled() => {}
    }
    if let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        tracing::warn!(pid = group.as_raw_nonzero().get(), "the trainer did not stop when asked; killing it");
        // It may have ended just now; then there is nothing left to kill.
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait().await
}

/// Sees to it that a run whose trainer has ended says so.
fn conclude(run: &Run, status: &ExitStatus) {
    if run.written_status().is_ok_and(|written| written.state.is_final()) {
        return;
    }
    if run.cancel_requested() {
        bury(run, RunState::Cancelled, "cancelled");
    } else {
        bury(run, RunState::Failed, &with_last_line(run, &ending(status)));
    }
}

fn ending(status: &ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => "the trainer was killed by signal 9 (SIGKILL; often because memory ran out)".into(),
        (Some(signal), _) => format!("the trainer was ended by signal {signal}"),
        (None, Some(0)) => "the trainer ended without finishing the run".into(),
        (None, code) => format!("the trainer ended with exit code {}", code.unwrap_or(-1)),
    }
}

fn with_last_line(run: &Run, ending: &str) -> String {
    let log = run.log_tail(LOG_TAIL_BYTES);
    match log.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("{ending}; its last words: {}", line.chars().take(REASON_CHARS).collect::<String>()),
        None => ending.to_owned(),
    }
}
