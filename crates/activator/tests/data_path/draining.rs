//! Instances that are removed, and revisions that are deleted.

use std::{
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

use activator::{Hop, Mode, probe::Health, unknown_revision};
use http::{Request, Response};

use crate::stage::{Reply, Stage, Worker, poll_once, settle, streamed};

const NOT_FOUND: &str = "Error getting active endpoint: revision.serving.knative.dev \"r-00001\" not found\n";

#[tokio::test(start_paused = true)]
async fn a_removed_instance_finishes_and_takes_no_more() {
    for mode in [Mode::Proxy, Mode::Serve] {
        let mut stage = Stage::new(2);
        stage.activator.set_mode(mode);
        let (id, worker) = stage.add();
        stage.send_all(&["a", "b"]).await;
        assert_eq!(stage.activator.health(id), Health::Ready);

        let mut drained = Box::pin(stage.activator.remove(id).unwrap());
        assert_eq!(stage.activator.health(id), Health::ShuttingDown, "at once");
        assert!(poll_once(&mut drained).is_pending());
        let load = stage.activator.load();
        assert_eq!((load.ready, load.draining, load.running), (0, 1, 2));

        stage.finish(&worker, "a").await;
        stage.send("c").await;
        assert_eq!(worker.running(), ["b"], "the free place is nobody's");
        stage.assert_load(1, 0, 1);
        assert!(poll_once(&mut drained).is_pending());

        stage.finish(&worker, "b").await;
        assert!(poll_once(&mut drained).is_ready());
        assert_eq!(Arc::strong_count(&worker), 1, "the activator has let go of it");
        assert_eq!(stage.activator.health(id), Health::ShuttingDown);

        let (next, worker) = stage.add();
        settle().await;
        assert_eq!(stage.finish(&worker, "c").await.instance, Some(next));
        assert!(next > id && next.number() == 2);
        stage.assert_quiet();
    }
}

/// Counts who holds the worker when it is woken.
struct Witness {
    worker: Weak<Worker>,
    holders: AtomicUsize,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        self.holders.store(self.worker.strong_count(), Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn the_activator_has_let_go_of_an_instance_when_it_is_drained() {
    let mut stage = Stage::new(1);
    let (id, worker) = stage.add();
    stage.send("a").await;
    let mut drained = pin!(stage.activator.remove(id).unwrap());
    let witness = Arc::new(Witness { worker: Arc::downgrade(&worker), holders: AtomicUsize::new(0) });
    assert!(drained.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&witness)))).is_pending());
    assert_eq!(Arc::strong_count(&worker), 3, "the test, the slot and the request");
    stage.finish(&worker, "a").await;
    assert_eq!(witness.holders.load(Ordering::SeqCst), 1, "only the test");
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_is_drained_at_once_and_only_once() {
    let stage = Stage::new(1);
    let (id, worker) = stage.add();
    let mut drained = Box::pin(stage.activator.remove(id).unwrap());
    assert!(poll_once(&mut drained).is_ready());
    assert_eq!(Arc::strong_count(&worker), 1);
    assert!(stage.activator.remove(id).is_none());
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn those_in_its_own_queue_still_run_on_a_removed_instance() {
    let (mut stage, id, worker) = Stage::serving(1);
    stage.send_all(&["a", "b", "c"]).await;
    let mut drained = Box::pin(stage.activator.remove(id).unwrap());
    stage.leave("b").await;
    stage.finish(&worker, "a").await;
    assert_eq!(worker.running(), ["c"]);
    assert!(poll_once(&mut drained).is_pending());
    stage.finish(&worker, "c").await;
    assert!(poll_once(&mut drained).is_ready());
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn a_removed_instance_is_drained_when_its_clients_have_gone() {
    let (mut stage, id, worker) = Stage::serving(1);
    stage.send_all(&["a", "b"]).await;
    let mut drained = Box::pin(stage.activator.remove(id).unwrap());
    stage.leave("b").await;
    assert!(poll_once(&mut drained).is_pending());
    stage.leave("a").await;
    assert!(poll_once(&mut drained).is_ready());
    assert_eq!(worker.cancelled(), ["a"]);
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_places_is_drained_when_its_queue_has_gone() {
    let (mut stage, id, worker) = Stage::serving(1);
    stage.activator.resize(id, 0);
    stage.send("a").await;
    stage.assert_load(0, 1, 0);
    let mut drained = Box::pin(stage.activator.remove(id).unwrap());
    assert!(poll_once(&mut drained).is_pending());
    stage.leave("a").await;
    assert!(poll_once(&mut drained).is_ready());
    assert!(worker.seen().is_empty());
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_way_holds_up_the_draining() {
    let mut stage = Stage::new(1);
    let (id, worker) = stage.add();
    stage.send("a").await;
    let (sender, body) = streamed();
    worker.reply("a", Reply::Answer(Response::new(body)));
    let mut drained = Box::pin(stage.activator.remove(id).unwrap());
    sender.send("one ").unwrap();
    settle().await;
    assert!(poll_once(&mut drained).is_pending());
    sender.send("two").unwrap();
    drop(sender);
    let a = stage.answer("a").await;
    assert_eq!((a.status, &*a.body), (200, "one two"));
    assert!(poll_once(&mut drained).is_ready());
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn nobody_need_wait_for_the_draining() {
    let mut stage = Stage::new(1);
    let (id, worker) = stage.add();
    stage.send("a").await;
    drop(stage.activator.remove(id));
    stage.finish(&worker, "a").await;
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_deleted_revision_is_told() {
    let mut stage = Stage::new(1);
    stage.send_all(&["a", "b"]).await;
    let mut drained = Box::pin(stage.activator.close());
    assert!(poll_once(&mut drained).is_ready());
    for name in ["a", "b"] {
        let seen = stage.answer(name).await;
        assert_eq!((seen.status, &*seen.body, seen.at), (404, NOT_FOUND, stage.begun));
        assert_eq!(seen.facts.unwrap().hop, Hop::Activator);
    }
    assert_eq!(stage.tally.counts(Hop::Activator), (2, 2));
    stage.send("late").await;
    let late = stage.answer("late").await;
    assert_eq!((late.status, &*late.body, late.facts), (404, NOT_FOUND, None));
    assert_eq!(stage.tally.counts(Hop::Activator), (2, 2), "it came to no revision");
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn what_a_deleted_revisions_instances_have_taken_they_finish() {
    let (mut stage, first, worker) = Stage::serving(1);
    stage.send_all(&["running", "queued"]).await;
    stage.activator.set_mode(Mode::Proxy);
    stage.send("held").await;
    let mut drained = Box::pin(stage.activator.close());
    assert_eq!(stage.answer("held").await.status, 404);
    assert_eq!(stage.activator.health(first), Health::ShuttingDown);
    assert!(stage.activator.add(Arc::new(Worker::default())).is_none());
    assert!(stage.activator.remove(first).is_none());
    stage.finish(&worker, "running").await;
    assert!(poll_once(&mut drained).is_pending());
    stage.finish(&worker, "queued").await;
    assert!(poll_once(&mut drained).is_ready());
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn a_revision_may_be_deleted_twice() {
    let mut stage = Stage::new(1);
    let (_, worker) = stage.add();
    stage.send("a").await;
    let mut first = Box::pin(stage.activator.close());
    stage.activator.close().await;
    assert!(poll_once(&mut first).is_pending());
    stage.finish(&worker, "a").await;
    first.await;
}

#[test]
fn a_revision_nobody_knows_is_not_found() {
    let response = unknown_revision("r-00001");
    assert_eq!((response.status().as_u16(), &response.body()[..]), (404, NOT_FOUND.as_bytes()));
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
}

#[tokio::test(start_paused = true)]
async fn probes_find_what_the_revision_is_and_are_never_counted() {
    let mut stage = Stage::new(1);
    let probe = || Request::get("/").header("k-network-probe", "queue").body(()).unwrap();
    let found = async |stage: &mut Stage| {
        stage.send_request("probe", probe()).await;
        let seen = stage.answer("probe").await;
        assert_eq!(seen.facts, None);
        (seen.status, seen.body)
    };
    assert_eq!(found(&mut stage).await, (503, String::new()), "no instance is ready");
    let (id, worker) = stage.add();
    stage.send("a").await;
    assert_eq!(found(&mut stage).await, (200, "queue".into()), "also when it is busy");
    let drained = stage.activator.remove(id).unwrap();
    assert_eq!(found(&mut stage).await, (503, String::new()));
    stage.finish(&worker, "a").await;
    drained.await;
    stage.activator.close().await;
    assert_eq!(found(&mut stage).await, (503, "shutting down\n".into()));
    assert_eq!((worker.seen(), stage.tally.counts(Hop::Activator)), (vec!["a".into()], (1, 1)));
}
