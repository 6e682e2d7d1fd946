//! A slot that serves requests of a revision: what is a pod in a cluster. Each request gets a fresh sandbox, or one
//! that has served others of the same instance, as the revision's isolation says.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, header};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    compute::Compute,
    error::chain,
    failure::Failure,
    sandbox::{Blueprint, Sandbox},
    timing::Timing,
};

/// What a sandbox is shared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: every request gets a fresh one.
    Request,
    /// Requests of one instance, one after the other.
    Instance {
        /// Requests a sandbox answers before a fresh one takes its place.
        max_requests: u32,
    },
}

impl Isolation {
    /// A sandbox for this many requests.
    pub fn of(max_requests: u32) -> Self {
        if max_requests <= 1 { Self::Request } else { Self::Instance { max_requests } }
    }
}

/// A slot that serves requests.
pub(crate) struct Instance {
    blueprint: Arc<Blueprint>,
    compute: Arc<Compute>,
    isolation: Isolation,
    /// What a guest may still do once it has answered, and before it must.
    limit: Duration,
    /// Sandboxes that wait for their next request; the last one is the one that was used last.
    idle: Mutex<Vec<Sandbox>>,
}

/// What the compute pool sends back.
struct Reply {
    answer: Result<Response<Bytes>, Failure>,
    /// How long the sandbox took to start, if it had to.
    start: Option<Duration>,
}

impl Instance {
    pub(crate) fn new(blueprint: Arc<Blueprint>, compute: Arc<Compute>, isolation: Isolation, limit: Duration) -> Self {
        Self { blueprint, compute, isolation, limit, idle: Mutex::default() }
    }

    /// Starts a sandbox, to see that it comes to life, and keeps it if sandboxes are kept.
    pub(crate) async fn start_one(self: &Arc<Self>) -> Result<(), Failure> {
        let instance = Arc::clone(self);
        let started = self.compute.run(async move {
            let sandbox = Sandbox::start(&instance.blueprint, instance.compute.place().await).await?;
            if instance.keeps(&sandbox) {
                instance.idle().push(sandbox);
            }
            Ok(())
        });
        started.await.unwrap_or(Err(Failure::Lost))
    }

    /// Has a sandbox answer on the compute pool. Dropping the future stops the guest.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Bytes>) -> Response<Bytes> {
        let (sender, receiver) = oneshot::channel();
        let guest = self.compute.run(Arc::clone(self).serve(request, sender));
        let reply = receiver.await.unwrap_or(Reply { answer: Err(Failure::Lost), start: None });
        // It may still be finishing up.
        drop(guest.detach());
        let mut response = reply.answer.unwrap_or_else(|failure| {
            tracing::warn!(revision = self.blueprint.name(), reason = chain(&failure), "failed");
            failure.response()
        });
        if let Some(start) = reply.start {
            response.extensions_mut().insert(Timing { sandbox: start });
        }
        response
    }

    /// The part of a request that runs on the compute pool.
    async fn serve(self: Arc<Self>, mut request: Request<Bytes>, reply: oneshot::Sender<Reply>) {
        *request.uri_mut() = absolute(std::mem::take(request.uri_mut()), request.headers());
        let work = async {
            let begun = Instant::now();
            let idle = self.idle().pop();
            let (sandbox, start) = match idle {
                Some(sandbox) => (Ok(sandbox), None),
                None => {
                    let place = self.compute.place().await;
                    (Sandbox::start(&self.blueprint, place).await, Some(begun.elapsed()))
                }
            };
            let give = |answer| {
                // Nobody listens any more if the client is gone.
                let _ = reply.send(Reply { answer, start });
            };
            match sandbox {
                Ok(mut sandbox) => {
                    if sandbox.answer(&self.blueprint, request, give).await && self.keeps(&sandbox) {
                        self.idle().push(sandbox);
                    }
                }
                Err(failure) => give(Err(failure)),
            }
        };
        // Until it answers, a guest is stopped by whoever waits for the answer; this bounds what it does afterwards.
        let _ = timeout(2 * self.limit, work).await;
    }

    fn keeps(&self, sandbox: &Sandbox) -> bool {
        match self.isolation {
            Isolation::Request => false,
            Isolation::Instance { max_requests } => sandbox.served() < max_requests && self.compute.has_room(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sandbox>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The URI as guests expect it, with scheme and authority.
fn absolute(uri: Uri, headers: &HeaderMap) -> Uri {
    let mut parts = uri.into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    if parts.authority.is_none() {
        parts.authority = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    }
    if parts.authority.is_none() {
        parts.authority = Some(http::uri::Authority::from_static("localhost"));
    }
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    Uri::from_parts(parts).unwrap_or_default()
}
