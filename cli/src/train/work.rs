//! A trainer as a child of this process, and the run's way to its end whoever works on it.

use std::{io, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus, time::Duration};

use anyhow::{Context, Result, bail};
use api::train::{RunState, RunStatus};
use rustix::process::{Pid, Signal, kill_process_group};
use store::{MAX_ATTEMPTS, Run, StoreError, Volumes};
use tokio::{
    process::{Child, Command},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::show::Show;
use crate::signals::StopSignals;

/// Between two looks at the run's progress.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a trainer gets to end after a cancel, before it is killed.
const CANCEL_GRACE: Duration = Duration::from_secs(30);

/// Bytes of the trainer's log in which its last words are looked for.
const LOG_TAIL_BYTES: u64 = 4096;

/// Longest last words, in characters.
const LAST_WORDS_CHARS: usize = 400;

/// A trainer's program and what it needs.
pub struct Trainer {
    /// The program.
    pub program: PathBuf,
    /// Where its data lie.
    pub volumes: Volumes,
    /// Variables on top of our own.
    pub environment: Vec<(&'static str, PathBuf)>,
}

/// How a trainer of ours left its run.
enum Left {
    /// The run has ended.
    Ended(RunStatus),
    /// It died, and another one may go on.
    Unfinished,
    /// Another process works on it.
    Elsewhere,
}

impl Trainer {
    /// Has the run worked on until it has ended, by a trainer of ours or by whoever took it first.
    ///
    /// The first signal cancels the run, the second one kills its trainer.
    ///
    /// # Errors
    /// If the run's folder cannot be read or written, or nobody wants to wait for another process' trainer
    pub async fn work(&self, run: &Run, stop: &mut StopSignals, show: &mut dyn Show) -> Result<RunStatus> {
        let mut told = Told { run, offset: 0 };
        // A trainer that dies before it counts itself is not followed for ever.
        for _ in 0..MAX_ATTEMPTS {
            let ended = match self.spawn(run) {
                Ok(child) => attend(child, run, stop, &mut told, show).await?,
                Err(error) => {
                    let reason = format!("cannot start the trainer {}: {error}", self.program.display());
                    return Ok(run.bury(RunState::Failed, &reason)?);
                }
            };
            told.tell(show)?;
            match leave(run, &ended)? {
                Left::Ended(status) => return Ok(status),
                Left::Unfinished => show.note(&format!("the trainer died ({ended}); another one goes on")),
                Left::Elsewhere => {
                    show.note("another process works on the run; following it");
                    if let Some(status) = follow(run, stop, &mut told, show).await? {
                        return Ok(status);
                    }
                }
            }
        }
        Ok(run.bury(RunState::Failed, "its trainers died one after the other")?)
    }

    fn spawn(&self, run: &Run) -> io::Result<Child> {
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        Command::from(run.trainer(&self.program, &self.volumes)?).envs(environment).spawn()
    }
}

/// How much of a run's progress was told.
struct Told<'a> {
    run: &'a Run,
    offset: u64,
}

impl Told<'_> {
    /// Tells what is new.
    fn tell(&mut self, show: &mut dyn Show) -> Result<()> {
        let (events, offset) = self.run.progress_from(self.offset)?;
        self.offset = offset;
        events.iter().for_each(|event| show.progress(event));
        Ok(())
    }
}

/// Waits for a trainer of ours.
async fn attend(
    mut child: Child,
    run: &Run,
    stop: &mut StopSignals,
    told: &mut Told<'_>,
    show: &mut dyn Show,
) -> Result<ExitStatus> {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kill_at = None;
    loop {
        let too_late = async {
            match kill_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = child.wait() => return ended.context("cannot wait for the trainer"),
            _ = looks.tick() => told.tell(show)?,
            () = stop.next() => match kill_at {
                None => {
                    run.request_cancel()?;
                    kill_at = Some(Instant::now() + CANCEL_GRACE);
                    show.note("cancelling; Ctrl-C again kills the trainer");
                }
                Some(_) => {
                    kill(&child);
                    kill_at = Some(Instant::now() + CANCEL_GRACE);
                }
            },
            () = too_late => {
                show.note("the trainer did not stop when asked; killing it");
                kill(&child);
                kill_at = Some(Instant::now() + CANCEL_GRACE);
            }
        }
    }
}

fn kill(child: &Child) {
    if let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // It may have ended just now; then there is nothing left to kill.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Sees to it that a run whose trainer has ended says how, unless somebody goes on with it.
fn leave(run: &Run, ended: &ExitStatus) -> Result<Left> {
    // Before the lock is looked at: who has let go of it since has written its last status.
    if run.is_locked() {
        return Ok(Left::Elsewhere);
    }
    let written = run.written_status()?;
    if written.state.is_final() {
        return Ok(Left::Ended(written));
    }
    // One that ended by itself would do so again.
    if ended.signal().is_some() && run.may_go_on(&written) {
        return Ok(Left::Unfinished);
    }
    let buried = match run.cancel_requested() {
        true => run.bury(RunState::Cancelled, "cancelled"),
        false => run.bury(RunState::Failed, &last_words(run, &format!("the trainer ended with {ended}"))),
    };
    match buried {
        Ok(status) => Ok(Left::Ended(status)),
        Err(StoreError::Busy(_)) => Ok(Left::Elsewhere),
        Err(error) => Err(error.into()),
    }
}

fn last_words(run: &Run, ending: &str) -> String {
    let log = run.log_tail(LOG_TAIL_BYTES);
    match log.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("{ending}; its last words: {}", line.chars().take(LAST_WORDS_CHARS).collect::<String>()),
        None => ending.to_owned(),
    }
}

/// Waits while another process works on the run; nothing if it lets go without an end.
async fn follow(
    run: &Run,
    stop: &mut StopSignals,
    told: &mut Told<'_>,
    show: &mut dyn Show,
) -> Result<Option<RunStatus>> {
    let mut looks = interval(LOOK_EVERY);
    let mut asked = false;
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let works = run.is_locked();
                told.tell(show)?;
                let written = run.written_status()?;
                if written.state.is_final() {
                    told.tell(show)?;
                    return Ok(Some(written));
                }
                if !works {
                    return Ok(None);
                }
            }
            () = stop.next() => {
                if asked {
                    bail!("stopped waiting for run {}, which another process works on", run.id());
                }
                asked = true;
                run.request_cancel()?;
                show.note("cancelling; Ctrl-C again stops waiting");
            }
        }
    }
}
