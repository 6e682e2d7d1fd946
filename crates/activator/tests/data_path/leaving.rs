//! Clients that go before they have their answer.

use std::{pin::pin, task::Poll};

use activator::{Hop, Mode};
use futures_util::FutureExt as _;
use http::{Request, Response};

use crate::stage::{Reply, Stage, poll_once, settle, streamed};

fn request(name: &str) -> Request<()> {
    Request::get(format!("/{name}")).body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_held_leaves_no_trace() {
    let mut stage = Stage::new(1);
    stage.send_all(&["a", "b", "c"]).await;
    stage.leave("b").await;
    stage.assert_load(0, 0, 2);
    let (_, worker) = stage.add();
    settle().await;
    stage.finish(&worker, "a").await;
    stage.finish(&worker, "c").await;
    assert_eq!(worker.seen(), ["a", "c"]);
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_queued_leaves_its_slot_to_another() {
    let (mut stage, _, worker) = Stage::serving(1);
    for n in 0..11 {
        stage.send(&n.to_string()).await;
    }
    stage.leave("5").await;
    stage.assert_load(1, 9, 0);
    stage.send("late").await;
    stage.assert_load(1, 10, 0);
    for n in ["0", "1", "2", "3", "4", "6", "7", "8", "9", "10", "late"] {
        stage.finish(&worker, n).await;
    }
    assert!(!worker.seen().contains(&"5".to_owned()));
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_its_request_runs_cancels_it_and_frees_the_place() {
    for mode in [Mode::Proxy, Mode::Serve] {
        let mut stage = Stage::new(1);
        stage.activator.set_mode(mode);
        let (_, worker) = stage.add();
        stage.send_all(&["a", "b"]).await;
        stage.leave("a").await;
        assert_eq!((worker.cancelled(), worker.running()), (vec!["a".into()], vec!["b".into()]), "{mode:?}");
        stage.finish(&worker, "b").await;
        stage.assert_quiet();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_when_its_place_has_been_granted_passes_it_on() {
    let mut stage = Stage::new(1);
    let mut first = Box::pin(stage.activator.call(request("first"), None));
    let mut second = Box::pin(stage.activator.call(request("second"), None));
    assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
    let (_, worker) = stage.add();
    stage.assert_load(1, 0, 1);
    drop(first);
    stage.assert_load(1, 0, 0);
    drop(second);
    stage.assert_load(0, 0, 0);
    assert!(worker.seen().is_empty());
    stage.send("third").await;
    stage.finish(&worker, "third").await;
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_in_the_middle_of_the_answer_frees_the_place() {
    let mut stage = Stage::new(1);
    let (_, worker) = stage.add();
    let activator = stage.activator.clone();
    let mut call = pin!(activator.call(request("a"), None));
    assert!(poll_once(&mut call).is_pending());
    let (sender, body) = streamed();
    worker.reply("a", Reply::Answer(Response::new(body)));
    let Poll::Ready(answered) = poll_once(&mut call) else { panic!("the answer has started") };
    stage.send("b").await;
    stage.assert_load(1, 0, 1);
    assert_eq!(stage.tally.counts(Hop::Activator), (2, 0));
    drop(answered);
    settle().await;
    assert!(sender.is_closed(), "the instance's body is dropped");
    assert_eq!(worker.running(), ["b"]);
    assert_eq!(stage.tally.counts(Hop::Activator), (2, 1));
    stage.finish(&worker, "b").await;
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn all_clients_of_a_cold_revision_may_go() {
    let mut stage = Stage::new(4);
    for n in 0..100 {
        stage.send(&n.to_string()).await;
    }
    for n in 0..100 {
        stage.leave(&n.to_string()).await;
    }
    stage.assert_quiet();
    assert_eq!(stage.tally.counts(Hop::Activator), (100, 100));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_asked_never_came() {
    let stage = Stage::new(1);
    drop(stage.activator.call(request("a"), None));
    assert_eq!(stage.tally.counts(Hop::Activator), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_clients_future_may_move_between_threads() {
    fn movable<T: Send>(value: T) -> T {
        value
    }
    let stage = Stage::new(1);
    let answered = movable(stage.activator.call(request("a"), None)).now_or_never();
    assert!(movable(answered).is_none());
    stage.assert_quiet();
}
