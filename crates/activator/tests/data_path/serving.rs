//! Straight to the instances: so many run, so many wait in each one's own queue, the next is refused.

use activator::{Hop, Mode, Timeouts};
use tokio::time::advance;

use crate::stage::{Stage, TIMEOUTS, seconds, settle};

#[tokio::test(start_paused = true)]
async fn one_runs_ten_wait_and_the_twelfth_is_refused() {
    let (mut stage, _, worker) = Stage::serving(1);
    for n in 1..=11 {
        stage.send(&n.to_string()).await;
    }
    stage.assert_load(1, 10, 0);
    stage.send("12").await;
    let refused = stage.answer("12").await;
    assert_eq!((refused.status, &*refused.body), (503, "pending request queue full\n"));
    assert_eq!(refused.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(refused.facts.unwrap().instance, None);
    assert_eq!(stage.tally.counts(Hop::QueueProxy), (12, 1), "it counts all the same");

    let facts = stage.finish(&worker, "1").await;
    assert_eq!((facts.hop, facts.cold), (Hop::QueueProxy, false));
    stage.send("13").await;
    stage.assert_load(1, 10, 0);
    for n in (2..=11).chain([13]) {
        stage.finish(&worker, &n.to_string()).await;
    }
    assert_eq!(worker.seen().last().unwrap(), "13");
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_waits() {
    let (mut stage, _, worker) = Stage::serving(0);
    for n in 0..100 {
        stage.send(&n.to_string()).await;
    }
    assert_eq!(worker.running().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn the_least_loaded_instance_is_next_and_equals_take_turns() {
    let (mut stage, _, first) = Stage::serving(1);
    let (_, second) = stage.add();
    stage.send_all(&["a", "b", "c", "d"]).await;
    assert_eq!((first.running(), second.running()), (vec!["a".into()], vec!["b".into()]));
    stage.assert_load(2, 2, 0);
    stage.finish(&second, "b").await;
    assert_eq!(second.running(), ["d"], "each had one in its queue");
    stage.finish(&second, "d").await;
    stage.send("e").await;
    assert_eq!(second.running(), ["e"], "the other one is busy");

    let (mut stage, _, first) = Stage::serving(0);
    let (_, second) = stage.add();
    for (worker, name) in [(&first, "a"), (&second, "b"), (&first, "c")] {
        stage.send(name).await;
        stage.finish(worker, name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn as_long_as_any_has_room_none_is_refused() {
    let (mut stage, _, _) = Stage::serving(1);
    stage.add();
    for n in 0..22 {
        stage.send(&n.to_string()).await;
    }
    stage.assert_load(2, 20, 0);
    stage.send("one-too-many").await;
    assert_eq!(stage.answer("one-too-many").await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn without_a_ready_instance_the_activator_holds_requests() {
    let mut stage = Stage::new(1);
    stage.activator.set_mode(Mode::Serve);
    stage.send("a").await;
    stage.assert_load(0, 0, 1);
    let (_, worker) = stage.add();
    settle().await;
    stage.send("b").await;
    stage.assert_load(1, 1, 0);
    let a = stage.finish(&worker, "a").await;
    assert_eq!((a.hop, a.cold), (Hop::Activator, true));
    let b = stage.finish(&worker, "b").await;
    assert_eq!((b.hop, b.cold), (Hop::QueueProxy, false));
    assert_eq!(worker.headers("a")["k-proxy-request"], "activator");
    assert!(!worker.headers("b").contains_key("k-proxy-request"));
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn a_change_of_mode_moves_nobody_and_the_oldest_goes_first() {
    let mut stage = Stage::new(1);
    let (_, worker) = stage.add();
    stage.send_all(&["running", "held-1"]).await;
    stage.activator.set_mode(Mode::Serve);
    stage.send("queued").await;
    stage.activator.set_mode(Mode::Proxy);
    stage.send("held-2").await;
    stage.assert_load(1, 1, 2);
    assert_eq!(stage.activator.load().mode, Mode::Proxy);
    for name in ["running", "held-1", "queued", "held-2"] {
        stage.finish(&worker, name).await;
    }
    assert_eq!(worker.seen(), ["running", "held-1", "queued", "held-2"]);
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn waiting_in_the_instances_queue_ends_with_the_queue_proxys_timeout() {
    let mut stage = Stage::with_timeouts(1, Timeouts { total: seconds(10), ..TIMEOUTS });
    stage.activator.set_mode(Mode::Serve);
    let (_, worker) = stage.add();
    stage.send("a").await;
    advance(seconds(4)).await;
    stage.send_all(&["b", "c"]).await;
    let a = stage.answer("a").await;
    assert_eq!((a.status, &*a.body, a.at - stage.begun), (504, "request timeout", seconds(10)));
    settle().await;
    assert_eq!((worker.cancelled(), worker.running()), (vec!["a".into()], vec!["b".into()]));
    let c = stage.answer("c").await;
    assert_eq!((c.status, &*c.body, c.at - stage.begun), (504, "request timeout", seconds(14)));
    assert_eq!(c.facts.unwrap().instance, None);
    assert_eq!(stage.answer("b").await.at, c.at);
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn shrinking_lets_those_that_run_finish_and_growing_lets_waiters_in() {
    for mode in [Mode::Proxy, Mode::Serve] {
        let mut stage = Stage::new(3);
        stage.activator.set_mode(mode);
        let (id, worker) = stage.add();
        stage.send_all(&["a", "b", "c", "d", "e"]).await;
        assert!(stage.activator.resize(id, 1));
        settle().await;
        assert_eq!(worker.running(), ["a", "b", "c"]);
        stage.finish(&worker, "a").await;
        stage.finish(&worker, "b").await;
        assert_eq!(worker.running(), ["c"], "it runs no more than one from now on");
        stage.finish(&worker, "c").await;
        assert_eq!(worker.running(), ["d"]);
        assert!(stage.activator.resize(id, 99));
        settle().await;
        stage.send_all(&["f", "g"]).await;
        assert_eq!(worker.running(), ["d", "e", "f"], "no more than the revision's limit");
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_places_gets_no_requests_that_another_can_run() {
    let (mut stage, first, first_worker) = Stage::serving(1);
    let (_, second_worker) = stage.add();
    assert!(stage.activator.resize(first, 0));
    stage.send("a").await;
    assert_eq!((first_worker.running().len(), second_worker.running().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn only_ready_instances_with_a_limit_can_be_resized() {
    let (stage, id, _) = Stage::serving(0);
    assert!(!stage.activator.resize(id, 1));
    let (stage, id, _) = Stage::serving(1);
    stage.activator.remove(id).unwrap().await;
    assert!(!stage.activator.resize(id, 1));
}
