//! One revision's front door.

use std::{convert::Infallible, fmt, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;

use crate::{
    answer::AnswerBody,
    drain::Drained,
    failure::{Failure, timeout_text},
    headers,
    instance::{Instance, InstanceId},
    meter::{Counted, Meter},
    pool::{Admitted, Hop, Load, Mode, Pool, Turn},
    probe::{self, Health},
    timeouts::{Deadlines, Expired, Timeouts},
};

/// What a revision's specification says about its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests an instance runs at once; 0 is any number.
    pub container_concurrency: u32,
    /// How long a request may take.
    pub timeouts: Timeouts,
}

/// Through which every request of a revision goes. Clones are the same one.
pub struct Activator<I> {
    inner: Arc<Inner<I>>,
}

struct Inner<I> {
    revision: Arc<str>,
    timeouts: Timeouts,
    meter: Arc<dyn Meter>,
    pool: Arc<Pool<I>>,
}

/// An answer and how it came about.
pub struct Answered<I: Instance> {
    /// For the client.
    pub response: Response<AnswerBody<I>>,
    /// `None` if the request was not the revision's: a probe, or for a deleted revision.
    pub facts: Option<Facts>,
    /// Why it is not an instance's answer.
    pub failure: Option<Failure<I::Error>>,
}

/// How a request went, up to the start of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which hop held it.
    pub hop: Hop,
    /// No instance was ready when it arrived.
    pub cold: bool,
    /// How long it waited for its place, or in vain.
    pub queued: Duration,
    /// Where it ran, if it did.
    pub instance: Option<InstanceId>,
}

impl<I: Instance> Activator<I> {
    /// The front door of a revision without instances, in [`Mode::Proxy`].
    pub fn new(revision: impl Into<Arc<str>>, limits: Limits, meter: Arc<dyn Meter>) -> Self {
        let pool = Pool::new(limits.container_concurrency);
        Self { inner: Arc::new(Inner { revision: revision.into(), timeouts: limits.timeouts, meter, pool }) }
    }

    /// Answers one request; `client` is who sent it.
    ///
    /// Dropping the future, or later the answer's body, is how a client goes: its place in a queue vanishes, or the
    /// instance's future is dropped and the place is free for another.
    ///
    /// Both of Knative's hops have the same three timeouts, and the outer one's began first, so that a request held by the
    /// activator always ends by the activator's; only that of the hop that holds it is kept.
    pub async fn call(&self, request: Request<I::RequestBody>, client: Option<IpAddr>) -> Answered<I> {
        if let Some(response) = self.probed(request.headers()) {
            return Answered { response: response.map(AnswerBody::fixed), facts: None, failure: None };
        }
        let inner = &*self.inner;
        let arrived = Instant::now();
        let Some(Admitted { hop, cold, turn }) = inner.pool.admit() else {
            return Answered::failed(None, inner.not_found());
        };
        let counted = Counted::new(&inner.meter, hop);
        let deadlines = Deadlines::new(arrived, &inner.timeouts);
        let mut facts = Facts { hop, cold, queued: Duration::ZERO, instance: None };

        let answer = deadlines
            .limit(async {
                let place = match turn {
                    Turn::Now(place) => place,
                    Turn::Full => return Err(Failure::QueueFull),
                    Turn::Later(waiting) => {
                        let place = waiting.await.ok_or_else(|| inner.not_found())?;
                        facts.queued = arrived.elapsed();
                        place
                    }
                };
                facts.instance = Some(place.id);
                let (mut head, body) = request.into_parts();
                headers::to_instance(&mut head, hop, client);
                let answer = place.instance().call(Request::from_parts(head, body)).await;
                answer.map(|response| (response, place)).map_err(|source| Failure::NoAnswer { source })
            })
            .await;
        if facts.instance.is_none() {
            facts.queued = arrived.elapsed();
        }

        match answer {
            Ok(Ok((response, place))) => {
                let (mut head, body) = response.into_parts();
                headers::to_client(head.status, &mut head.headers);
                let body = AnswerBody::limited(body, &head.headers, deadlines, timeout_text(hop), place, counted);
                Answered { response: Response::from_parts(head, body), facts: Some(facts), failure: None }
            }
            Ok(Err(failure)) => Answered::failed(Some(facts), failure),
            Err(Expired) => Answered::failed(Some(facts), Failure::TimedOut { hop }),
        }
    }

    /// An instance takes requests from now on; those who wait get its places at once. A deleted revision takes none: the
    /// instance is dropped.
    pub fn add(&self, instance: Arc<I>) -> Option<InstanceId> {
        self.add_all([instance]).pop()
    }

    /// Several instances take requests from now on; those who wait spread over them as the revision's policy has it.
    pub fn add_all(&self, instances: impl IntoIterator<Item = Arc<I>>) -> Vec<InstanceId> {
        self.inner.pool.add(instances)
    }

    /// An instance takes no more requests; it finishes those it runs and those in its own queue. `None` if it is not
    /// ready.
    pub fn remove(&self, id: InstanceId) -> Option<Drained> {
        self.inner.pool.remove(id)
    }

    /// How many requests a ready instance runs at once from now on, at most the revision's limit; those that run beyond it
    /// finish. The length of its queue stays. Whether it was done: not without such an instance, or such a limit.
    pub fn resize(&self, id: InstanceId, places: u32) -> bool {
        self.inner.pool.resize(id, places)
    }

    /// Where requests that arrive go from now on; those who wait stay where they are.
    pub fn set_mode(&self, mode: Mode) {
        self.inner.pool.set_mode(mode);
    }

    /// The revision is deleted: whoever waits for an instance is told so, as is whoever comes, and the ready instances
    /// drain.
    pub fn close(&self) -> Drained {
        self.inner.pool.close()
    }

    /// The present state.
    #[must_use]
    pub fn load(&self) -> Load {
        self.inner.pool.load()
    }

    /// What a probe of the instance finds: from its removal on, that it is shutting down.
    #[must_use]
    pub fn health(&self, id: InstanceId) -> Health {
        if self.inner.pool.is_ready(id) { Health::Ready } else { Health::ShuttingDown }
    }

    /// A probe of the revision finds it ready if an instance is.
    fn probed(&self, headers: &HeaderMap) -> Option<Response<Bytes>> {
        // Looks at the pool only if it is a probe.
        probe::answer_with(headers, || {
            let pool = &self.inner.pool;
            if pool.is_closed() {
                Health::ShuttingDown
            } else if pool.load().ready > 0 {
                Health::Ready
            } else {
                Health::NotReady
            }
        })
    }
}

impl<I> Clone for Activator<I> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<I> fmt::Debug for Activator<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = self.inner.pool.load();
        f.debug_struct("Activator").field("revision", &self.inner.revision).field("load", &load).finish_non_exhaustive()
    }
}

impl<I: Instance> Inner<I> {
    fn not_found(&self) -> Failure<I::Error> {
        Failure::RevisionNotFound { revision: Arc::clone(&self.revision) }
    }
}

impl<I: Instance> Answered<I> {
    fn failed(facts: Option<Facts>, failure: Failure<I::Error>) -> Self {
        Self { response: failure.response().map(AnswerBody::fixed), facts, failure: Some(failure) }
    }
}

/// The answer to a request for a revision that has no [`Activator`].
#[must_use]
pub fn unknown_revision(revision: &str) -> Response<Bytes> {
    Failure::<Infallible>::RevisionNotFound { revision: revision.into() }.response()
}
