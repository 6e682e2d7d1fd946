//! One live store serving a revision: it is started, answers one request at a time, and is dropped after its share
//! of requests or after anything went wrong in it.

mod guest;
mod log;

use std::{
    future::{pending, poll_fn},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::join;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};
use wasmtime::{AsContextMut as _, Engine, Store, component::Component};
use wasmtime_wasi_http::{
    WasiHttpView as _,
    handler::{self, Prepared, Proxy, ProxyPre},
};

pub(crate) use guest::Guest;

use crate::{compute::Place, engine, failure::Failure};

/// What a guest may see and use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confines {
    /// Whose guest it is, in logs.
    pub name: Arc<str>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// What its environment says of the revision besides; an initialisation does not see it, for what it leaves behind
    /// serves all revisions that are alike but for this.
    pub identity: Vec<(String, String)>,
    /// Directories it may read.
    pub mounted: Vec<Mounted>,
    /// What a request may use.
    pub limits: Limits,
}

/// A directory of the host and where guests see it, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// On the host.
    pub path: PathBuf,
    /// Absolute path inside the guest.
    pub guest: String,
}

/// What a request may use inside its sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory.
    pub memory_bytes: usize,
    /// Answer body.
    pub max_response_bytes: usize,
    /// What the guest may log; the rest is dropped and counted.
    pub max_log_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 512 << 20, max_response_bytes: 64 << 20, max_log_bytes: 64 << 10 }
    }
}

/// A component that is mapped and linked. Revisions of the same artefact share it; when the last of them lets go, the
/// memory that its sandboxes have used is given back.
pub(crate) struct Code {
    engine: Engine,
    proxy: ProxyPre<Guest>,
}

impl Code {
    /// Links the component.
    ///
    /// # Errors
    /// If the component imports what the sandbox has not, or exports no HTTP handler
    pub(crate) fn link(component: &Component) -> wasmtime::Result<Self> {
        let engine = component.engine().clone();
        let proxy = guest::proxy(&engine::linker(&engine)?, component)?;
        Ok(Self { engine, proxy })
    }
}

/// What sandboxes of a revision are made from.
pub(crate) struct Blueprint {
    code: Arc<Code>,
    confines: Confines,
}

impl Blueprint {
    pub(crate) fn new(code: Arc<Code>, confines: Confines) -> Self {
        Self { code, confines }
    }

    /// Whose sandboxes they are.
    pub(crate) fn name(&self) -> &str {
        &self.confines.name
    }
}

/// One live store.
pub(crate) struct Sandbox {
    store: Store<Guest>,
    proxy: Proxy,
    served: u32,
    /// Given up after the store.
    _place: Place,
}

impl Sandbox {
    /// Starts a sandbox at this place.
    pub(crate) async fn start(blueprint: &Blueprint, place: Place) -> Result<Self, Failure> {
        let failed = |error: wasmtime::Error| Failure::NoSandbox { source: error.into() };
        let guest = Guest::new(&blueprint.confines).map_err(failed)?;
        let mut store = Store::new(&blueprint.code.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        // A guest yields after each turn of computing, so that others have theirs and a time limit can stop it.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let proxy = blueprint.code.proxy.instantiate_async(&mut store).await.map_err(failed)?;
        Ok(Self { store, proxy, served: 0, _place: place })
    }

    /// Requests it has been given.
    pub(crate) fn served(&self) -> u32 {
        self.served
    }

    /// Hands the request to the guest and its whole answer, or what went wrong, to `reply`; then lets the guest
    /// finish what it does after answering.
    ///
    /// Returns whether the sandbox is fit to serve again. If the future is dropped before, it cannot.
    pub(crate) async fn answer(
        &mut self,
        blueprint: &Blueprint,
        request: Request<Bytes>,
        reply: impl FnOnce(Result<Response<Bytes>, Failure>) + Send,
    ) -> bool {
        let limits = &blueprint.confines.limits;
        let (store, proxy) = (&mut self.store, &self.proxy);
        self.served += 1;
        store.data_mut().memory.exceeded = false;

        let is_head = request.method() == Method::HEAD;
        let request = request.map(guest::body);
        let mut reply = Some(reply);
        let mut give = |answer: Result<Response<Bytes>, Failure>| {
            if let Some(reply) = reply.take() {
                reply(answer);
            }
        };
        let finished = store
            .run_concurrent(async |accessor| {
                let (sender, receiver) = oneshot::channel();
                let prepared = accessor
                    .with(|mut access| Prepared::new(access.as_context_mut(), proxy, request, Guest::http, sender))?;
                let call = prepared.run(accessor, pending());
                let (called, answer) = join(call, buffered(receiver, limits.max_response_bytes, is_head)).await;
                let answered = answer.is_ok();
                give(answer);
                called?;
                if answered {
                    poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
                }
                wasmtime::error::Ok(answered)
            })
            .await
            .flatten();

        let reusable = match finished {
            Ok(answered) => answered,
            Err(error) => {
                let source = error.into();
                give(Err(if store.data().memory.exceeded {
                    Failure::OutOfMemory { limit_bytes: limits.memory_bytes, source }
                } else {
                    Failure::Trap { source }
                }));
                false
            }
        };
        store.data().log.end_request();
        reusable
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.store.data().log.end_request();
    }
}

/// Waits for the answer's head and collects its body.
async fn buffered(
    answer: oneshot::Receiver<Result<handler::Response, wasmtime::Error>>,
    limit_bytes: usize,
    is_head: bool,
) -> Result<Response<Bytes>, Failure> {
    let answer = answer.await.map_err(|canceled| Failure::NoAnswer { source: canceled.into() })?;
    let (mut head, body) = answer.map_err(|error| Failure::NoAnswer { source: error.into() })?.into_parts();
    let body = Limited::new(body, limit_bytes).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::AnswerTooLarge { limit_bytes }
        } else {
            Failure::NoAnswer { source: error }
        }
    })?;
    if !is_head {
        // The buffered body's own length is the one that counts.
        head.headers.remove(header::CONTENT_LENGTH);
    }
    Ok(Response::from_parts(head, body.to_bytes()))
}
