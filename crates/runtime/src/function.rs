//! One function: it hands each request to an instance of its current revision, and makes the next revision ready
//! when its mount comes to stand for another directory.

use std::{
    error::Error,
    io, mem,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body::Body;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use wasmtime::Engine;
use wasmtime_wasi_http::handler::ProxyPre;

use crate::{
    FunctionSpec, RuntimeError,
    compute::Compute,
    failure::Failure,
    guest::Guest,
    instance::{Blueprint, Instance},
    intake::{Intake, Share},
    mount::{self, Mounted},
    revision::Revision,
};

/// How often a function looks at its mount and at its idle instances.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Pause before a directory that did not become ready is tried again; doubled each time up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Characters of a refusal to be ready that the log repeats.
const MAX_QUOTED: usize = 500;

/// Names the revision that answered.
const REVISION: HeaderName = HeaderName::from_static("x-fovea-revision");

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A loaded function. Dropping it stops looking at its mount.
pub struct Function {
    inner: Arc<Inner>,
    _watcher: AbortOnDropHandle<()>,
}

struct Inner {
    blueprint: Arc<Blueprint>,
    compute: Arc<Compute>,
    intake: Intake,
    /// One permit a request that is computed.
    places: Arc<Semaphore>,
    current: RwLock<Arc<Revision>>,
}

/// What the compute pool sends back.
struct Reply {
    answer: Result<Response<Bytes>, Failure>,
    /// Name of the revision that gave it. Not the revision itself: its instances are dropped with its last holder,
    /// and that must not be a thread that others wait for.
    revision: String,
    /// How long the instance took to start, if it had to.
    start: Option<Duration>,
}

impl Function {
    /// Makes the first revision ready and keeps an eye on the mount from then on.
    pub(crate) async fn start(
        spec: FunctionSpec,
        proxy: ProxyPre<Guest>,
        engine: Engine,
        compute: Arc<Compute>,
    ) -> Result<Self, RuntimeError> {
        let mounted = match &spec.mount {
            None => None,
            Some(mount) => mount::resolve(&mount.host)
                .map_err(|source| RuntimeError::Mount { path: mount.host.clone(), source })?,
        };
        let blueprint = Arc::new(Blueprint { spec, engine, proxy });
        let spec = &blueprint.spec;
        let warm = match warm_instance(&compute, &blueprint, mounted.clone()).await {
            Ok(warm) => warm,
            Err(Failure::NoInstance { source }) => {
                return Err(RuntimeError::Instantiate { function: spec.name.clone(), source });
            }
            Err(failure) => {
                tracing::warn!(function = spec.name, reason = failure.chain(), "the first revision is not ready");
                None
            }
        };
        let revision = Revision::new(&spec.name, 1, mounted, warm);
        let inner = Arc::new(Inner {
            intake: Intake::new(spec.limits.max_body_bytes, spec.limits.queue_timeout),
            places: Arc::new(Semaphore::new(spec.limits.concurrency)),
            current: RwLock::new(Arc::new(revision)),
            blueprint: Arc::clone(&blueprint),
            compute,
        });
        let watcher = AbortOnDropHandle::new(tokio::spawn(watch(Arc::clone(&inner))));
        Ok(Self { inner, _watcher: watcher })
    }

    /// What the function was to be.
    pub fn spec(&self) -> &FunctionSpec {
        &self.inner.blueprint.spec
    }

    /// Name of the revision that serves now: `<function>-<number>`.
    pub fn revision(&self) -> String {
        self.inner.current().name.clone()
    }

    /// How many instances of that revision wait for a request.
    pub fn idle_instances(&self) -> usize {
        self.inner.current().idle_instances()
    }

    /// Answers one request: with the guest's answer, or with a JSON error body and the status that belongs to what
    /// went wrong. The answer names its revision in `x-fovea-revision` and its times in `Server-Timing`, in
    /// milliseconds: `queue` until it had its body and its place, `start` if an instance had to be started, `total`.
    ///
    /// Dropping the future stops the guest.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let arrived = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut times = Times::default();
        let (revision, answer) = self.inner.attempt(request, &mut times).await;
        times.total = arrived.elapsed();
        let function = &self.spec().name;
        let ms = times.total.as_secs_f64() * 1e3;
        let mut response = match answer {
            Ok(response) => {
                let status = response.status().as_u16();
                tracing::info!(function, revision, %method, path, status, ms, "answered");
                response
            }
            Err(failure) => {
                let response = failure.response();
                let (status, reason) = (response.status().as_u16(), failure.chain());
                tracing::warn!(function, revision, %method, path, status, ms, reason, "failed");
                response
            }
        };
        times.report(&revision, response.headers_mut());
        response
    }
}

#[derive(Default)]
struct Times {
    queue: Duration,
    start: Option<Duration>,
    total: Duration,
}

impl Times {
    fn report(&self, revision: &str, headers: &mut HeaderMap) {
        let mut entries = vec![("queue", self.queue)];
        entries.extend(self.start.map(|start| ("start", start)));
        entries.push(("total", self.total));
        let entries: Vec<String> =
            entries.iter().map(|(name, time)| format!("{name};dur={:.3}", time.as_secs_f64() * 1e3)).collect();
        if let (Ok(revision), Ok(timing)) =
            (HeaderValue::from_str(revision), HeaderValue::from_str(&entries.join(", ")))
        {
            headers.insert(REVISION, revision);
            headers.append(SERVER_TIMING, timing);
        }
    }
}

impl Inner {
    fn current(&self) -> Arc<Revision> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer, and the name of the revision that gave it or would have.
    async fn attempt<B>(
        self: &Arc<Self>,
        request: Request<B>,
        times: &mut Times,
    ) -> (String, Result<Response<Bytes>, Failure>)
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let arrived = Instant::now();
        let admitted = self.admit(request).await;
        times.queue = arrived.elapsed();
        let replied = match admitted {
            Ok(admitted) => self.compute(admitted).await,
            Err(failure) => Err(failure),
        };
        match replied {
            Ok(Reply { answer, revision, start }) => {
                times.start = start;
                (revision, answer)
            }
            Err(failure) => (self.current().name.clone(), Err(failure)),
        }
    }

    /// Reads the body and waits for a place.
    async fn admit<B>(&self, request: Request<B>) -> Result<Admitted, Failure>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (mut head, body) = request.into_parts();
        let (body, share) = self.intake.read(body).await?;
        head.uri = absolute(head.uri, &head.headers);
        let limit = self.blueprint.spec.limits.queue_timeout;
        match timeout(limit, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Admitted { request: Request::from_parts(head, body), share, place }),
            Ok(Err(_)) => Err(Failure::Lost),
            Err(_) => Err(Failure::NoPlace { limit }),
        }
    }

    /// Has an instance answer on the compute pool.
    async fn compute(self: &Arc<Self>, admitted: Admitted) -> Result<Reply, Failure> {
        let (sender, receiver) = oneshot::channel();
        let limit = self.blueprint.spec.limits.timeout;
        let guest = self.compute.run(Arc::clone(self).serve(admitted, sender));
        match timeout(limit, receiver).await {
            Ok(Ok(reply)) => {
                // It may still be finishing up; the instance is free for others once it has.
                drop(guest.detach());
                Ok(reply)
            }
            Ok(Err(_)) => Err(Failure::Lost),
            Err(_) => Err(Failure::Timeout { limit }),
        }
    }

    /// The part of a request that runs on the compute pool.
    async fn serve(self: Arc<Self>, admitted: Admitted, reply: oneshot::Sender<Reply>) {
        let Admitted { request, share: _share, place: _place } = admitted;
        let work = async {
            // Only now, so that a request that has waited meets the revision that serves now.
            let revision = self.current();
            let begun = Instant::now();
            let (instance, start) = match revision.take() {
                Some(instance) => (Ok(instance), None),
                None => {
                    let mounted = revision.mounted.as_ref().map(|mounted| mounted.path.as_path());
                    (Instance::start(&self.blueprint, mounted).await, Some(begun.elapsed()))
                }
            };
            let give = |answer| {
                // Nobody listens any more if the client is gone.
                let _ = reply.send(Reply { answer, revision: revision.name.clone(), start });
            };
            match instance {
                Ok(mut instance) => {
                    if instance.answer(&self.blueprint, request, give).await {
                        revision.put_back(instance);
                    }
                }
                Err(failure) => give(Err(failure)),
            }
        };
        // Until it answers, a guest is stopped by whoever waits for the answer; this bounds what it does afterwards.
        let _ = timeout(2 * self.blueprint.spec.limits.timeout, work).await;
    }

    fn replace(&self, next: Revision) {
        let name = next.name.clone();
        let directory = next.mounted.as_ref().map(|mounted| mounted.path.display().to_string());
        let old = mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), Arc::new(next));
        tracing::info!(revision = name, replaces = old.name, directory, "revision serves");
        self.compute.dispose(old);
    }
}

/// A request whose body has been read and that has its place.
struct Admitted {
    request: Request<Bytes>,
    share: Share,
    place: OwnedSemaphorePermit,
}

/// Starts an instance; if a directory is mounted, asks it whether it is ready, so that it loads what it keeps.
///
/// `None` if it is ready but the question was the last request it may serve.
async fn warm_instance(
    compute: &Compute,
    blueprint: &Arc<Blueprint>,
    mounted: Option<Mounted>,
) -> Result<Option<Instance>, Failure> {
    let limit = blueprint.spec.limits.timeout;
    let blueprint = Arc::clone(blueprint);
    let warming = compute.run(async move {
        let mut instance = Instance::start(&blueprint, mounted.as_ref().map(|mounted| mounted.path.as_path())).await?;
        let (Some(path), Some(_)) = (&blueprint.spec.ready, mounted) else {
            return Ok(Some(instance));
        };
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = absolute(Uri::from(path.clone()), &HeaderMap::new());
        let mut answer = Err(Failure::Lost);
        let reusable = instance.answer(&blueprint, request, |given| answer = given).await;
        let answer = answer?;
        if answer.status().is_success() {
            Ok(reusable.then_some(instance))
        } else {
            let body = String::from_utf8_lossy(answer.body()).chars().take(MAX_QUOTED).collect();
            Err(Failure::NotReady { status: answer.status(), body })
        }
    });
    match timeout(limit, warming).await {
        Ok(Ok(warmed)) => warmed,
        Ok(Err(_)) => Err(Failure::Lost),
        Err(_) => Err(Failure::Timeout { limit }),
    }
}

/// Drops instances that have been idle for too long, and replaces the revision when the mount has come to stand for
/// another directory. A directory that does not become ready leaves the old revision serving and is tried again.
async fn watch(inner: Arc<Inner>) {
    let spec = &inner.blueprint.spec;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut setback: Option<Setback> = None;
    let mut complaint = None;
    loop {
        looks.tick().await;
        let expired = inner.current().expire(spec.limits.idle, Instant::now());
        if !expired.is_empty() {
            inner.compute.dispose(expired);
        }

        let Some(host) = spec.mount.as_ref().map(|mount| mount.host.clone()) else { continue };
        let looked = match inner.compute.run_blocking(move || mount::resolve(&host)).await {
            Ok(looked) => looked,
            Err(pool) => Err(io::Error::other(pool)),
        };
        let mounted = match looked {
            Ok(mounted) => mounted,
            Err(error) => {
                let text = error.to_string();
                if complaint.as_ref() != Some(&text) {
                    tracing::warn!(function = spec.name, error = text, "cannot look at the mounted directory");
                    complaint = Some(text);
                }
                continue;
            }
        };
        complaint = None;
        let (number, is_current) = {
            let current = inner.current();
            (current.number, current.mounted == mounted)
        };
        if is_current {
            setback = None;
            continue;
        }
        let earlier = setback.as_ref().filter(|setback| setback.mounted == mounted);
        if earlier.is_some_and(|earlier| Instant::now() < earlier.retry_at) {
            continue;
        }

        match warm_instance(&inner.compute, &inner.blueprint, mounted.clone()).await {
            Ok(warm) => {
                inner.replace(Revision::new(&spec.name, number + 1, mounted, warm));
                setback = None;
            }
            Err(failure) => {
                let pause = earlier.map_or(FIRST_PAUSE, |earlier| (2 * earlier.pause).min(MAX_PAUSE));
                tracing::warn!(
                    function = spec.name,
                    directory = mounted.as_ref().map(|mounted| mounted.path.display().to_string()),
                    reason = failure.chain(),
                    retry_seconds = pause.as_secs(),
                    "the next revision is not ready; the old one keeps serving"
                );
                setback = Some(Setback { mounted, pause, retry_at: Instant::now() + pause });
            }
        }
    }
}

/// A directory that did not become ready.
struct Setback {
    mounted: Option<Mounted>,
    pause: Duration,
    retry_at: Instant,
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
