//! Pictures that the preprocess function breaks down over, and how they are told from a function that is broken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::{ErrorBody, ErrorCode, ErrorDetail, dataset::RejectReason};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use ingest::{FunctionClient, IngestError, Options, Patience};
use tokio::sync::broadcast;

use crate::house::*;

/// Behind the end of a PNG, where it troubles no decoder.
const MARK: &[u8] = b"trap";

/// Over which pictures the function breaks down.
#[derive(Clone, Copy, Debug)]
enum Over {
    Marked,
    /// All but tiny ones.
    Uploaded,
    /// Whichever are asked for while these requests are counted.
    Requests(usize, usize),
}

/// What it does then.
#[derive(Clone, Copy, Debug)]
enum Breakdown {
    Answers(StatusCode),
    /// Begins an answer and closes the connection.
    BreaksOff,
    /// Never answers.
    Sleeps,
    /// Fails at whatever else it has in work, too.
    TakesOthersAlong,
}

#[derive(Clone)]
struct Function {
    over: Over,
    breakdown: Breakdown,
    requests: Arc<AtomicUsize>,
    breakdowns: Arc<AtomicUsize>,
    crash: broadcast::Sender<()>,
}

impl Function {
    fn new(over: Over, breakdown: Breakdown) -> Self {
        let crash = broadcast::Sender::new(100);
        Self { over, breakdown, requests: Arc::default(), breakdowns: Arc::default(), crash }
    }

    async fn serve(&self) -> FunctionClient {
        let app = Router::new().fallback(Self::answer).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        let timeout = if matches!(self.breakdown, Breakdown::Sleeps) { 1 } else { 60 };
        let (timeout, backoff) = (Duration::from_secs(timeout), Duration::from_micros(100));
        let patience = Patience { timeout, attempts: 5, backoff };
        FunctionClient::new(&url, reqwest::Client::new()).unwrap().with_patience(patience)
    }

    async fn answer(State(function): State<Self>, request: axum::extract::Request) -> Response {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let count = function.requests.fetch_add(1, Ordering::SeqCst);
        let breaks_down = match function.over {
            Over::Marked => body.ends_with(MARK),
            Over::Uploaded => body.len() > 1000,
            Over::Requests(first, end) => (first..end).contains(&count),
        };
        if breaks_down {
            function.breakdowns.fetch_add(1, Ordering::SeqCst);
            return function.break_down().await;
        }
        if matches!(function.breakdown, Breakdown::TakesOthersAlong) {
            let mut crash = function.crash.subscribe();
            tokio::time::sleep(Duration::from_millis(2)).await;
            if crash.try_recv().is_ok() {
                return failed(StatusCode::INTERNAL_SERVER_ERROR);
            }
        }
        preprocess::answer(axum::http::Request::from_parts(head, body)).map(Body::from)
    }

    async fn break_down(&self) -> Response {
        match self.breakdown {
            Breakdown::Answers(status) => failed(status),
            Breakdown::BreaksOff => {
                let pieces = [Ok(Bytes::from_static(b"some")), Err(std::io::Error::other("a trap"))];
                Body::from_stream(stream::iter(pieces)).into_response()
            }
            Breakdown::Sleeps => std::future::pending().await,
            Breakdown::TakesOthersAlong => {
                // Nobody may be there to be taken along.
                let _ = self.crash.send(());
                failed(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

fn failed(status: StatusCode) -> Response {
    (status, Json(ErrorBody::from(ErrorDetail::new(ErrorCode::Internal, "the function failed")))).into_response()
}

fn marked(seed: u64) -> Vec<u8> {
    [picture(seed), MARK.to_vec()].concat()
}

const BREAKDOWNS: [Breakdown; 6] = [
    Breakdown::Answers(StatusCode::INTERNAL_SERVER_ERROR),
    Breakdown::Answers(StatusCode::BAD_GATEWAY),
    Breakdown::Answers(StatusCode::GATEWAY_TIMEOUT),
    Breakdown::BreaksOff,
    Breakdown::Sleeps,
    Breakdown::TakesOthersAlong,
];

#[tokio::test]
async fn a_picture_that_the_function_breaks_down_over_is_left_out_and_no_other() {
    for breakdown in BREAKDOWNS {
        println!("{breakdown:?}");
        let house = House::new();
        let sound = pets(6);
        let mut pictures = sound.clone();
        pictures.insert(0, ("cats/trap.png".into(), marked(7000)));
        pictures.insert(8, ("dogs/trap.png".into(), marked(7001)));
        pictures.push(("dogs/trap again.png".into(), marked(7001)));
        let function = Function::new(Over::Marked, breakdown);
        let client = function.serve().await;
        let outcome = house.add_by(client, folder(&house.beside("all"), &pictures), Options::default()).await.unwrap();

        let names = ["cats/trap.png", "dogs/trap again.png", "dogs/trap.png"];
        assert_eq!(rejects(&outcome), names.map(|name| (name, RejectReason::ProcessingFailed)).into());
        for file in &outcome.published.dataset.manifest.rejected {
            assert!(file.message.contains("fails at this picture, though not at others"), "{}", file.message);
        }
        // Two at most beside others and two alone, to measure and to process, each of two pictures.
        assert!(function.breakdowns.load(Ordering::SeqCst) <= 16, "{:?}", function.breakdowns);

        let without = house.add(folder(&house.beside("sound"), &sound)).await.unwrap();
        assert!(without.published.existed, "another dataset came out");
    }
}

async fn add(function: &Function, per_class: u64, size: Option<(u32, u32)>) -> Result<ingest::Outcome, IngestError> {
    let house = House::new();
    let options = Options { size, ..Options::default() };
    let client = function.serve().await;
    let result = house.add_by(client, folder(&house.beside("pets"), &pets(per_class)), options).await;
    assert_eq!(house.volumes().dataset_ids().unwrap().len(), usize::from(result.is_ok()));
    result
}

#[tokio::test]
async fn a_function_that_fails_at_everything_uploaded_ends_the_ingest_soon() {
    for (per_class, size) in [(2, None), (2, Some((32, 32))), (100, None), (100, Some((32, 32)))] {
        let function = Function::new(Over::Uploaded, Breakdown::Answers(StatusCode::INTERNAL_SERVER_ERROR));
        let error = add(&function, per_class, size).await.unwrap_err();
        assert_eq!(error.detail().code, ErrorCode::BadGateway);
        assert!(error.to_string().contains("answered 500"), "{error}");
        let requests = function.requests.load(Ordering::SeqCst);
        assert!(requests < 300, "{requests} requests for {per_class} pictures a class");
    }
}

#[tokio::test]
async fn a_function_that_breaks_for_good_ends_the_ingest_and_blames_no_picture() {
    for (first, breakdown) in [
        (0, Breakdown::BreaksOff),
        (20, Breakdown::BreaksOff),
        (20, Breakdown::Answers(StatusCode::INTERNAL_SERVER_ERROR)),
        (20, Breakdown::Answers(StatusCode::SERVICE_UNAVAILABLE)),
        (20, Breakdown::Sleeps),
    ] {
        let function = Function::new(Over::Requests(first, usize::MAX), breakdown);
        let error = add(&function, 30, Some((32, 32))).await.unwrap_err();
        assert!(matches!(error, IngestError::Function { .. }), "{breakdown:?} after {first}: {error}");
    }
}

#[tokio::test]
async fn a_function_that_is_broken_for_a_while_costs_no_picture() {
    for breakdown in [Breakdown::BreaksOff, Breakdown::Answers(StatusCode::INTERNAL_SERVER_ERROR)] {
        let function = Function::new(Over::Requests(10, 18), breakdown);
        let outcome = add(&function, 30, Some((32, 32))).await.unwrap();
        assert_eq!((outcome.published.dataset.manifest.pictures, outcome.rejected.len()), (60, 0), "{breakdown:?}");
        assert_eq!(function.breakdowns.load(Ordering::SeqCst), 8);
    }
}
