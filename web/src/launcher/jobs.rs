//! Trainers as Jobs of a Kubernetes cluster. They outlive this service: whoever comes next finds them again.
//!
//! Several replicas of the service look after the same runs, and need not know of each other. The Job of an attempt at a run
//! has a name that follows from both, so that starting it twice starts it once; what has become of it is read from the API
//! server; and a run is marked as ended under its lock, only where it does not say so already.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::train::RunState;
use cluster::{
    ClusterError, JobState,
    trainers::{TrainerJob, Trainers},
};
use futures_util::future::BoxFuture;
use store::{Run, StoreError, Volumes};
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{LaunchError, Launcher, bury};
use crate::error::chain;

/// How often the Jobs of runs without an end are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often runs that other replicas took on are looked for.
const SCAN_EVERY: Duration = Duration::from_secs(10);

/// Bytes of a trainer's log that are kept when its pod is gone.
const KEPT_LOG_BYTES: u64 = 64 << 10;

/// Trainers as Jobs.
#[derive(Clone, Debug)]
pub struct ClusterJobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    trainers: Trainers,
    volumes: Volumes,
    book: Mutex<Book>,
    wake: Notify,
    ended: watch::Sender<u64>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// What this replica has seen. Nothing is decided by it.
#[derive(Debug, Default)]
struct Book {
    /// Runs without an end, and what keeps each of them.
    open: BTreeMap<String, Option<String>>,
    /// Runs that need not be looked at any more.
    settled: HashSet<String>,
}

/// What is to be done about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, ever.
    Settle,
    /// Nothing now; what keeps it.
    Wait(Option<String>),
    /// Make the Job of this attempt.
    Start(u32),
    /// Delete the Job of this attempt.
    Delete(u32),
    /// Mark it as ended.
    Bury(RunState, String),
}

impl ClusterJobs {
    /// Asks the cluster nothing yet.
    pub fn new(trainers: Trainers, volumes: Volumes) -> Self {
        Self {
            inner: Arc::new(Inner {
                trainers,
                volumes,
                book: Mutex::default(),
                wake: Notify::new(),
                ended: watch::Sender::new(0),
                stopping: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        }
    }
}

impl Launcher for ClusterJobs {
    fn start<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), LaunchError>> {
        Box::pin(async move {
            self.inner.book().open.insert(run.id().to_owned(), None);
            self.inner.begin(run, 1).await?;
            self.inner.wake.notify_one();
            Ok(())
        })
    }

    fn stop<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<(), LaunchError>> {
        Box::pin(async move {
            // First: from now on nobody makes its Job again.
            let asked = run.clone();
            let written = spawn_blocking(move || {
                asked.request_cancel()?;
                asked.written_status()
            });
            let begun = written.await??.attempts;
            self.inner.book().open.entry(run.id().to_owned()).or_default();
            // The one that works, and the one that may be about to follow it.
            for attempt in begun.max(1)..=begun + 1 {
                let deleted = self.inner.trainers.cancel(run.id(), attempt).await;
                self.inner.wake.notify_one();
                match deleted {
                    Err(error) if error.is_passing() => {
                        tracing::warn!(run = run.id(), error = chain(&error), "its Job is deleted later");
                    }
                    other => other?,
                }
            }
            Ok(())
        })
    }

    fn recover(&self) -> BoxFuture<'_, Result<(), LaunchError>> {
        Box::pin(async move {
            self.inner.tasks.spawn(self.inner.clone().look_after());
            Ok(())
        })
    }

    fn hindrance(&self, run: &str) -> Option<String> {
        self.inner.book().open.get(run).cloned().flatten()
    }

    fn ended(&self) -> watch::Receiver<u64> {
        self.inner.ended.subscribe()
    }

    fn log<'a>(&'a self, run: &'a Run, bytes: u64) -> BoxFuture<'a, Result<String, LaunchError>> {
        Box::pin(async move {
            let kept = run.clone();
            let kept =
                spawn_blocking(move || Ok::<_, StoreError>((kept.log_tail(bytes), kept.written_status()?.attempts)));
            let (kept, begun) = kept.await??;
            if kept.is_empty() { Ok(self.inner.trainers.log(run.id(), begun.max(1), bytes).await?) } else { Ok(kept) }
        })
    }

    fn shutdown(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.inner.stopping.cancel();
            self.inner.tasks.close();
            if time::timeout(deadline, self.inner.tasks.wait()).await.is_err() {
                tracing::warn!("the cluster did not answer before the service ended");
            }
        })
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, run: &str, hindrance: Option<String>) {
        if let Some(note) = self.book().open.get_mut(run) {
            *note = hindrance;
        }
    }

    fn settle(&self, run: &str) {
        let mut book = self.book();
        book.open.remove(run);
        book.settled.insert(run.to_owned());
        self.ended.send_modify(|ended| *ended += 1);
    }

    async fn look_after(self: Arc<Self>) {
        let mut scanned: Option<Instant> = None;
        loop {
            let scan = scanned.is_none_or(|at| at.elapsed() >= SCAN_EVERY);
            let looked = tokio::select! {
                looked = self.look(scan) => looked,
                () = self.stopping.cancelled() => return,
            };
            match looked {
                Ok(()) if scan => scanned = Some(Instant::now()),
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot look after the runs; trying again");
                    if let LaunchError::Cluster(error) = &error {
                        self.book().open.values_mut().for_each(|note| *note = Some(error.to_string()));
                    }
                }
            }
            tokio::select! {
                () = time::sleep(LOOK_EVERY) => {}
                () = self.wake.notified() => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Looks at every run without an end once, and does what is to be done.
    async fn look(self: &Arc<Self>, scan: bool) -> Result<(), LaunchError> {
        if scan {
            let this = self.clone();
            spawn_blocking(move || this.scan()).await??;
        }
        let open: Vec<String> = self.book().open.keys().cloned().collect();
        if open.is_empty() {
            return Ok(());
        }
        // The Jobs first and the folders after them: what a Job did before it went is in the folder by then.
        let jobs = self.trainers.observe().await?;
        for id in open {
            let (volumes, run) = (self.volumes.clone(), id.clone());
            let Ok(run) = spawn_blocking(move || volumes.run(&run)).await? else {
                self.settle(&id);
                continue;
            };
            let job = jobs.iter().filter(|job| job.run == id).max_by_key(|job| job.attempt).cloned();
            self.tend(run, job).await?;
        }
        Ok(())
    }

    /// Takes note of runs that nobody here has seen the end of.
    fn scan(&self) -> store::Result<()> {
        let ids = self.volumes.run_ids()?;
        let mut book = self.book();
        for id in ids {
            if !book.settled.contains(&id) {
                book.open.entry(id).or_default();
            }
        }
        Ok(())
    }

    async fn tend(self: &Arc<Self>, run: Run, job: Option<TrainerJob>) -> Result<(), LaunchError> {
        let (judged, seen) = (run.clone(), job.clone());
        let step = spawn_blocking(move || judge(&judged, seen.as_ref())).await??;
        if let Some(job) = job.filter(|_| matches!(step, Step::Settle | Step::Bury(..))) {
            self.keep_log(&run, job.attempt).await;
        }
        match step {
            Step::Settle => self.settle(run.id()),
            Step::Wait(hindrance) => self.note(run.id(), hindrance),
            Step::Start(attempt) => self.begin(&run, attempt).await?,
            Step::Delete(attempt) => self.trainers.cancel(run.id(), attempt).await?,
            Step::Bury(how, reason) => {
                let dead = run.clone();
                if spawn_blocking(move || bury(&dead, how, &reason)).await? {
                    self.settle(run.id());
                }
            }
        }
        Ok(())
    }

    /// Makes the Job of an attempt at a run. What the cluster will not do however often it is asked is the run's end.
    async fn begin(&self, run: &Run, attempt: u32) -> Result<(), LaunchError> {
        let hindrance = match self.trainers.start(run.id(), attempt).await {
            Ok(made) => {
                tracing::info!(run = run.id(), attempt, made, "the run has a Job");
                None
            }
            Err(error) if error.is_passing() => {
                tracing::warn!(run = run.id(), error = chain(&error), "its Job is made later");
                Some(error.to_string())
            }
            Err(error) => return self.give_up(run, &error).await,
        };
        self.note(run.id(), hindrance);
        Ok(())
    }

    async fn give_up(&self, run: &Run, error: &ClusterError) -> Result<(), LaunchError> {
        tracing::error!(run = run.id(), error = chain(error), "the cluster does not take the run");
        let (dead, reason) = (run.clone(), format!("the cluster does not take the run: {error}"));
        if spawn_blocking(move || bury(&dead, RunState::Failed, &reason)).await? {
            self.settle(run.id());
        }
        Ok(())
    }

    /// Keeps what a trainer printed, for its pod will not stay. That it cannot be kept is no reason to stop.
    async fn keep_log(&self, run: &Run, attempt: u32) {
        match self.trainers.log(run.id(), attempt, KEPT_LOG_BYTES).await {
            Ok(log) if !log.is_empty() => {
                let path = run.log_path();
                let kept = spawn_blocking(move || store::write_atomic(&path, log.as_bytes())).await;
                if let Ok(Err(error)) = kept {
                    tracing::warn!(run = run.id(), error = chain(&error), "the trainer's log cannot be kept");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(run = run.id(), error = chain(&error), "the trainer's log cannot be read"),
        }
    }
}

/// What is to be done about a run, whose newest Job was looked at before; blocks on the disk.
fn judge(run: &Run, job: Option<&TrainerJob>) -> store::Result<Step> {
    let written = run.written_status()?;
    let began = written.state == RunState::Running;
    let works = matches!(job, Some(TrainerJob { state: JobState::Waiting(_) | JobState::Running, .. }));
    if written.state.is_final() {
        // Its log is kept when it has printed its last.
        return Ok(if works { Step::Wait(None) } else { Step::Settle });
    }
    let cancelled = run.cancel_requested();
    // Only a running trainer has the lock; a queued one's must not find it taken by somebody who looks.
    let locked = || began && run.is_locked();
    let end = |reason: &str| {
        let how = if cancelled { RunState::Cancelled } else { RunState::Failed };
        Step::Bury(how, if cancelled { "cancelled".to_owned() } else { reason.to_owned() })
    };
    // The attempt that the status tells of; a trainer that does not count itself is the first.
    let begun = written.attempts.max(1);
    let Some(TrainerJob { attempt, state, was_killed, .. }) = job else {
        return Ok(match written.state {
            _ if locked() => Step::Wait(None),
            RunState::Queued if !cancelled => Step::Start(1),
            _ if run.may_go_on(&written) => Step::Start(begun + 1),
            _ => end("the trainer's Job is gone: somebody deleted it before the run had ended"),
        });
    };
    Ok(match state {
        JobState::Waiting(_) | JobState::Running if cancelled => Step::Delete(*attempt),
        JobState::Waiting(hindrance) => Step::Wait(hindrance.clone()),
        JobState::Running => Step::Wait(None),
        // A trainer that never began would not begin the next time either.
        JobState::Failed(_) if began && *was_killed && *attempt == begun && run.may_go_on(&written) => match locked() {
            true => Step::Wait(None),
            false => Step::Start(begun + 1),
        },
        JobState::Failed(reason) => end(reason),
        JobState::Succeeded => end("the trainer ended without finishing the run"),
    })
}
