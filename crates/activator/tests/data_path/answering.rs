//! What becomes of an answer on its way: timeouts in the middle of it, announced lengths, headers.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use activator::{Activator, Instance, Limits, Timeouts};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::{Instant, advance};

use crate::stage::{Body, Reply, Stage, TIMEOUTS, Tally, buffered, poll_once, received, seconds, settle, streamed};

async fn running(timeouts: Timeouts) -> (Stage, Arc<crate::stage::Worker>) {
    let mut stage = Stage::with_timeouts(1, timeouts);
    let (_, worker) = stage.add();
    stage.send("a").await;
    (stage, worker)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_started_keeps_its_status_and_ends_with_the_text() {
    let (mut stage, worker) = running(Timeouts { total: seconds(10), response_start: seconds(5), ..TIMEOUTS }).await;
    let (sender, body) = streamed();
    advance(seconds(4)).await;
    worker.reply("a", Reply::Answer(Response::builder().status(201).body(body).unwrap()));
    sender.send("part").unwrap();
    settle().await;
    advance(seconds(4)).await;
    stage.send("b").await;
    let a = stage.answer("a").await;
    assert_eq!((a.status, &*a.body, a.at - stage.begun), (201, "partactivator request timeout", seconds(10)));
    assert!(a.failure.is_none() && a.facts.unwrap().instance.is_some());
    assert!(sender.is_closed(), "the instance is told");
    settle().await;
    assert_eq!(worker.running(), ["b"], "the place is free");
}

#[tokio::test(start_paused = true)]
async fn the_head_of_an_answer_starts_it_and_restarts_the_idle_time() {
    let timeouts = Timeouts { response_start: seconds(5), idle: seconds(6), ..TIMEOUTS };
    let (mut stage, worker) = running(timeouts).await;
    let (sender, body) = streamed();
    advance(seconds(4)).await;
    worker.reply("a", Reply::Answer(Response::new(body)));
    settle().await;
    advance(seconds(5)).await;
    sender.send("late").unwrap();
    settle().await;
    let a = stage.answer("a").await;
    let expected = (200, "lateactivator request timeout", seconds(4 + 5 + 6));
    assert_eq!((a.status, &*a.body, a.at - stage.begun), expected);
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn no_time_at_all_is_over_at_once() {
    let (mut stage, worker) = running(Timeouts { total: Duration::ZERO, ..TIMEOUTS }).await;
    let a = stage.answer("a").await;
    assert_eq!((a.status, &*a.body, a.at), (504, "activator request timeout", stage.begun));
    assert_eq!(a.headers["content-type"], "text/plain; charset=utf-8");
    assert!(worker.seen().is_empty());
    stage.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn timeouts_beyond_the_clock_are_none() {
    let never = Duration::MAX;
    let (mut stage, worker) = running(Timeouts { total: never, response_start: never, idle: never }).await;
    advance(seconds(1_000_000)).await;
    let (sender, body) = streamed();
    worker.reply("a", Reply::Answer(Response::new(body)));
    settle().await;
    advance(seconds(1_000_000)).await;
    sender.send("at last").unwrap();
    drop(sender);
    assert_eq!(stage.answer("a").await.body, "at last");
    stage.assert_quiet();
}

/// Announces a length, says `part`, and then nothing until the timeout.
async fn cut_short(announced: &'static str) -> String {
    let (mut stage, worker) = running(Timeouts { total: seconds(1), ..TIMEOUTS }).await;
    let (sender, body) = streamed();
    sender.send("part").unwrap();
    worker.reply("a", Reply::Answer(Response::builder().header("content-length", announced).body(body).unwrap()));
    let body = stage.answer("a").await.body;
    stage.assert_quiet();
    body
}

#[tokio::test(start_paused = true)]
async fn the_text_never_exceeds_an_announced_length() {
    let text = "activator request timeout";
    assert_eq!(cut_short("5").await, "part");
    assert_eq!(cut_short("28").await, "part", "one byte too few");
    assert_eq!(cut_short("29").await, format!("part{text}"));
    assert_eq!(cut_short("nonsense").await, format!("part{text}"));
}

#[tokio::test(start_paused = true)]
async fn a_buffered_answer_is_whole_however_late_it_is_sent() {
    let activator =
        Activator::new("r", Limits { container_concurrency: 1, timeouts: TIMEOUTS }, Arc::new(Tally::default()));
    let worker = Arc::new(crate::stage::Worker::default());
    activator.add(worker.clone());
    let mut call = pin!(activator.call(Request::get("/a").body(()).unwrap(), None));
    assert!(poll_once(&mut call).is_pending());
    worker.reply("a", Reply::Answer(Response::new(buffered("whole"))));
    let answered = call.await;
    assert_eq!(answered.response.body().size_hint().exact(), Some(5));
    advance(seconds(301)).await;
    assert_eq!(received(answered).await.body, "whole");
}

/// An instance whose answers never end and never wait.
struct Torrent;

impl Instance for Torrent {
    type RequestBody = ();
    type Body = Body;
    type Error = Infallible;

    async fn call(&self, _: Request<()>) -> Result<Response<Body>, Infallible> {
        Ok(Response::new(StreamBody::new(stream::repeat_with(|| Ok(Frame::data(Bytes::from("x"))))).boxed_unsync()))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_pauses_is_stopped_too() {
    let tally = Arc::new(Tally::default());
    let activator = Activator::new("r", Limits { container_concurrency: 1, timeouts: TIMEOUTS }, tally);
    activator.add(Arc::new(Torrent));
    let mut body = Box::pin(activator.call(Request::new(()), None).await.response.into_body());
    assert_eq!(body.size_hint().upper(), None);
    let begun = Instant::now();
    let mut last = Bytes::new();
    let mut n_frames = 0;
    while let Some(frame) = body.frame().await {
        last = frame.unwrap().into_data().unwrap();
        n_frames += 1;
        advance(seconds(1)).await;
    }
    assert_eq!((&last[..], n_frames), (&b"activator request timeout"[..], 301));
    assert_eq!(begun.elapsed(), seconds(301));
    assert!(body.is_end_stream());
    assert_eq!(activator.load().running, 0);
}

/// An instance whose answers break.
struct Breaking;

impl Instance for Breaking {
    type RequestBody = ();
    type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, &'static str>>>>;
    type Error = Infallible;

    async fn call(&self, _: Request<()>) -> Result<Response<Self::Body>, Infallible> {
        let frames = vec![Ok(Frame::data(Bytes::from("x"))), Err("broken"), Ok(Frame::data(Bytes::from("y")))];
        Ok(Response::new(StreamBody::new(stream::iter(frames))))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_is_over() {
    let activator =
        Activator::new("r", Limits { container_concurrency: 1, timeouts: TIMEOUTS }, Arc::new(Tally::default()));
    activator.add(Arc::new(Breaking));
    let mut body = Box::pin(activator.call(Request::new(()), None).await.response.into_body());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
    assert_eq!(activator.load().running, 1);
    assert_eq!(body.frame().await.unwrap().unwrap_err(), "broken");
    assert_eq!(activator.load().running, 0);
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn headers_change_on_the_way_in_and_out() {
    let stage = Stage::new(1);
    let (_, worker) = stage.add();
    let request = Request::get("/a")
        .header("host", "10.0.0.1:8012")
        .header("k-original-host", "f.example")
        .header("connection", "close")
        .header("knative-serving-revision", "r-00001");
    let client = Some([10, 0, 0, 9].into());
    let mut call = pin!(stage.activator.call(request.body(()).unwrap(), client));
    assert!(poll_once(&mut call).is_pending());
    let response =
        Response::builder().header("connection", "close, x-mine").header("x-mine", "1").header("x-kept", "2");
    worker.reply("a", Reply::Answer(response.body(buffered("a")).unwrap()));
    let seen = received(call.await).await;

    let mut expected = http::HeaderMap::new();
    for (name, value) in [
        ("host", "f.example"),
        ("k-proxy-request", "activator"),
        ("x-forwarded-for", "10.0.0.9"),
        ("forwarded", "for=10.0.0.9"),
    ] {
        expected.insert(name, HeaderValue::from_static(value));
    }
    assert_eq!(worker.headers("a"), expected);
    assert_eq!(seen.headers.into_iter().collect::<Vec<_>>(), [(Some("x-kept".parse().unwrap()), "2".parse().unwrap())]);
}
