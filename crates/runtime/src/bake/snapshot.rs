//! Running a component's initialisation and taking the picture of its memory afterwards.

use wasmparser::{Encoding, Parser, Payload};
use wasmtime::{
    Store,
    component::{Component, Instance, Lift, WasmList},
};
use wasmtime_wizer::{ComponentContext, ComponentInstanceState, Wizer};

use super::{INIT, INIT_TIMEOUT, Recipe};
use crate::{RuntimeError, engine, sandbox::Guest};

/// A component that has been made ready for its snapshot.
pub(super) struct Plan<'a> {
    wizer: Wizer,
    context: ComponentContext<'a>,
}

/// Whether a component exports this item itself.
pub(super) fn exports(wasm: &[u8], name: &str) -> bool {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::Version { encoding: Encoding::Component | Encoding::Module, .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentExportSection(exports)) if depth == 1 => {
                if exports.into_iter().flatten().any(|export| export.name.name == name) {
                    return true;
                }
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Adds to a component what reading its state takes, and has the result compiled.
pub(super) fn instrument<'a>(
    wasm: &'a [u8],
    compile: impl FnOnce(&[u8]) -> Result<Component, RuntimeError>,
) -> Result<(Plan<'a>, Component), RuntimeError> {
    let mut wizer = Wizer::new();
    // Without its function, the component that comes out would not be valid.
    wizer.init_func(INIT).keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(wasm).map_err(RuntimeError::bake)?;
    let component = compile(&instrumented)?;
    Ok((Plan { wizer, context }, component))
}

/// Runs the initialisation; returns the component with its memory as it was then.
pub(super) async fn run(plan: Plan<'_>, component: &Component, recipe: &Recipe) -> Result<Vec<u8>, RuntimeError> {
    let engine = component.engine();
    let guest = Guest::new(&recipe.confines).map_err(RuntimeError::bake)?;
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    let snapshot = async {
        let linker = engine::linker(engine)?;
        let instance = linker.instantiate_async(&mut store, component).await?;
        instance.get_typed_func::<(), ()>(&mut store, INIT)?.call_async(&mut store, ()).await?;
        let mut state = State { store: &mut store, instance, failed: None };
        let baked = plan.wizer.snapshot_component(&plan.context, &mut state).await?;
        state.failed.map_or(Ok(baked), Err)
    };
    match tokio::time::timeout(INIT_TIMEOUT, snapshot).await {
        Ok(baked) => baked.map_err(RuntimeError::bake),
        Err(_) => Err(RuntimeError::bake(wasmtime::format_err!(
            "the initialisation took longer than {}",
            humantime::format_duration(INIT_TIMEOUT)
        ))),
    }
}

/// The state of an instrumented instance, read through the functions that instrumenting added.
struct State<'a> {
    store: &'a mut Store<Guest>,
    instance: Instance,
    /// The first thing that went wrong; reading itself cannot fail.
    failed: Option<wasmtime::Error>,
}

impl State<'_> {
    async fn call<R: Lift + Send + Sync + 'static>(&mut self, interface: &str, function: &str) -> Option<R> {
        match self.try_call(interface, function).await {
            Ok((value,)) => Some(value),
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }

    async fn try_call<R: Lift + Send + Sync + 'static>(
        &mut self,
        interface: &str,
        function: &str,
    ) -> wasmtime::Result<(R,)> {
        let missing = || wasmtime::format_err!("the instrumented component lacks {interface}#{function}");
        let (_, interface) = self.instance.get_export(&mut *self.store, None, interface).ok_or_else(missing)?;
        let (_, index) = self.instance.get_export(&mut *self.store, Some(&interface), function).ok_or_else(missing)?;
        let function = self.instance.get_typed_func::<(), (R,)>(&mut *self.store, index)?;
        function.call_async(&mut *self.store, ()).await
    }
}

impl ComponentInstanceState for State<'_> {
    async fn call_func_ret_list_u8(&mut self, interface: &str, function: &str, contents: impl FnOnce(&[u8]) + Send) {
        if let Some(list) = self.call::<WasmList<u8>>(interface, function).await {
            contents(list.as_le_slice(&*self.store));
        }
    }

    async fn call_func_ret_s32(&mut self, interface: &str, function: &str) -> i32 {
        self.call(interface, function).await.unwrap_or_default()
    }

    async fn call_func_ret_s64(&mut self, interface: &str, function: &str) -> i64 {
        self.call(interface, function).await.unwrap_or_default()
    }

    async fn call_func_ret_f32(&mut self, interface: &str, function: &str) -> u32 {
        self.call::<f32>(interface, function).await.unwrap_or_default().to_bits()
    }

    async fn call_func_ret_f64(&mut self, interface: &str, function: &str) -> u64 {
        self.call::<f64>(interface, function).await.unwrap_or_default().to_bits()
    }
}
