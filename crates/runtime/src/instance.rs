//! One live store serving a revision: it is started, answers one request at a time, and is dropped after its share
//! of requests or after anything went wrong in it.

use std::{
    future::{pending, poll_fn},
    path::Path,
};

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::join;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::Instant;
use wasmtime::{AsContextMut as _, Engine, Store};
use wasmtime_wasi_http::{
    WasiHttpView as _,
    handler::{self, Prepared, Proxy, ProxyPre},
};

use crate::{
    FunctionSpec,
    failure::Failure,
    guest::{self, Guest},
};

/// What instances of a function are made from.
pub(crate) struct Blueprint {
    pub(crate) spec: FunctionSpec,
    pub(crate) engine: Engine,
    pub(crate) proxy: ProxyPre<Guest>,
}

/// One live store.
pub(crate) struct Instance {
    store: Store<Guest>,
    proxy: Proxy,
    served: u32,
    /// When it answered its last request, or was started.
    pub(crate) idle_since: Instant,
}

impl Instance {
    /// Starts an instance that sees the directory `mounted`.
    pub(crate) async fn start(blueprint: &Blueprint, mounted: Option<&Path>) -> Result<Self, Failure> {
        let failed = |error: wasmtime::Error| Failure::NoInstance { source: error.into() };
        let guest = Guest::new(&blueprint.spec, mounted).map_err(failed)?;
        let mut store = Store::new(&blueprint.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        // A guest yields after each turn of computing, so that others have theirs and a time limit can stop it.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let proxy = blueprint.proxy.instantiate_async(&mut store).await.map_err(failed)?;
        Ok(Self { store, proxy, served: 0, idle_since: Instant::now() })
    }

    /// Hands the request to the guest and its whole answer, or what went wrong, to `reply`; then lets the guest
    /// finish what it does after answering.
    ///
    /// Returns whether the instance can serve again. If the future is dropped before, it cannot.
    pub(crate) async fn answer(
        &mut self,
        blueprint: &Blueprint,
        request: Request<Bytes>,
        reply: impl FnOnce(Result<Response<Bytes>, Failure>) + Send,
    ) -> bool {
        let limits = &blueprint.spec.limits;
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
            Ok(answered) => answered && self.served < limits.reuse,
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
        self.idle_since = Instant::now();
        reusable
    }
}

impl Drop for Instance {
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
