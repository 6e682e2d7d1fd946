//! A revision whose instances do what the test says, and clients known by name.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use activator::{Activator, Answered, Facts, Hop, Instance, InstanceId, Limits, Load, Meter, Mode, Timeouts};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::{
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::{JoinHandle, yield_now},
    time::Instant,
};

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

pub const TIMEOUTS: Timeouts =
    Timeouts { total: Duration::from_secs(300), response_start: Duration::ZERO, idle: Duration::ZERO };

/// What an instance does about a request in the end.
pub enum Reply {
    Answer(Response<Body>),
    Fail,
    Panic,
}

/// An instance that keeps each request until it is told the reply.
#[derive(Default)]
pub struct Worker {
    running: Mutex<BTreeMap<String, oneshot::Sender<Reply>>>,
    seen: Mutex<Vec<(String, HeaderMap)>>,
    cancelled: Mutex<Vec<String>>,
}

#[derive(Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection refused")
    }
}

impl std::error::Error for Broken {}

impl Instance for Worker {
    type RequestBody = ();
    type Body = Body;
    type Error = Broken;

    async fn call(&self, request: Request<()>) -> Result<Response<Body>, Broken> {
        let name = request.uri().path().trim_start_matches('/').to_owned();
        let (sender, reply) = oneshot::channel();
        self.running.lock().unwrap().insert(name.clone(), sender);
        self.seen.lock().unwrap().push((name.clone(), request.headers().clone()));
        let mut cancelled = Cancelled { worker: self, name: Some(name) };
        let reply = reply.await.expect("the test replies");
        cancelled.name = None;
        match reply {
            Reply::Answer(response) => Ok(response),
            Reply::Fail => Err(Broken),
            Reply::Panic => panic!("as the test wants"),
        }
    }
}

struct Cancelled<'a> {
    worker: &'a Worker,
    name: Option<String>,
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.worker.running.lock().unwrap().remove(&name);
            self.worker.cancelled.lock().unwrap().push(name);
        }
    }
}

impl Worker {
    /// Names of the requests it runs, sorted.
    pub fn running(&self) -> Vec<String> {
        self.running.lock().unwrap().keys().cloned().collect()
    }

    /// Names of the requests whose future was dropped.
    pub fn cancelled(&self) -> Vec<String> {
        self.cancelled.lock().unwrap().clone()
    }

    /// Names of all requests it got, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    /// What came with the request.
    #[track_caller]
    pub fn headers(&self, name: &str) -> HeaderMap {
        let seen = self.seen.lock().unwrap();
        seen.iter().find(|(other, _)| other == name).map(|(_, headers)| headers.clone()).expect("it was seen")
    }

    #[track_caller]
    pub fn reply(&self, name: &str, reply: Reply) {
        let sender = self.running.lock().unwrap().remove(name);
        sender.unwrap_or_else(|| panic!("{name} does not run")).send(reply).ok();
    }

    /// Answers with the request's name.
    #[track_caller]
    pub fn finish(&self, name: &str) {
        self.reply(name, Reply::Answer(Response::new(buffered(name))));
    }
}

pub fn buffered(text: &str) -> Body {
    Full::new(Bytes::from(text.to_owned())).boxed_unsync()
}

/// A body that says what the sender is given, and ends with it; the sender sees when it is dropped.
pub fn streamed() -> (UnboundedSender<&'static str>, Body) {
    let (sender, receiver) = unbounded_channel::<&'static str>();
    let frames = stream::unfold(receiver, |mut receiver| async {
        let text = receiver.recv().await?;
        Some((Ok(Frame::data(text.into())), receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

/// Counts what it hears, and that nothing ends that had not begun.
#[derive(Default)]
pub struct Tally {
    by_activator: [AtomicUsize; 2],
    by_queue_proxy: [AtomicUsize; 2],
}

impl Tally {
    fn of(&self, hop: Hop) -> &[AtomicUsize; 2] {
        match hop {
            Hop::Activator => &self.by_activator,
            Hop::QueueProxy => &self.by_queue_proxy,
        }
    }

    /// Arrived and finished.
    pub fn counts(&self, hop: Hop) -> (usize, usize) {
        let [arrived, finished] = self.of(hop);
        (arrived.load(Ordering::SeqCst), finished.load(Ordering::SeqCst))
    }
}

impl Meter for Tally {
    fn arrived(&self, hop: Hop) {
        self.of(hop)[0].fetch_add(1, Ordering::SeqCst);
    }

    fn finished(&self, hop: Hop) {
        let before = self.of(hop)[1].fetch_add(1, Ordering::SeqCst);
        assert!(before < self.of(hop)[0].load(Ordering::SeqCst), "more requests ended than came");
    }
}

/// What a client got.
#[derive(Debug)]
pub struct Seen {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    pub facts: Option<Facts>,
    pub failure: Option<String>,
    pub at: Instant,
}

/// One revision, its instances and its clients.
pub struct Stage {
    pub activator: Activator<Worker>,
    pub tally: Arc<Tally>,
    pub begun: Instant,
    clients: BTreeMap<String, JoinHandle<Seen>>,
}

impl Stage {
    pub fn new(container_concurrency: u32) -> Self {
        Self::with_timeouts(container_concurrency, TIMEOUTS)
    }

    pub fn with_timeouts(container_concurrency: u32, timeouts: Timeouts) -> Self {
        let tally = Arc::new(Tally::default());
        let limits = Limits { container_concurrency, timeouts };
        let activator = Activator::new("r-00001", limits, Arc::clone(&tally) as Arc<dyn Meter>);
        Self { activator, tally, begun: Instant::now(), clients: BTreeMap::new() }
    }

    /// In Serve mode, with one instance.
    pub fn serving(container_concurrency: u32) -> (Self, InstanceId, Arc<Worker>) {
        let stage = Self::new(container_concurrency);
        stage.activator.set_mode(Mode::Serve);
        let (id, worker) = stage.add();
        (stage, id, worker)
    }

    pub fn add(&self) -> (InstanceId, Arc<Worker>) {
        let worker = Arc::new(Worker::default());
        let id = self.activator.add(Arc::clone(&worker)).expect("the revision is there");
        (id, worker)
    }

    /// A client comes, and everybody goes on until all wait.
    pub async fn send(&mut self, name: &str) {
        self.send_request(name, Request::get(format!("/{name}")).body(()).unwrap()).await;
    }

    pub async fn send_request(&mut self, name: &str, request: Request<()>) {
        let activator = self.activator.clone();
        let client = tokio::spawn(async move { received(activator.call(request, None).await).await });
        assert!(self.clients.insert(name.to_owned(), client).is_none(), "{name} is there already");
        settle().await;
    }

    pub async fn send_all(&mut self, names: &[&str]) {
        for name in names {
            self.send(name).await;
        }
    }

    /// A client goes.
    pub async fn leave(&mut self, name: &str) {
        self.clients.remove(name).expect("the client is there").abort();
        settle().await;
    }

    /// What the client gets; waits for it, in paused time.
    pub async fn answer(&mut self, name: &str) -> Seen {
        self.clients.remove(name).expect("the client is there").await.expect("the client does not panic")
    }

    /// Waits until the client has gone down with a panic.
    pub async fn panicked(&mut self, name: &str) {
        let ended = self.clients.remove(name).expect("the client is there").await;
        assert!(ended.expect_err("it does not get an answer").is_panic());
    }

    /// An instance answers the request, whose client gets it at once.
    #[track_caller]
    pub fn finish(&mut self, worker: &Worker, name: &str) -> impl Future<Output = Facts> {
        worker.finish(name);
        let client = self.clients.remove(name).expect("the client is there");
        let name = name.to_owned();
        async move {
            let now = Instant::now();
            let seen = client.await.expect("the client does not panic");
            assert_eq!((seen.status, &seen.body, seen.at), (200, &name, now));
            settle().await;
            seen.facts.expect("an instance answered")
        }
    }

    /// Nothing runs, waits or is left uncounted.
    #[track_caller]
    pub fn assert_quiet(&self) {
        let Load { running, queued, held, draining, .. } = self.activator.load();
        assert_eq!((running, queued, held, draining), (0, 0, 0, 0), "running, queued, held, draining");
        for hop in [Hop::Activator, Hop::QueueProxy] {
            let (arrived, finished) = self.tally.counts(hop);
            assert_eq!(arrived, finished, "{hop:?}");
        }
    }

    #[track_caller]
    pub fn assert_load(&self, running: usize, queued: usize, held: usize) {
        let load = self.activator.load();
        assert_eq!((load.running, load.queued, load.held), (running, queued, held), "running, queued, held");
    }
}

/// The whole answer.
pub async fn received<I>(answered: Answered<I>) -> Seen
where
    I: Instance,
    <I::Body as http_body::Body>::Error: fmt::Debug,
{
    let Answered { response, facts, failure } = answered;
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("the body is whole").to_bytes();
    Seen {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.into()).unwrap(),
        facts,
        failure: failure.map(|failure| failure.to_string()),
        at: Instant::now(),
    }
}

/// Lets every task go on until it waits for something.
pub async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

/// Lets the future go on until it waits for something.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
