//! Runs functions — WebAssembly components that export `wasi:http/handler` — in wasmtime, on one machine as Knative
//! would in a cluster.
//!
//! A request's way: the [`Ingress`] finds its host's route and chooses a revision; the revision's activator holds it
//! until an instance has a place for it; the instance starts a sandbox on the compute pool; the buffered answer goes
//! out. Compute never runs on the threads that accept, wait and answer. Whatever a guest does — spin, trap, allocate
//! or talk without end — costs its own request an honest status and nothing else.
//!
//! Beside it, the [`Control`] plane turns Knative Services into revisions and routes, has revisions' artefacts
//! [baked](bake) and mapped, and saves what must survive. When and how far to scale is `autoscaler`'s to decide.
//!
//! A [`Container`] is the same without all that: one function at one port, for a cluster that brings its own.
//!
//! Left out on purpose: what the functions compute (this crate knows nothing of pictures, and of
//! a model only which folder it is), and streaming:
//! bodies are bounded and buffered in both directions.

mod admin;
pub mod bake;
mod clock;
mod compute;
mod container;
mod control;
mod engine;
mod error;
mod failure;
mod ingress;
mod instance;
mod intake;
mod mapped;
mod memory;
mod metrics;
mod sandbox;
mod server;
mod timing;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use admin::serve as serve_admin;
pub use container::{Container, ContainerSettings};
pub use control::{Control, ControlError, ControlSettings, MODEL_AT, Places};
pub use error::RuntimeError;
pub use ingress::Ingress;
pub use instance::Isolation;
pub use sandbox::{Confines, Limits, Mounted};
pub use server::{Drained, bind};

use bake::{Artefacts, Baker, Digest, Ingredients, Order, Recipe};
use compute::Compute;
use mapped::Mapped;
use sandbox::{Blueprint, Code};
use wasmtime::Engine;

/// How a [`Runtime`] is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the artefacts. Only this user may read or write it; it is created if it is missing.
    pub artefacts: PathBuf,
    /// Artefacts that others baked: what is found there need not be baked here.
    pub shared: Option<Artefacts>,
    /// Threads that run guests.
    pub compute_threads: usize,
    /// Who bakes; `None` bakes in this process.
    pub baker: Option<Baker>,
}

impl Settings {
    /// These settings with one compute thread per core of this machine, baking in this process.
    pub fn new(artefacts: impl Into<PathBuf>) -> Self {
        let compute_threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { artefacts: artefacts.into(), shared: None, compute_threads, baker: None }
    }
}

/// What all functions of a process share: the engine, the compute pool and the artefacts.
pub struct Runtime {
    engine: Engine,
    compute: Arc<Compute>,
    artefacts: Artefacts,
    shared: Option<Artefacts>,
    baker: Option<Baker>,
    baking: tokio::sync::Mutex<()>,
    mapped: Mapped,
}

impl Runtime {
    /// Sets up the engine, the compute pool and the artefacts' folder.
    ///
    /// # Errors
    /// `Cache` if the artefacts' folder cannot be made safe to use, `Engine` if this machine cannot run wasmtime
    pub fn new(settings: &Settings) -> Result<Self, RuntimeError> {
        let engine = engine::serving()?;
        Ok(Self {
            artefacts: Artefacts::open(&settings.artefacts)?,
            shared: settings.shared.clone(),
            compute: Arc::new(Compute::start(&engine, settings.compute_threads)?),
            engine,
            baker: settings.baker.clone(),
            baking: tokio::sync::Mutex::default(),
            mapped: Mapped::default(),
        })
    }

    /// What sandboxes of this recipe are made from: its artefact, baked now if there is none, and linked; and the
    /// artefact's name, under which it can be mapped again.
    pub(crate) async fn prepare(&self, recipe: Recipe) -> Result<(Arc<Blueprint>, Digest), RuntimeError> {
        let ingredients = {
            let recipe = recipe.clone();
            self.compute.run_blocking(move || Ingredients::read(recipe)).await??
        };
        let name = ingredients.artefact(&self.engine);
        let Recipe { component, confines } = recipe;
        let code = match self.code(&name, &component).await? {
            Some(code) => code,
            None => {
                // One at a time: it takes all cores as it is, and the next one may find that its work is done.
                let _turn = self.baking.lock().await;
                match self.code(&name, &component).await? {
                    Some(code) => code,
                    None => {
                        if !self.import(&name).await? {
                            self.bake(ingredients).await?;
                        }
                        let baked = self.code(&name, &component).await?;
                        baked.ok_or_else(|| RuntimeError::bake("the artefact cannot be read back"))?
                    }
                }
            }
        };
        Ok((Arc::new(Blueprint::new(code, confines)), name))
    }

    /// What sandboxes are made from, if the artefact is still there.
    pub(crate) async fn map(&self, artefact: &Digest, recipe: Recipe) -> Option<Arc<Blueprint>> {
        let code = self.code(artefact, &recipe.component).await.ok()??;
        Some(Arc::new(Blueprint::new(code, recipe.confines)))
    }

    /// The code of this artefact: what is mapped already, or what lies in the store; made from `component`.
    async fn code(&self, artefact: &Digest, component: &Path) -> Result<Option<Arc<Code>>, RuntimeError> {
        let place = self.mapped.place(artefact);
        let mut place = place.lock().await;
        if let Some(code) = place.upgrade() {
            return Ok(Some(code));
        }
        let (engine, artefacts, artefact) = (self.engine.clone(), self.artefacts.clone(), *artefact);
        let found = self.compute.run_blocking(move || {
            let component = artefacts.find(&engine, &artefact)?;
            Some(Code::link(&component).map(Arc::new))
        });
        let Some(linked) = found.await? else { return Ok(None) };
        let code = linked.map_err(|error| RuntimeError::Link { path: component.to_owned(), source: error.into() })?;
        *place = Arc::downgrade(&code);
        Ok(Some(code))
    }

    /// Takes the artefact over from the shared ones; whether it was there.
    async fn import(&self, artefact: &Digest) -> Result<bool, RuntimeError> {
        let Some(shared) = self.shared.clone() else { return Ok(false) };
        let (artefacts, artefact) = (self.artefacts.clone(), *artefact);
        let imported = self.compute.run_blocking(move || artefacts.import(&shared, &artefact)).await?;
        imported.map_err(|source| RuntimeError::Cache { path: self.artefacts.folder().to_owned(), source })
    }

    async fn bake(&self, ingredients: Ingredients) -> Result<(), RuntimeError> {
        match &self.baker {
            Some(baker) => {
                let artefacts = self.artefacts.folder().to_owned();
                bake::bake_apart(baker, &Order { recipe: ingredients.into_recipe(), artefacts }).await
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
