//! Each request is counted once when it comes and once when it is over, however it ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use activator::{Activator, Hop, Limits, Meter, Mode};
use http::{Request, Response};

use crate::stage::{Reply, Stage, TIMEOUTS, Worker, poll_once, settle};

#[tokio::test(start_paused = true)]
async fn failing_and_panicking_instances_give_their_places_back() {
    for mode in [Mode::Proxy, Mode::Serve] {
        let mut stage = Stage::new(1);
        stage.activator.set_mode(mode);
        let (id, worker) = stage.add();
        stage.send_all(&["fails", "panics", "ends"]).await;

        worker.reply("fails", Reply::Fail);
        let failed = stage.answer("fails").await;
        assert_eq!((failed.status, &*failed.body), (502, "connection refused\n"));
        assert_eq!(failed.failure.as_deref(), Some("the instance did not answer"));
        assert_eq!(failed.facts.unwrap().instance, Some(id));
        settle().await;

        worker.reply("panics", Reply::Panic);
        stage.panicked("panics").await;
        settle().await;

        stage.finish(&worker, "ends").await;
        stage.assert_quiet();
        let hop = if mode == Mode::Serve { Hop::QueueProxy } else { Hop::Activator };
        assert_eq!(stage.tally.counts(hop), (3, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_body_is_over_at_once() {
    let mut stage = Stage::new(1);
    let (_, worker) = stage.add();
    let activator = stage.activator.clone();
    let mut call = Box::pin(activator.call(Request::get("/a").body(()).unwrap(), None));
    assert!(poll_once(&mut call).is_pending());
    stage.send("b").await;
    worker.reply("a", Reply::Answer(Response::new(crate::stage::buffered(""))));
    let answered = call.await;
    settle().await;
    assert_eq!(worker.running(), ["b"], "although the answer has not been sent");
    assert_eq!(stage.tally.counts(Hop::Activator), (2, 1));
    drop(answered);
}

/// Wants to hear of a request before anything else can happen to it.
struct Poke {
    poked: AtomicBool,
}

impl Meter for Poke {
    fn arrived(&self, hop: Hop) {
        assert_eq!(hop, Hop::Activator);
        self.poked.store(true, Ordering::SeqCst);
    }

    fn finished(&self, _: Hop) {
        self.poked.store(false, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_request_of_a_cold_revision_is_heard_of_before_it_waits() {
    let poke = Arc::new(Poke { poked: AtomicBool::new(false) });
    let limits = Limits { container_concurrency: 1, timeouts: TIMEOUTS };
    let activator = Activator::<Worker>::new("r", limits, Arc::clone(&poke) as Arc<dyn Meter>);
    let mut call = Box::pin(activator.call(Request::get("/a").body(()).unwrap(), None));
    assert!(!poke.poked.load(Ordering::SeqCst));
    assert!(poll_once(&mut call).is_pending());
    assert!(poke.poked.load(Ordering::SeqCst));
    drop(call);
    assert!(!poke.poked.load(Ordering::SeqCst));
}

/// Adds an instance as soon as a request comes, as a runtime does whose instances start at once.
struct Starter {
    activator: std::sync::OnceLock<Activator<Worker>>,
    worker: Arc<Worker>,
}

impl Meter for Starter {
    fn arrived(&self, _: Hop) {
        self.activator.get().unwrap().add(Arc::clone(&self.worker));
    }

    fn finished(&self, _: Hop) {}
}

#[tokio::test(start_paused = true)]
async fn a_meter_may_use_the_activator() {
    let starter = Arc::new(Starter { activator: std::sync::OnceLock::new(), worker: Arc::new(Worker::default()) });
    let limits = Limits { container_concurrency: 1, timeouts: TIMEOUTS };
    let activator = Activator::new("r", limits, Arc::clone(&starter) as Arc<dyn Meter>);
    starter.activator.set(activator.clone()).unwrap();
    let mut call = Box::pin(activator.call(Request::get("/a").body(()).unwrap(), None));
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(starter.worker.running(), ["a"], "the request went on within the same poll");
    starter.worker.finish("a");
    let facts = call.await.facts.unwrap();
    assert!(facts.cold && facts.queued.is_zero());
}
