//! The sandbox: what a guest can reach — its request, clocks, randomness, its log and one read-only directory — and
//! what it cannot: the network, other files, the host's environment, more memory than its share.

use http_body_util::BodyExt as _;
use wasmtime::{
    ResourceLimiter,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    handler::ProxyPre, p2, p3,
};

use super::{Confines, log::GuestLog};
use crate::engine::MAX_TABLE_ELEMENTS;

/// The data of a store: one guest's side of the sandbox.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoOutbound,
    table: ResourceTable,
    pub(crate) memory: MemoryLimit,
    pub(crate) log: GuestLog,
}

impl Guest {
    /// A guest within these confines.
    ///
    /// # Errors
    /// If a mounted directory cannot be opened
    pub(crate) fn new(confines: &Confines) -> wasmtime::Result<Self> {
        let log = GuestLog::new(confines.name.clone(), confines.limits.max_log_bytes);
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(log.clone())
            .stderr(log.clone())
            .envs(&confines.env)
            .envs(&confines.identity)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            // Guests have threads of their own: reading a file there keeps nobody else waiting.
            .allow_blocking_current_thread(true);
        for mounted in &confines.mounted {
            wasi.preopened_dir(&mounted.path, &mounted.guest, FsPerms::ReadOnly)?;
        }
        Ok(Self {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            hooks: NoOutbound,
            table: ResourceTable::new(),
            memory: MemoryLimit { limit_bytes: confines.limits.memory_bytes, used_bytes: 0, exceeded: false },
            log,
        })
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Refuses every request a guest would send.
struct NoOutbound;

type Finished = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for NoOutbound {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Finished,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Finished), HttpError>> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }
}

/// Bounds the linear memories of a store, all together, and remembers whether the guest wanted more.
pub(crate) struct MemoryLimit {
    limit_bytes: usize,
    used_bytes: usize,
    /// Whether the guest was refused memory.
    pub(crate) exceeded: bool,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used_bytes = self.used_bytes + desired.saturating_sub(current);
        if used_bytes > self.limit_bytes || maximum.is_some_and(|maximum| desired > maximum) {
            self.exceeded = true;
            return Ok(false);
        }
        self.used_bytes = used_bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= maximum.unwrap_or(MAX_TABLE_ELEMENTS).min(MAX_TABLE_ELEMENTS))
    }
}

/// The component, linked, as WASI 0.3 handler or else as 0.2 handler.
pub(crate) fn proxy(linker: &Linker<Guest>, component: &Component) -> wasmtime::Result<ProxyPre<Guest>> {
    let pre = linker.instantiate_pre(component)?;
    match p3::bindings::ServicePre::new(pre.clone()) {
        Ok(service) => Ok(ProxyPre::P3(service)),
        Err(_) => Ok(ProxyPre::P2(p2::bindings::ProxyPre::new(pre)?)),
    }
}

/// A buffered body as guests read it.
pub(crate) fn body(bytes: bytes::Bytes) -> WasiBody {
    http_body_util::Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn memories_share_one_limit() {
        let mut memory = MemoryLimit { limit_bytes: 100, used_bytes: 0, exceeded: false };
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.memory_growing(0, 30, None).unwrap());
        assert!(!memory.exceeded);
        assert!(!memory.memory_growing(60, 80, None).unwrap());
        assert!(memory.exceeded);
        assert!(memory.memory_growing(60, 70, None).unwrap());
    }
}
