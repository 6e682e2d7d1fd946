//! Runs functions — WebAssembly components that export `wasi:http/handler` — in wasmtime.
//!
//! Left out on purpose: what the functions compute (this crate knows nothing of pictures or models), and streaming:
//! bodies are bounded and buffered in both directions.

pub mod bake;
mod compute;
mod container;
mod engine;
mod error;
mod failure;
mod instance;
mod intake;
mod sandbox;
mod server;
mod timing;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use container::{Container, ContainerSettings};
pub use error::RuntimeError;
pub use instance::Isolation;
pub use sandbox::{Confines, Limits, Mounted};
pub use server::{Drained, bind};

use bake::{Artefacts, Ingredients, Order, Recipe};
use compute::Compute;
use sandbox::Blueprint;
use wasmtime::Engine;

/// How a [`Runtime`] is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the artefacts. Only this user may read or write it; it is created if it is missing.
    pub artefacts: PathBuf,
    /// Threads that run guests.
    pub compute_threads: usize,
    /// The program that bakes, called with `bake`; `None` bakes in this process.
    pub baker: Option<PathBuf>,
}

impl Settings {
    /// These settings with one compute thread per core of this machine, baking in this process.
    pub fn new(artefacts: impl Into<PathBuf>) -> Self {
        let compute_threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { artefacts: artefacts.into(), compute_threads, baker: None }
    }
}

/// What all functions of a process share: the engine, the compute pool and the artefacts.
pub struct Runtime {
    engine: Engine,
    compute: Arc<Compute>,
    artefacts: Artefacts,
    baker: Option<PathBuf>,
}

impl Runtime {
    /// Sets up the engine, the compute pool and the artefacts' folder.
    ///
    /// # Errors
    /// `Cache` if the artefacts' folder cannot be made safe to use, `Engine` if this machine cannot run wasmtime
    pub fn new(settings: &Settings) -> Result<Self, RuntimeError> {
        let engine = engine::serving()?;
        let artefacts = Artefacts::open(&settings.artefacts)?;
        let compute = Arc::new(Compute::start(&engine, settings.compute_threads)?);
        Ok(Self { engine, compute, artefacts, baker: settings.baker.clone() })
    }

    /// What sandboxes of this recipe are made from: its artefact, baked now if there is none, and linked.
    pub(crate) async fn prepare(&self, recipe: Recipe) -> Result<Arc<Blueprint>, RuntimeError> {
        let ingredients = {
            let recipe = recipe.clone();
            self.compute.run_blocking(move || Ingredients::read(recipe)).await??
        };
        let name = ingredients.artefact(&self.engine);
        let find = || {
            let (engine, artefacts) = (self.engine.clone(), self.artefacts.clone());
            self.compute.run_blocking(move || artefacts.find(&engine, &name))
        };
        let component = match find().await? {
            Some(component) => component,
            None => {
                self.bake(ingredients).await?;
                find().await?.ok_or_else(|| RuntimeError::bake("the artefact cannot be read back"))?
            }
        };
        let link = Blueprint::new(&component, recipe.confines);
        Ok(Arc::new(link.map_err(|error| RuntimeError::Link { path: recipe.component, source: error.into() })?))
    }

    async fn bake(&self, ingredients: Ingredients) -> Result<(), RuntimeError> {
        match &self.baker {
            Some(program) => {
                let artefacts = self.artefacts.folder().to_owned();
                bake::bake_apart(program, &Order { recipe: ingredients.into_recipe(), artefacts }).await
            }
            None => {
                let artefacts = self.artefacts.clone();
                let baking = self.compute.run_blocking(move || {
                    tokio::runtime::Handle::current().block_on(bake::bake(&ingredients, &artefacts))
                });
                baking.await?.map(drop)
            }
        }
    }
}

/// Folder of the artefacts inside the house's caches.
pub fn artefacts_in(cache: &Path) -> PathBuf {
    cache.join("artefacts")
}
#[cfg(test)] mod tmp_bench;
