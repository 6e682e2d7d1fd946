//! The routes.

use std::{
    convert::Infallible,
    fmt::Write as _,
    future, hint,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use spin_sdk::{
    http::{Request, body::IncomingBodyExt},
    http_service,
    time::sleep,
};

use crate::bake::{self, version};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Requests this instance has seen.
static REQUESTS: AtomicU32 = AtomicU32::new(0);

/// Whether a request has asked this instance for what it should not survive.
static IS_SPOILT: AtomicBool = AtomicBool::new(false);

const DEADLY: [&str; 7] = ["/spin", "/hog", "/trap", "/never", "/deadlock", "/endless", "/stalled"];

#[http_service]
async fn handle(request: Request) -> Response<Body> {
    let requests = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    let uri = request.uri().clone();
    let argument = uri.query().unwrap_or_default();
    let is_spoilt = IS_SPOILT.fetch_or(DEADLY.contains(&uri.path()), Ordering::Relaxed);
    match uri.path() {
        "/" if is_spoilt => text(StatusCode::OK, "spoilt"),
        "/" => text(StatusCode::OK, "well behaved"),
        "/echo" => match request.into_body().bytes().await {
            Ok(body) => Response::new(Full::new(body).boxed_unsync()),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error:?}")),
        },
        "/requests" => text(StatusCode::OK, requests.to_string()),
        "/wait" => {
            sleep(Duration::from_millis(argument.parse().unwrap_or(0))).await;
            text(StatusCode::OK, "waited")
        }
        "/busy" => busy(Duration::from_millis(argument.parse().unwrap_or(0))),
        "/spin" => spin(),
        "/hog" => hog(),
        "/trap" => panic!("the guest was asked to trap"),
        "/never" => never().await,
        "/deadlock" => future::pending().await,
        "/endless" => endless(Bytes::from(vec![b'x'; 64 * 1024])),
        "/stalled" => endless(Bytes::new()),
        "/flood" => flood(),
        "/version" => match version() {
            Ok(version) => text(StatusCode::OK, version),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, error),
        },
        "/baked" => text(StatusCode::OK, if bake::is_baked() { "baked" } else { "not baked" }),
        "/health/ready" => match version() {
            Ok("broken") => text(StatusCode::INTERNAL_SERVER_ERROR, "the model is broken"),
            Ok(version) => text(StatusCode::OK, version),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, error),
        },
        "/sandbox" => sandbox().await,
        path => text(StatusCode::NOT_FOUND, format!("no misdeed is called {path}")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn busy(time: Duration) -> Response<Body> {
    let start = Instant::now();
    while start.elapsed() < time {
        hint::spin_loop();
    }
    text(StatusCode::OK, "done")
}

fn spin() -> ! {
    loop {
        hint::spin_loop();
    }
}

fn hog() -> Response<Body> {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(vec![1; 1 << 20]);
        hint::black_box(&hoard);
    }
}

/// Waits for something that comes no sooner than the host's patience ends.
async fn never() -> ! {
    loop {
        sleep(Duration::from_secs(3600)).await;
    }
}

/// A body of which there is always more of the same; of nothing, it never gets anywhere.
fn endless(chunk: Bytes) -> Response<Body> {
    let frames = stream::unfold(chunk, |chunk| async move {
        if chunk.is_empty() {
            never().await
        }
        Some((Ok(Frame::data(chunk.clone())), chunk))
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn flood() -> Response<Body> {
    for line in 0..50_000 {
        eprintln!("line {line} of a flood that nobody wants to read");
    }
    eprintln!("{}", "one very long line ".repeat(10_000));
    text(StatusCode::OK, "flooded")
}

/// One line per thing a guest must not be able to do, and what came of trying; then the environment.
async fn sandbox() -> Response<Body> {
    let mut report = String::new();
    let mut tell = |what: &str, outcome: Result<(), String>| {
        let outcome = outcome.map_or_else(|error| format!("refused: {error}"), |()| "allowed".to_owned());
        let _ = writeln!(report, "{what}: {outcome}");
    };
    tell("write", std::fs::write("/model/written", "x").map_err(|error| error.to_string()));
    tell("read outside", std::fs::read("/etc/hostname").map(drop).map_err(|error| error.to_string()));
    tell("climb out", std::fs::read("/model/../secret").map(drop).map_err(|error| error.to_string()));
    tell("connect", std::net::TcpStream::connect("127.0.0.1:1").map(drop).map_err(|error| error.to_string()));
    tell("fetch", spin_sdk::http::get("http://127.0.0.1:1/").await.map(drop).map_err(|error| format!("{error:?}")));
    for (key, value) in std::env::vars() {
        let _ = writeln!(report, "env {key}={value}");
    }
    text(StatusCode::OK, report)
}
