//! Runs functions — WebAssembly components that export `wasi:http/handler` — in wasmtime, each at its own address.
//!
//! The path of a request: [`Function::run`] accepts it, its bounded body is read, it waits for a *place*, an
//! *instance* of the current *revision* answers it on the compute pool, and the buffered answer goes out. Compute
//! never runs on the threads that accept, wait and answer. Whatever a guest does — spin, trap, allocate or talk
//! without end — costs its own request an honest status and nothing else.
//!
//! A [`Revision`](revision::Revision) is a function together with the one directory mounted into its guests. When
//! the mount's symbolic link comes to point elsewhere, the next revision is made ready beside the old one and takes
//! over between two requests.
//!
//! Left out on purpose: what the functions compute (this crate knows nothing of pictures or models), scaling
//! decisions, and streaming: bodies are bounded and buffered in both directions.

mod cache;
mod compute;
mod error;
mod failure;
mod function;
mod guest;
mod guest_log;
mod instance;
mod intake;
mod mount;
mod revision;
mod server;
mod spec;

use std::{path::PathBuf, sync::Arc};

pub use error::RuntimeError;
pub use function::Function;
pub use server::{Drained, bind};
pub use spec::{FunctionSpec, Limits, Mount};

use cache::ArtefactCache;
use compute::Compute;
use guest::Guest;
use wasmtime::{Config, Engine, component::Linker};

/// How a [`Runtime`] is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the compiled components. Only this user may read or write it; it is created if it is missing.
    pub cache: PathBuf,
    /// Threads that run guests.
    pub compute_threads: usize,
}

impl Settings {
    /// These settings with one compute thread per core of this machine.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        let compute_threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { cache: cache.into(), compute_threads }
    }
}

/// What all functions of a process share: the engine, the sandbox's imports, the compute pool and the cache.
pub struct Runtime {
    engine: Engine,
    linker: Linker<Guest>,
    compute: Arc<Compute>,
    cache: ArtefactCache,
}

impl Runtime {
    /// Sets up the engine, the compute pool and the cache folder.
    ///
    /// # Errors
    /// `Cache` if the cache folder cannot be made safe to use, `Engine` if this machine cannot run wasmtime.
    pub fn new(settings: &Settings) -> Result<Self, RuntimeError> {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        config.epoch_interruption(true);
        let engine = Engine::new(&config).map_err(RuntimeError::engine)?;
        let linker = guest::linker(&engine).map_err(RuntimeError::engine)?;
        let cache = ArtefactCache::open(&settings.cache)?;
        let compute = Compute::start(&engine, settings.compute_threads)?;
        Ok(Self { engine, linker, compute: Arc::new(compute), cache })
    }

    /// Compiles a function's component, or takes it from the cache, and makes its first revision ready.
    ///
    /// # Errors
    /// `ReadComponent`, `Compile`, `Link` or `Instantiate`, depending on how far the component gets; `Mount` if
    /// the mounted directory exists but cannot be looked at.
    pub async fn load(&self, spec: FunctionSpec) -> Result<Function, RuntimeError> {
        let component = {
            let (engine, cache, path) = (self.engine.clone(), self.cache.clone(), spec.component.clone());
            self.compute.run_blocking(move || cache.load(&engine, &path)).await??
        };
        let proxy = guest::proxy(&self.linker, &component)
            .map_err(|error| RuntimeError::Link { path: spec.component.clone(), source: error.into() })?;
        Function::start(spec, proxy, self.engine.clone(), Arc::clone(&self.compute)).await
    }
}
