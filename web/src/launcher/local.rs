//! Trainers as processes of this machine: each a child in a process group of its own.
//!
//! A run whose trainer dies is taken up by another one, which goes on where the dead one stopped; one whose trainer ends
//! without a last status is marked failed with the reason. A trainer outlives a service that is killed; the next service
//! finds it again by its lock and looks after it.

use std::{
    collections::HashMap,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::train::RunState;
use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use store::{MAX_ATTEMPTS, Run, Volumes};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    LaunchError, Launcher, bury,
    places::{Place, Places, Ticket},
};
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
    places: Arc<Places>,
    supervised: Mutex<HashMap<String, Control>>,
    ended: watch::Sender<u64>,
    tasks: TaskTracker,
}

/// How a run's supervisor begins.
#[derive(Debug)]
enum Begin {
    /// With a trainer of its own, when it is its turn.
    Waiting(Ticket),
    /// With a trainer that an earlier service started.
    Working(Place),
}

/// How a run's supervisor is told to end its trainer.
#[derive(Clone, Debug, Default)]
struct Control {
    cancel: CancellationToken,
    kill: CancellationToken,
}

impl LocalProcess {
    /// Runs `program`, at most `places` of it at once.
    pub fn new(program: PathBuf, volumes: Volumes, places: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                program,
                volumes,
                places: Places::new(places),
                supervised: Mutex::default(),
                ended: watch::Sender::new(0),
                tasks: TaskTracker::new(),
            }),
        }
    }
}

impl Launcher for LocalProcess {
    fn start<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), LaunchError>> {
        Box::pin(async move {
            let ticket = self.inner.places.queue(run.id());
            self.inner.supervise(run.clone(), Begin::Waiting(ticket))
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
            // Oldest first, so that they wait in that order.
            for run in self.inner.volumes.runs()?.into_iter().rev() {
                let written = match run.written_status() {
                    Ok(written) if written.state.is_final() => continue,
                    Ok(written) => written,
                    Err(error) => {
                        tracing::warn!(run = run.id(), error = chain(&error), "a run cannot be read; it is left alone");
                        continue;
                    }
                };
                let queue = || Begin::Waiting(self.inner.places.queue(run.id()));
                if run.is_locked() {
                    tracing::info!(run = run.id(), "a trainer of an earlier service still works");
                    self.inner.supervise(run, Begin::Working(self.inner.places.take()))?;
                } else if run.cancel_requested() {
                    bury(&run, RunState::Cancelled, "cancelled");
                } else if written.state == RunState::Queued {
                    tracing::info!(run = run.id(), "starting a run that was waiting");
                    let begin = queue();
                    self.inner.supervise(run, begin)?;
                } else if run.may_go_on(&written) {
                    tracing::warn!(run = run.id(), "its trainer died with an earlier service; another one goes on");
                    let begin = queue();
                    self.inner.supervise(run, begin)?;
                } else {
                    let reason = "the trainer ended while the service was not there to see why";
                    bury(&run, RunState::Failed, &with_deaths(&run, reason));
                }
            }
            Ok(())
        })
    }

    fn hindrance(&self, run: &str) -> Option<String> {
        let front = match self.inner.places.ahead(run)? {
            0 => "it is the next one".to_owned(),
            1 => "1 run is in front of this one".to_owned(),
            n => format!("{n} runs are in front of this one"),
        };
        Some(format!("waiting for another run to end, as many trainers work as may at once; {front}"))
    }

    fn ahead(&self, run: &str) -> Option<usize> {
        self.inner.places.ahead(run)
    }

    fn ended(&self) -> watch::Receiver<u64> {
        self.inner.ended.subscribe()
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
    fn supervise(self: &Arc<Self>, run: Run, begin: Begin) -> Result<(), LaunchError> {
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
            this.look_after(&run, &control, begin).await;
            this.controls().remove(run.id());
            this.ended.send_modify(|ended| *ended += 1);
        });
        Ok(())
    }

    /// Sees to it that the run has an end.
    async fn look_after(&self, run: &Run, control: &Control, begin: Begin) {
        let _place = match begin {
            Begin::Waiting(ticket) => tokio::select! {
                place = ticket.admitted() => place,
                () = control.cancel.cancelled() => {
                    bury(run, RunState::Cancelled, "cancelled before training began");
                    return;
                }
            },
            Begin::Working(place) => {
                if self.adopt(run, control).await == Outcome::Ended {
                    return;
                }
                place
            }
        };
        // A trainer that dies before it counts itself is not followed for ever.
        for attempt in 1..=MAX_ATTEMPTS {
            if self.train(run, control, attempt < MAX_ATTEMPTS).await == Outcome::Ended {
                return;
            }
        }
    }

    /// Has a trainer work on the run, which another one may follow.
    async fn train(&self, run: &Run, control: &Control, may_be_followed: bool) -> Outcome {
        let mut child = match self.spawn(run) {
            Ok(child) => child,
            Err(e) => {
                let reason = format!("cannot start the trainer {}: {e}", self.program.display());
                bury(run, RunState::Failed, &reason);
                return Outcome::Ended;
            }
        };
        match wait(&mut child, control).await {
            Ok(status) => conclude(run, &ending(&status), may_be_followed && status.signal().is_some()),
            Err(e) => {
                bury(run, RunState::Failed, &format!("cannot wait for the trainer: {e}"));
                Outcome::Ended
            }
        }
    }

    /// Looks after a trainer that an earlier service started, to its end.
    async fn adopt(&self, run: &Run, control: &Control) -> Outcome {
        let mut interval = time::interval(ADOPTED_INTERVAL);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = control.kill.cancelled() => {
                    tracing::warn!(run = run.id(), "left behind: its trainer is no child of this service");
                    return Outcome::Ended;
                }
            }
            if !run.is_locked() {
                // Nobody can tell how it ended. What it would not finish again ends with the last attempt.
                return conclude(run, "the trainer ended without finishing the run", true);
            }
        }
    }

    fn spawn(&self, run: &Run) -> io::Result<Child> {
        Command::from(run.trainer(&self.program, &self.volumes)?).spawn()
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

/// What becomes of a run after its trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It has an end.
    Ended,
    /// Another trainer is to go on.
    Unfinished,
}

/// Sees to it that a run whose trainer has ended says so, unless the trainer was killed and another one may go on.
fn conclude(run: &Run, ending: &str, was_killed: bool) -> Outcome {
    let Ok(written) = run.written_status() else {
        bury(run, RunState::Failed, ending);
        return Outcome::Ended;
    };
    if written.state.is_final() {
        return Outcome::Ended;
    }
    if was_killed && run.may_go_on(&written) {
        tracing::warn!(run = run.id(), attempts = written.attempts, ending, "another trainer goes on");
        return Outcome::Unfinished;
    }
    if run.cancel_requested() {
        bury(run, RunState::Cancelled, "cancelled");
    } else {
        bury(run, RunState::Failed, &with_last_line(run, &with_deaths(run, ending)));
    }
    Outcome::Ended
}

/// Says how many trainers a run has had, if there were several.
fn with_deaths(run: &Run, ending: &str) -> String {
    match run.written_status().map_or(0, |written| written.attempts) {
        0 | 1 => ending.to_owned(),
        n => format!("{ending}; it was the trainer number {n} on this run"),
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
