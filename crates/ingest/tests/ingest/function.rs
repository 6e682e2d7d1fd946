//! The preprocess function as seen from here: the function itself behind a server, in good moods and bad.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::{ErrorBody, ErrorCode, ErrorDetail};
use axum::{
    Json, Router,
    body::Body,
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use ingest::{FunctionClient, Native, Options, Patience, Source};

use crate::house::*;

/// What the server does before it answers as it should.
#[derive(Clone, Copy)]
enum Mood {
    Well,
    /// Every third request meets this status.
    EveryThird(StatusCode),
    /// Every request meets this status.
    Always(StatusCode),
    /// Answers something else.
    Babbles(&'static str),
    /// Never answers.
    Sleeps,
}

async fn serve(mood: Mood) -> (FunctionClient, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let moody = move |request: Request, next: Next| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match mood {
                Mood::EveryThird(status) if n.is_multiple_of(3) => status.into_response(),
                Mood::Always(status) => {
                    let detail = ErrorDetail::new(ErrorCode::Internal, "the function is unwell");
                    (status, Json(ErrorBody::from(detail))).into_response()
                }
                Mood::Babbles(text) => text.into_response(),
                Mood::Sleeps => std::future::pending().await,
                Mood::Well | Mood::EveryThird(_) => next.run(request).await,
            }
        }
    };
    let app = Router::new().fallback(answer).layer(axum::middleware::from_fn(moody));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    let patience = Patience { timeout: Duration::from_secs(60), attempts: 5, backoff: Duration::from_micros(100) };
    (FunctionClient::new(&url, reqwest::Client::new()).unwrap().with_patience(patience), asked)
}

/// The function itself, without its sandbox.
async fn answer(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    preprocess::answer(axum::http::Request::from_parts(head, body)).map(Body::from)
}

fn upload(house: &House) -> Source {
    let mut pets = pets(6);
    pets.push(("cats/broken.png".into(), picture(1)[..500].to_vec()));
    pets.push(("cats/text.png".into(), b"no picture".to_vec()));
    folder(&house.beside("folder"), &pets)
}

#[tokio::test]
async fn the_function_and_the_library_make_the_same_dataset() {
    for options in [
        Options::default(),
        Options {
            size: Some((40, 24)),
            fit: api::Fit::Contain,
            filter: api::Filter::CatmullRom,
            background: api::Background([1, 2, 3]),
            ..Options::default()
        },
    ] {
        let house = House::new();
        let (client, _) = serve(Mood::Well).await;
        let by_function = house.add_by(client, upload(&house), options.clone()).await.unwrap();
        let natively = house.add_by(Native::default(), upload(&house), options).await.unwrap();
        assert!(natively.published.existed, "another dataset came out");
        assert_eq!(by_function.rejected, natively.rejected);
        assert_eq!(by_function.rejected.len(), 2);
    }
}

#[tokio::test]
async fn passing_trouble_costs_no_picture() {
    for status in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT] {
        let house = House::new();
        let (client, asked) = serve(Mood::EveryThird(status)).await;
        let outcome = house.add_by(client, upload(&house), Options::default()).await.unwrap();
        assert_eq!(outcome.published.dataset.manifest.pictures, 12);
        assert_eq!(outcome.rejected.len(), 2, "only what is broken is left out");
        assert!(asked.load(Ordering::SeqCst) > 28, "requests were repeated");
    }
}

#[tokio::test]
async fn lasting_trouble_ends_the_ingest_and_blames_no_picture() {
    for (mood, code, told, asked_most) in [
        (Mood::Always(StatusCode::SERVICE_UNAVAILABLE), ErrorCode::Unavailable, "the function is unwell", 200),
        (Mood::Always(StatusCode::INTERNAL_SERVER_ERROR), ErrorCode::BadGateway, "answered 500", 40),
        (Mood::Always(StatusCode::NOT_FOUND), ErrorCode::BadGateway, "answered 404", 40),
        (Mood::Babbles("hello"), ErrorCode::BadGateway, "strange answer", 40),
        (Mood::Babbles(""), ErrorCode::BadGateway, "strange answer", 40),
    ] {
        for size in [None, Some((32, 32))] {
            let house = House::new();
            let (client, asked) = serve(mood).await;
            let options = Options { size, ..Options::default() };
            let error = house.add_by(client, upload(&house), options).await.unwrap_err();
            let detail = error.detail();
            assert_eq!(detail.code, code, "{}", detail.message);
            assert!(detail.message.contains(told) && detail.message.contains("127.0.0.1"), "{}", detail.message);
            assert!(asked.load(Ordering::SeqCst) <= asked_most, "{asked:?}");
            assert!(house.volumes().dataset_ids().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_function_that_is_away_or_asleep_is_told_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let patience = Patience { attempts: 3, backoff: Duration::from_micros(100), ..Patience::default() };
    let client = FunctionClient::new(&url, reqwest::Client::new()).unwrap().with_patience(patience);
    let house = House::new();
    let error = house.add_by(client, upload(&house), Options::default()).await.unwrap_err();
    assert_eq!(error.detail().code, ErrorCode::Unavailable);
    assert!(error.to_string().contains("is it running?"), "{error}");

    let (client, asked) = serve(Mood::Sleeps).await;
    let patience = Patience { timeout: Duration::from_millis(20), attempts: 2, backoff: Duration::from_micros(100) };
    let error = house.add_by(client.with_patience(patience), upload(&house), Options::default()).await.unwrap_err();
    assert_eq!(error.detail().code, ErrorCode::Timeout);
    assert!(asked.load(Ordering::SeqCst) >= 2);
}

#[test]
fn only_http_urls_are_functions() {
    for url in ["", "127.0.0.1:8081", "ftp://x", "https://x", "http://"] {
        let error = FunctionClient::new(url, reqwest::Client::new()).unwrap_err().to_string();
        assert!(error.contains("expected one like http://127.0.0.1:8081"), "{error}");
    }
}
