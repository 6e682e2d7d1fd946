//! Baking: component + what is mounted into it → an artefact that starts by being mapped.
//!
//! A component that exports [`INIT`] is run once with the directory mounted, so that it loads what it needs; its
//! memory is snapshotted into a new component, and that is compiled ahead of time. A component without that export,
//! or with nothing mounted, is compiled as it is.
//!
//! Compiling takes most of the time, and nearly all of it is repeated from one version to the next: functions stay,
//! data change. So compiled functions are kept ([`code`]), and so is the instrumented component that the
//! initialisation runs in.

mod artefacts;
mod code;
mod digest;
mod program;
mod snapshot;

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use wasmtime::{Engine, component::Component};

pub use artefacts::Artefacts;
pub use digest::Digest;
pub(crate) use program::bake as bake_apart;
pub use program::{Baker, Order};

use crate::{RuntimeError, engine, sandbox::Confines};

/// The export that loads what a component needs, to be called once before its snapshot is taken.
pub const INIT: &str = "wizer-initialize";

/// How long an initialisation may take.
const INIT_TIMEOUT: Duration = Duration::from_secs(120);

/// What an artefact is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The component's file.
    pub component: PathBuf,
    /// What the initialisation may see and use.
    pub confines: Confines,
}

/// A recipe whose ingredients have been read: what it takes to name its artefact.
pub struct Ingredients {
    recipe: Recipe,
    component: Digest,
    mounted: Vec<Digest>,
}

/// What an artefact is made of, as it is written beside it.
#[derive(Debug, Serialize)]
struct Manifest<'a> {
    component: &'a Path,
    component_sha256: Digest,
    component_bytes: usize,
    mounted: Vec<Contents<'a>>,
    /// The component that was compiled: baked, or the same as `component`.
    compiled_bytes: usize,
    artefact_bytes: usize,
    initialised: bool,
    functions_reused: usize,
    functions_compiled: usize,
    #[serde(flatten)]
    compiler: engine::Compiler,
    /// Milliseconds each step took.
    took_ms: Took,
}

#[derive(Debug, Serialize)]
struct Contents<'a> {
    path: &'a Path,
    at: &'a str,
    sha256: Digest,
}

#[derive(Debug, Default, Serialize)]
struct Took {
    instrument: u64,
    initialise: u64,
    compile: u64,
}

impl Ingredients {
    /// Reads the component and everything in the mounted directory.
    ///
    /// # Errors
    /// `ReadComponent`, `Mount`
    pub fn read(mut recipe: Recipe) -> Result<Self, RuntimeError> {
        recipe.confines.identity.clear();
        let path = &recipe.component;
        let component = Digest::of_file(path).map_err(|source| unreadable(path, source))?;
        let mounted = recipe.confines.mounted.iter().map(|mounted| {
            Digest::of_folder(&mounted.path)
                .map_err(|source| RuntimeError::Mount { path: mounted.path.clone(), source })
        });
        Ok(Self { component, mounted: mounted.collect::<Result<_, _>>()?, recipe })
    }

    /// The name of the artefact: a hash of the ingredients and of everything in wasmtime that its code depends on.
    pub fn artefact(&self, engine: &Engine) -> Digest {
        let mut made_of = self.recipe.confines.env.iter().fold(Vec::new(), |mut text, (key, value)| {
            text.extend([key.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
            text
        });
        for (mounted, digest) in self.recipe.confines.mounted.iter().zip(&self.mounted) {
            made_of.extend(mounted.guest.as_bytes());
            made_of.extend(digest.as_ref());
        }
        Digest::of_code(engine, "artefact", &[&self.component, &Digest::of(&made_of)])
    }

    /// The recipe again.
    pub(crate) fn into_recipe(self) -> Recipe {
        self.recipe
    }

    fn of_component(&self, engine: &Engine, what: &str) -> Digest {
        Digest::of_code(engine, what, &[&self.component])
    }
}

/// Bakes the artefact of this recipe into the store, if it is not there; returns its name.
///
/// # Errors
/// `ReadComponent`, `Mount`, and those of [`bake`]
pub async fn bake_missing(recipe: Recipe, artefacts: &Artefacts) -> Result<Digest, RuntimeError> {
    let engine = engine::serving()?;
    let ingredients = Ingredients::read(recipe)?;
    let name = ingredients.artefact(&engine);
    if artefacts.find(&engine, &name).is_none() {
        bake(&ingredients, artefacts).await?;
    }
    Ok(name)
}

/// Bakes the artefact of these ingredients into the store; returns its size in bytes.
///
/// # Errors
/// `Compile`, `Link` or `Bake`, depending on how far it gets; `Cache` if the artefact cannot be kept
pub async fn bake(ingredients: &Ingredients, artefacts: &Artefacts) -> Result<usize, RuntimeError> {
    let recipe = &ingredients.recipe;
    let start = Instant::now();
    let engine = engine::serving()?;
    let functions = Arc::new(code::Functions::open(artefacts, ingredients.of_component(&engine, "functions")));
    let compiler = engine::compiling(Some(functions.clone()))?;
    let mut took = Took::default();
    let file = fs::read(&recipe.component).map_err(|source| unreadable(&recipe.component, source))?;
    if Digest::of(&file) != ingredients.component {
        return Err(RuntimeError::bake("the component has changed since it was asked for"));
    }
    let wasm = unpacked(file).map_err(|source| unreadable(&recipe.component, source))?;

    let initialises = !ingredients.mounted.is_empty() && snapshot::exports(&wasm, INIT);
    let baked = if initialises {
        let since = Instant::now();
        let instrumented = ingredients.of_component(&engine, "instrumented");
        let (plan, component) = snapshot::instrument(&wasm, |wasm| {
            if let Some(component) = artefacts.find(&engine, &instrumented) {
                return Ok(component);
            }
            // Its functions are no use to later compilations: instrumented ones are others.
            let artefact = compile(&engine::compiling(None)?, wasm, recipe)?;
            keep(artefacts, &instrumented, &artefact, b"{}")?;
            load(&engine, artefacts, &instrumented)
        })?;
        took.instrument = ms(since);
        let since = Instant::now();
        let baked = snapshot::run(plan, &component, recipe).await?;
        took.initialise = ms(since);
        Some(baked)
    } else {
        None
    };

    let since = Instant::now();
    let compiled = baked.as_deref().unwrap_or(&wasm);
    let artefact = compile(&compiler, compiled, recipe)?;
    took.compile = ms(since);
    let contents = recipe.confines.mounted.iter().zip(&ingredients.mounted);
    let contents = contents.map(|(mounted, &sha256)| Contents { path: &mounted.path, at: &mounted.guest, sha256 });
    let (functions_reused, functions_compiled) = functions.reused_and_compiled();
    let manifest = Manifest {
        component: &recipe.component,
        component_sha256: ingredients.component,
        component_bytes: wasm.len(),
        mounted: contents.collect(),
        compiled_bytes: compiled.len(),
        artefact_bytes: artefact.len(),
        initialised: baked.is_some(),
        functions_reused,
        functions_compiled,
        compiler: engine::Compiler::of(&engine),
        took_ms: took,
    };
    let manifest = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
    keep(artefacts, &ingredients.artefact(&engine), &artefact, &manifest)?;
    functions.keep(artefacts);
    tracing::info!(
        component = %recipe.component.display(),
        revision = &*recipe.confines.name,
        seconds = start.elapsed().as_secs_f32(),
        bytes = artefact.len(),
        functions_reused,
        functions_compiled,
        "baked"
    );
    Ok(artefact.len())
}

/// A component as it is, whether its file is gzipped or not.
///
/// # Source
/// RFC 1952, section 2.3.1, for the two bytes that gzip files begin with
fn unpacked(file: Vec<u8>) -> io::Result<Vec<u8>> {
    if !file.starts_with(&[0x1f, 0x8b]) {
        return Ok(file);
    }
    let mut wasm = Vec::new();
    GzDecoder::new(&file[..]).read_to_end(&mut wasm)?;
    Ok(wasm)
}

fn unreadable(path: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::ReadComponent { path: path.to_owned(), source }
}

fn compile(compiler: &Engine, wasm: &[u8], recipe: &Recipe) -> Result<Vec<u8>, RuntimeError> {
    compiler
        .precompile_component(wasm)
        .map_err(|source| RuntimeError::Compile { path: recipe.component.clone(), source: source.into() })
}

fn keep(artefacts: &Artefacts, name: &Digest, artefact: &[u8], manifest: &[u8]) -> Result<(), RuntimeError> {
    artefacts
        .publish(name, artefact, manifest)
        .map_err(|source| RuntimeError::Cache { path: artefacts.folder().to_owned(), source })
}

fn load(engine: &Engine, artefacts: &Artefacts, name: &Digest) -> Result<Component, RuntimeError> {
    artefacts.find(engine, name).ok_or_else(|| RuntimeError::Cache {
        path: artefacts.folder().to_owned(),
        source: io::Error::other("an artefact that was just written cannot be read back"),
    })
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
