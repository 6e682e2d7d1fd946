//! Telling how far an ingest is, and hearing that nobody waits for it any more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use crate::{IngestError, Progress, Result, Stage};

/// Told by the workers, on whatever thread they run.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    progress: watch::Sender<Progress>,
    cancelled: Arc<AtomicBool>,
}

/// Cancels the workers when it is dropped.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Reporter {
    pub fn new(progress: watch::Sender<Progress>) -> (Self, CancelOnDrop) {
        progress.send_replace(Progress::default());
        let cancelled = Arc::new(AtomicBool::new(false));
        (Self { progress, cancelled: cancelled.clone() }, CancelOnDrop(cancelled))
    }

    /// Says how far a stage is.
    ///
    /// # Errors
    /// [`IngestError::Cancelled`] once nobody waits for the result.
    pub fn tell(&self, stage: Stage, done: u64, total: u64) -> Result<()> {
        self.progress.send_if_modified(|progress| {
            let now = Progress { stage, done, total };
            // A thousand steps are enough for any bar.
            let tells = progress.stage != stage || done == total || (done - progress.done.min(done)) * 1000 >= total;
            if tells {
                *progress = now;
            }
            tells
        });
        self.check()
    }

    /// # Errors
    /// [`IngestError::Cancelled`] once nobody waits for the result.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(IngestError::Cancelled) } else { Ok(()) }
    }
}
