//! How wasmtime is set up: the engine that serves, the one that compiles, and what both agree on.

use std::sync::Arc;

use serde::Serialize;
use wasmtime::{
    CacheStore, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, component::Linker,
};

use crate::{RuntimeError, bake::Digest, sandbox::Guest};

/// The release line of wasmtime that this crate is built with.
const WASMTIME: &str = "48";

/// Sandboxes that may live at once. They cost address space, not memory.
pub(crate) const MAX_SANDBOXES: u32 = 1000;

/// Core instances, memories and tables of one sandbox: its module, the adapters around it, and room.
const MAX_CORE_INSTANCES: u32 = 20;
const MAX_MEMORIES: u32 = 2;
const MAX_TABLES: u32 = 8;

/// Elements of one table; a component of tens of megabytes has some thousands.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 1 << 16;

/// What a WebAssembly memory can have; how much of it a guest may use is its own limit.
const MAX_MEMORY_BYTES: usize = 1 << 32;

/// Memory and tables of a finished sandbox that are wiped in place for the next one of its kind: giving them back would
/// interrupt every core, and the next one would fault them in again. They go with the revision's last instance.
const KEEP_BYTES: usize = 64 << 20;
const KEEP_TABLE_BYTES: usize = MAX_TABLE_ELEMENTS * size_of::<usize>();

/// A snapshot is one piece of memory, dense or not, as long as it is no larger than this.
const MAX_IMAGE_BYTES: u64 = 1 << 30;

fn shared() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        // Nobody reads line numbers of an optimised component; they would be a third of the artefact.
        .generate_address_map(false)
        // Nor does anything but wasmtime itself walk its frames.
        .native_unwind_info(false)
        .memory_guaranteed_dense_image_size(MAX_IMAGE_BYTES);
    config
}

/// The engine that runs guests: sandboxes come out of a pool and start from copy-on-write images.
///
/// # Errors
/// `Engine` if this machine cannot run wasmtime
pub(crate) fn serving() -> Result<Engine, RuntimeError> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_SANDBOXES)
        .total_core_instances(MAX_SANDBOXES * MAX_CORE_INSTANCES)
        .total_memories(MAX_SANDBOXES * MAX_MEMORIES)
        .total_tables(MAX_SANDBOXES * MAX_TABLES)
        .total_stacks(MAX_SANDBOXES)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .max_memory_size(MAX_MEMORY_BYTES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_BYTES)
        .table_keep_resident(KEEP_TABLE_BYTES)
        .max_unused_warm_slots(MAX_SANDBOXES)
        .pagemap_scan(Enabled::Auto);
    let mut config = shared();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).map_err(RuntimeError::engine)
}

/// An engine that compiles for the one that serves. It takes compiled functions from the store, and adds new ones.
///
/// # Errors
/// `Engine` if this machine cannot run wasmtime
pub(crate) fn compiling(functions: Option<Arc<dyn CacheStore>>) -> Result<Engine, RuntimeError> {
    let mut config = shared();
    if let Some(functions) = functions {
        config.enable_incremental_compilation(functions).map_err(RuntimeError::engine)?;
    }
    Engine::new(&config).map_err(RuntimeError::engine)
}

/// Everything a guest may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// What compiled code depends on besides its source.
#[derive(Debug, Serialize)]
pub(crate) struct Compiler {
    wasmtime: &'static str,
    target: String,
    /// Whatever of these the compiled code may use.
    target_features: Vec<&'static str>,
    /// Hash of wasmtime's version, of the target with its features and of all settings; artefacts of another are
    /// never loaded.
    settings_sha256: Digest,
}

impl Compiler {
    pub(crate) fn of(engine: &Engine) -> Self {
        Self {
            wasmtime: WASMTIME,
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            target_features: target_features(),
            settings_sha256: Digest::of_compiler(engine),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn target_features() -> Vec<&'static str> {
    macro_rules! detected {
        ($($feature:tt)*) => {
            [$(($feature, is_x86_feature_detected!($feature))),*]
        };
    }
    let features = detected!["sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "bmi1" "bmi2" "lzcnt"
        "avx512f" "avx512dq" "avx512vl" "avx512bitalg" "avx512vbmi"];
    features.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn target_features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_the_wasmtime_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME}.")));
    }
}
