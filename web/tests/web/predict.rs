//! Classification over REST.

use std::{sync::atomic::Ordering, time::Duration};

use api::{ErrorCode, predict::Prediction};
use http::StatusCode;

use crate::bench::{Bench, Part, inference_function, stubborn_function, waking_function};

async fn bench() -> Bench {
    let url = inference_function().await;
    Bench::with(|config| {
        config.inference_url = url;
        config.predict_limit_bytes = 40 << 20;
    })
}

fn labels(predictions: &[Prediction]) -> Vec<&str> {
    predictions.iter().map(|p| p.prediction.as_deref().unwrap_or("-")).collect()
}

#[tokio::test]
async fn any_fields_are_answered_in_order_and_bad_pictures_spoil_only_themselves() {
    let bench = bench().await;
    let huge = vec![0; 33 << 20];
    let contents: [&[u8]; 12] = [b"a", b"b", b"garbage", b"c", b"bomb", b"d", &huge, b"e", b"f", b"g", b"h", b"i"];
    let names: Vec<_> = (0..12).map(|n| format!("{n}.png")).collect();
    let fields: Vec<_> = (0..12).map(|n| format!("any{}", n % 3)).collect();
    let parts: Vec<Part> = (0..12).map(|n| (fields[n].as_str(), Some(names[n].as_str()), contents[n])).collect();
    let answer = bench.post_form("/api/predict", &parts).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let predictions: Vec<Prediction> = answer.json();
    assert_eq!(labels(&predictions), ["a", "b", "-", "c", "-", "d", "-", "e", "f", "g", "h", "i"]);
    assert!(predictions.iter().zip(&names).all(|(p, name)| p.name.as_ref() == Some(name)));
    let codes: Vec<_> = predictions.iter().filter_map(|p| p.error.as_ref()).map(|error| error.code).collect();
    assert_eq!(codes, [ErrorCode::UnsupportedFormat, ErrorCode::BadGateway, ErrorCode::TooLarge]);
}

#[tokio::test]
async fn one_picture_as_the_body_is_answered_alone_and_its_error_is_the_requests() {
    let bench = bench().await;
    let predictions: Vec<Prediction> =
        bench.post("/api/predict?include_images=false", "image/png", "ship").await.json();
    assert_eq!((labels(&predictions), predictions[0].image_url.as_ref()), (vec!["ship"], None));
    let refused = bench.post("/api/predict", "image/png", "garbage").await;
    assert_eq!(
        (refused.status, refused.error().message.as_str()),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "that is no picture")
    );
    assert_eq!(bench.post("/api/predict", "image/png", "").await.error().code, ErrorCode::Empty);
    assert_eq!(bench.post("/api/predict", "application/json", "{}").await.error().code, ErrorCode::UnsupportedFormat);
    assert_eq!(bench.post("/api/predict", "image/png", vec![0; 33 << 20]).await.error().code, ErrorCode::TooLarge);
    assert_eq!(bench.post("/api/predict?topk=3", "image/png", "x").await.error().code, ErrorCode::BadRequest);
}

#[tokio::test]
async fn forms_without_pictures_and_forms_over_the_limit_are_refused() {
    let bench = bench().await;
    let empty: [Part; 2] = [("note", None, b"hello"), ("picture", Some(""), b"")];
    assert_eq!(bench.post_form("/api/predict", &empty).await.error().code, ErrorCode::BadRequest);
    let part = vec![0; 30 << 20];
    let over: [Part; 2] = [("a", Some("a.png"), &part), ("b", Some("b.png"), &part)];
    assert_eq!(bench.post_form("/api/predict", &over).await.error().code, ErrorCode::TooLarge);
}

#[tokio::test]
async fn pictures_wait_for_a_version_in_use_that_the_function_does_not_have_yet() {
    let (url, has_model) = waking_function().await;
    let bench = Bench::with(|config| config.inference_url = url);
    let error = bench.post("/api/predict", "image/png", "ship").await.error();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Unavailable, "no model yet; train one"));

    let version = bench.model(&bench.dataset()).manifest.version;
    bench.volumes.set_current("classifier", version).unwrap();
    let (answer, ()) = tokio::join!(bench.post("/api/predict", "image/png", "ship"), async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        has_model.store(true, Ordering::Relaxed);
    });
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(labels(&answer.json::<Vec<Prediction>>()), ["ship"]);
}

#[tokio::test]
async fn a_function_that_is_away_or_broken_or_empty_is_an_error_of_the_request() {
    let away = Bench::new();
    let error = away.post("/api/predict", "image/png", "x").await.error();
    assert_eq!(error.code, ErrorCode::Unavailable);
    let message = "the inference function at http://127.0.0.1:1/ cannot be reached; start it, or tell where it is with INFERENCE_URL";
    assert_eq!(error.message, message);

    for (status, body, code, message) in [
        (
            503,
            r#"{"error":{"code":"unavailable","message":"no model yet; train one"}}"#,
            ErrorCode::Unavailable,
            "no model yet; train one",
        ),
        (503, "busy", ErrorCode::Unavailable, "has no capacity"),
        (200, "hello", ErrorCode::BadGateway, "not one prediction per picture"),
        (200, "[]", ErrorCode::BadGateway, "not one prediction per picture"),
        (404, "nothing", ErrorCode::BadGateway, "does not know /predict"),
        (500, "trap", ErrorCode::BadGateway, "answered 500 for this picture"),
    ] {
        let url = stubborn_function(StatusCode::from_u16(status).unwrap(), body).await;
        let bench = Bench::with(|config| config.inference_url = url);
        let error = bench.post("/api/predict", "image/png", "x").await.error();
        assert_eq!(error.code, code, "{status} {body}");
        assert!(error.message.contains(message), "{}", error.message);
    }
}
