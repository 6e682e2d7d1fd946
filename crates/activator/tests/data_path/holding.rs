//! Through the activator: requests wait for an instance, and an instance gets no more than it can run.

use std::sync::Arc;

use activator::{Activator, Hop, Limits, Timeouts};
use http::Request;
use tokio::time::{Instant, advance};

use crate::stage::{Stage, TIMEOUTS, Tally, Worker, seconds, settle};

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_first_instance_and_go_in_their_order() {
    let mut stage = Stage::new(1);
    stage.send_all(&["c", "a", "b"]).await;
    stage.assert_load(0, 0, 3);
    let (_, worker) = stage.add();
    settle().await;
    assert_eq!(worker.running(), ["c"]);
    for name in ["c", "a", "b"] {
        stage.finish(&worker, name).await;
    }
    assert_eq!(worker.seen(), ["c", "a", "b"]);
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn the_facts_tell_of_the_cold_start() {
    let mut stage = Stage::new(1);
    stage.send("cold").await;
    advance(seconds(3)).await;
    let (id, worker) = stage.add();
    settle().await;
    stage.send("queued").await;
    advance(seconds(2)).await;
    let cold = stage.finish(&worker, "cold").await;
    assert_eq!((cold.cold, cold.queued, cold.instance, cold.hop), (true, seconds(3), Some(id), Hop::Activator));
    let queued = stage.finish(&worker, "queued").await;
    assert_eq!((queued.cold, queued.queued, queued.instance), (false, seconds(2), Some(id)));
    stage.send("warm").await;
    advance(seconds(1)).await;
    let warm = stage.finish(&worker, "warm").await;
    assert_eq!((warm.cold, warm.queued), (false, seconds(0)));
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_all_go_at_once() {
    let mut stage = Stage::new(0);
    stage.send_all(&["a", "b", "c"]).await;
    stage.assert_load(0, 0, 3);
    let (_, worker) = stage.add();
    settle().await;
    stage.send("d").await;
    assert_eq!(worker.running(), ["a", "b", "c", "d"]);
    for name in ["a", "b", "c", "d"] {
        stage.finish(&worker, name).await;
    }
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_those_who_waited_spread_over_instances_added_together() {
    let mut stage = Stage::new(0);
    for n in 0..100 {
        stage.send(&n.to_string()).await;
    }
    let workers: Vec<_> = (0..2).map(|_| Arc::new(Worker::default())).collect();
    assert_eq!(stage.activator.add_all(workers.clone()).len(), 2);
    settle().await;
    assert_eq!(workers.iter().map(|worker| worker.running().len()).collect::<Vec<_>>(), [50, 50]);
}

#[tokio::test(start_paused = true)]
async fn small_limits_fill_the_first_instance_first() {
    let mut stage = Stage::new(2);
    let ((_, first), (_, second)) = (stage.add(), stage.add());
    stage.send_all(&["a", "b", "c"]).await;
    assert_eq!((first.running(), second.running()), (vec!["a".into(), "b".into()], vec!["c".into()]));
    stage.finish(&first, "a").await;
    stage.send("d").await;
    assert_eq!(first.running(), ["b", "d"]);
}

#[tokio::test(start_paused = true)]
async fn greater_limits_take_turns() {
    let mut stage = Stage::new(4);
    let ((_, first), (_, second)) = (stage.add(), stage.add());
    stage.send_all(&["a", "b", "c"]).await;
    assert_eq!((first.running(), second.running()), (vec!["a".into(), "c".into()], vec!["b".into()]));
}

#[tokio::test(start_paused = true)]
async fn an_instance_gets_no_more_than_its_limit_and_a_new_one_takes_the_rest() {
    let mut stage = Stage::new(2);
    let (_, first) = stage.add();
    stage.send_all(&["a", "b", "c", "d", "e"]).await;
    stage.assert_load(2, 0, 3);
    let (_, second) = stage.add();
    settle().await;
    assert_eq!((first.running(), second.running()), (vec!["a".into(), "b".into()], vec!["c".into(), "d".into()]));
    stage.finish(&second, "c").await;
    assert_eq!(second.running(), ["d", "e"]);
    stage.assert_load(4, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn more_than_ten_thousand_wait_and_none_is_refused() {
    let activator =
        Activator::new("r", Limits { container_concurrency: 1, timeouts: TIMEOUTS }, Arc::new(Tally::default()));
    let n_clients = 12_000;
    let clients: Vec<_> = (0..n_clients)
        .map(|n| {
            let activator = activator.clone();
            tokio::spawn(async move {
                activator.call(Request::get(format!("/{n}")).body(()).unwrap(), None).await.response.status()
            })
        })
        .collect();
    while activator.load().held < n_clients {
        tokio::task::yield_now().await;
    }
    let worker = Arc::new(Worker::default());
    activator.add(Arc::clone(&worker));
    for n in 0..n_clients {
        while worker.running().is_empty() {
            tokio::task::yield_now().await;
        }
        worker.finish(&n.to_string());
    }
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    assert_eq!(activator.load().held, 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_timeout_from_the_requests_own_arrival() {
    let mut stage = Stage::with_timeouts(1, Timeouts { total: seconds(10), ..TIMEOUTS });
    let begun = Instant::now();
    stage.send("a").await;
    advance(seconds(4)).await;
    stage.send("b").await;

    let a = stage.answer("a").await;
    assert_eq!((a.status, &*a.body, a.at - begun), (504, "activator request timeout", seconds(10)));
    assert_eq!(a.failure.as_deref(), Some("activator request timeout"));
    let facts = a.facts.unwrap();
    assert_eq!((facts.cold, facts.queued, facts.instance), (true, seconds(10), None));
    stage.assert_load(0, 0, 1);

    let b = stage.answer("b").await;
    assert_eq!((b.status, b.at - begun), (504, seconds(14)));
    let (_, worker) = stage.add();
    settle().await;
    assert!(worker.seen().is_empty(), "nobody waits for the instance any more");
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_counts_against_every_timeout() {
    for timeouts in [
        Timeouts { total: seconds(10), ..TIMEOUTS },
        Timeouts { response_start: seconds(10), ..TIMEOUTS },
        Timeouts { idle: seconds(10), ..TIMEOUTS },
    ] {
        let mut stage = Stage::with_timeouts(1, timeouts);
        stage.send("a").await;
        advance(seconds(9)).await;
        let (id, worker) = stage.add();
        settle().await;
        assert_eq!(worker.running(), ["a"]);
        let a = stage.answer("a").await;
        assert_eq!((a.status, a.at - stage.begun), (504, seconds(10)), "{timeouts:?}");
        let facts = a.facts.unwrap();
        assert_eq!((facts.queued, facts.instance), (seconds(9), Some(id)), "{timeouts:?}");
        assert_eq!(worker.cancelled(), ["a"], "{timeouts:?}");
        stage.assert_quiet();
    }
}
