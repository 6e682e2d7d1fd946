//! The threads guests run on, apart from those that accept, wait and answer; and the pulse that makes a guest which
//! computes for long let the others have their turn.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use tokio::{
    runtime,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::task::AbortOnDropHandle;
use wasmtime::Engine;

use crate::{RuntimeError, engine::MAX_SANDBOXES};

/// How long a guest computes before it yields: the resolution of time limits on a guest that spins.
const TURN: Duration = Duration::from_millis(10);

/// Threads for work that blocks. Much of such work at once, such as mapping hundreds of artefacts, would only cost
/// memory.
const BLOCKING_THREADS: usize = 8;

/// Sandboxes that may start at any time before one that has finished its request is kept for the next.
const ROOM: usize = MAX_SANDBOXES as usize / 4;

/// A pool of threads for guests, and the places for their sandboxes.
pub(crate) struct Compute {
    /// `None` only while dropping.
    pool: Option<runtime::Runtime>,
    pulse: Pulse,
    places: Arc<Semaphore>,
}

/// Keeps a sandbox's place until it is dropped.
pub(crate) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Compute {
    pub(crate) fn start(engine: &Engine, threads: usize) -> Result<Self, RuntimeError> {
        let failed = |source: std::io::Error| RuntimeError::Compute { source: source.into() };
        let pool = runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("guest")
            .enable_all()
            .build()
            .map_err(failed)?;
        let places = Arc::new(Semaphore::new(MAX_SANDBOXES as usize));
        Ok(Self { pool: Some(pool), pulse: Pulse::start(engine.clone()).map_err(failed)?, places })
    }

    /// A place for a sandbox; waits until there is one.
    pub(crate) async fn place(&self) -> Place {
        Place(Arc::clone(&self.places).acquire_owned().await.expect("the places are never closed"))
    }

    /// Whether a sandbox that has nothing to do may keep its place.
    pub(crate) fn has_room(&self) -> bool {
        self.places.available_permits() >= ROOM
    }

    /// Runs a guest; dropping the handle stops it at its next turn.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        guest: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        let beat = self.pulse.beat();
        AbortOnDropHandle::new(self.pool().spawn(async move {
            let _beat = beat;
            guest.await
        }))
    }

    /// Runs work that blocks, such as compiling.
    ///
    /// # Errors
    /// `Compute` if the work panics or the pool shuts down.
    pub(crate) async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RuntimeError> {
        self.pool().spawn_blocking(work).await.map_err(|source| RuntimeError::Compute { source: source.into() })
    }

    /// Runs work that blocks, for nobody who waits.
    pub(crate) fn blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.pool().spawn_blocking(work);
    }

    fn pool(&self) -> &runtime::Runtime {
        self.pool.as_ref().expect("the pool is there until it is dropped")
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.shutdown_background();
        }
    }
}

/// Increments the engine's epoch once a turn while any guest runs, and rests while none does.
struct Pulse {
    state: Arc<PulseState>,
}

struct PulseState {
    guests: AtomicUsize,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Pulse {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let state = Arc::new(PulseState {
            guests: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let thread = thread::Builder::new().name("pulse".into()).spawn({
            let state = Arc::clone(&state);
            move || {
                while !state.stopped.load(Ordering::Acquire) {
                    if state.guests.load(Ordering::Acquire) == 0 {
                        thread::park();
                    } else {
                        thread::sleep(TURN);
                        engine.increment_epoch();
                    }
                }
            }
        })?;
        state.thread.get_or_init(|| thread.thread().clone());
        Ok(Self { state })
    }

    fn beat(&self) -> Beat {
        if self.state.guests.fetch_add(1, Ordering::AcqRel) == 0 {
            self.state.wake();
        }
        Beat(Arc::clone(&self.state))
    }
}

impl PulseState {
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Release);
        self.state.wake();
    }
}

/// Keeps the pulse going.
struct Beat(Arc<PulseState>);

impl Drop for Beat {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::AcqRel);
    }
}
