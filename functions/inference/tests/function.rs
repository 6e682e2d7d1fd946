//! The function end to end without a sandbox: a tiny model's folder, real pictures, whole requests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path};

use api::{
    ErrorBody, ErrorCode, Format, PreprocessSpec,
    predict::{FunctionInfo, ModelInfo, Prediction},
    preprocess::EncodedImage,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use inference::{Function, MAX_IMAGES};
use predictor::testing::{COLOURS, NAME, solid, write_colours};
use serde::de::DeserializeOwned;
use serde_json::json;

struct Served {
    dir: tempfile::TempDir,
    function: Function,
}

fn spec() -> PreprocessSpec {
    PreprocessSpec::square(8)
}

/// A function over an empty folder.
fn without_model() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let function = Function::new(dir.path().to_owned());
    Served { dir, function }
}

/// A function over version 7 of the colour network.
fn with_model() -> Served {
    let served = without_model();
    write_colours(served.dir.path(), 7, &spec()).unwrap();
    served
}

/// A PNG of one colour.
fn png(colour: [u8; 3]) -> Vec<u8> {
    imaging::encode_png(&solid(&spec(), colour), &spec())
}

fn encoded(name: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::to_value(EncodedImage::new(Some(name.to_owned()), bytes)).unwrap()
}

impl Served {
    fn get(&self, path: &str) -> Response<Bytes> {
        self.function.answer(&Request::get(path).body(Bytes::new()).unwrap())
    }

    fn post(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Response<Bytes> {
        let request = Request::post(path).header(header::CONTENT_TYPE, content_type);
        self.function.answer(&request.body(body.into()).unwrap())
    }

    fn post_json(&self, path: &str, body: &serde_json::Value) -> Response<Bytes> {
        self.post(path, "application/json", body.to_string())
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }
}

#[track_caller]
fn body<T: DeserializeOwned>(response: &Response<Bytes>, status: StatusCode) -> T {
    assert_eq!(response.status(), status, "{:?}", response.body());
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    serde_json::from_slice(response.body()).unwrap()
}

#[track_caller]
fn refused(response: &Response<Bytes>, code: ErrorCode, sentence: &str) {
    let ErrorBody { error } = body(response, StatusCode::from_u16(code.status()).unwrap());
    assert_eq!(error.code, code);
    assert!(error.message.contains(sentence), "{:?} does not say {sentence:?}", error.message);
}

#[test]
fn a_batch_answers_in_order_and_a_bad_picture_fails_alone() {
    let served = with_model();
    let [(_, red), (_, green), (_, blue)] = COLOURS;
    let truncated = &png(green)[..40];
    let request = json!({"images": [
        encoded("b", &png(blue)),
        {"name": "not base64", "image": "§"},
        encoded("cut", truncated),
        encoded("text", b"no picture at all"),
        encoded("empty", b""),
        encoded("r", &png(red)),
        {"image": Format::Png.data_url(&png(green))},
    ], "payload": 200});
    for path in ["/predict", "/predict/", "/"] {
        let answer: Vec<Prediction> = body(&served.post_json(path, &request), StatusCode::OK);
        let told: Vec<_> = answer.iter().map(|a| (a.name.as_deref(), a.prediction.as_deref())).collect();
        assert_eq!(
            told,
            [
                (Some("b"), Some("blue")),
                (Some("not base64"), None),
                (Some("cut"), None),
                (Some("text"), None),
                (Some("empty"), None),
                (Some("r"), Some("red")),
                (None, Some("green")),
            ]
        );
        let codes: Vec<_> = answer.iter().map(|a| a.error.as_ref().map(|e| e.code)).collect();
        assert_eq!(codes[1], Some(ErrorCode::BadRequest));
        assert!(matches!(codes[2], Some(ErrorCode::Truncated | ErrorCode::Undecodable)), "{:?}", codes[2]);
        assert_eq!(codes[3..], [Some(ErrorCode::UnsupportedFormat), Some(ErrorCode::Empty), None, None]);
        assert_eq!(answer[2].image_url, Some(Format::Png.data_url(truncated)));
        assert_eq!(answer[3].image_url, None);
    }
}

#[test]
fn an_entry_has_the_originals_fields_and_the_ranked_labels() {
    let served = with_model();
    let (_, red) = COLOURS[0];
    let response = served.post_json("/predict", &json!({"images": [encoded("r.png", &png(red))], "top_k": 2}));
    let timing = response.headers()["server-timing"].to_str().unwrap();
    assert!(timing.starts_with("decode;dur=") && timing.contains(", inference;dur="), "{timing}");

    let answer: serde_json::Value = body(&response, StatusCode::OK);
    // Logits are 4, 0, 0.
    let most = 4f64.exp() / (4f64.exp() + 2.0);
    let entry = answer[0].as_object().unwrap();
    assert_eq!(entry["imageUrl"], Format::Png.data_url(&png(red)));
    assert_eq!(entry["prediction"], "red");
    assert!((entry["confidence"].as_f64().unwrap() - most).abs() < 1e-6);
    let top_k = entry["top_k"].as_array().unwrap();
    assert_eq!(top_k.iter().map(|ranked| &ranked["label"]).collect::<Vec<_>>(), ["red", "green"]);
    assert!((top_k[1]["probability"].as_f64().unwrap() - (1.0 - most) / 2.0).abs() < 1e-6);
    assert!(!entry.contains_key("error") && !entry.contains_key("unsure"), "{entry:?}");
}

#[test]
fn an_answer_says_whether_it_is_unsure_where_the_manifest_tells_when() {
    let served = with_model();
    let path = served.dir().join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["doubt"] = json!({"score": "confidence", "unsure_below": 0.9, "false_alarms": 0.05});
    fs::write(&path, manifest.to_string()).unwrap();
    let images = [COLOURS[0].1, [128; 3]].map(|colour| encoded("p", &png(colour)));
    let answer: Vec<Prediction> = body(&served.post_json("/predict", &json!({"images": images})), StatusCode::OK);
    assert_eq!(answer.iter().map(|entry| entry.unsure).collect::<Vec<_>>(), [Some(false), Some(true)]);
    let one: Prediction = body(&served.post("/predict", "image/png", png([128; 3])), StatusCode::OK);
    assert_eq!(one.unsure, Some(true));
}

#[test]
fn pictures_are_not_repeated_when_switched_off() {
    let served = with_model();
    let images = [encoded("r", &png(COLOURS[0].1)), encoded("cut", &png(COLOURS[0].1)[..40])];
    let response = served.post_json("/predict", &json!({"images": images, "include_images": false, "top_k": 0}));
    let answer: Vec<Prediction> = body(&response, StatusCode::OK);
    assert_eq!(answer[0].prediction.as_deref(), Some("red"));
    assert!(answer[0].top_k.is_empty());
    assert!(answer.iter().all(|entry| entry.image_url.is_none()));
}

#[test]
fn a_raw_picture_answers_for_one() {
    let served = with_model();
    let (_, blue) = COLOURS[2];
    for content_type in ["image/png", "application/octet-stream", "application/x-www-form-urlencoded"] {
        let response = served.post("/predict?top_k=1", content_type, png(blue));
        let answer: Prediction = body(&response, StatusCode::OK);
        assert_eq!(answer.prediction.as_deref(), Some("blue"));
        assert_eq!(answer.top_k.len(), 1);
        assert_eq!(answer.image_url, Some(Format::Png.data_url(&png(blue))));
    }
    let response = served.post("/?include_images=false", "image/png", png(blue));
    assert_eq!(body::<Prediction>(&response, StatusCode::OK).image_url, None);
}

#[test]
fn a_data_url_has_the_pictures_own_media_type_whatever_the_client_claims() {
    let served = with_model();
    // A 1×1 bitmap of 24 bits: both headers, then one blue pixel and its row's padding.
    let mut bmp = b"BM".to_vec();
    for word in [58u32, 0, 54, 40, 1, 1, 1 | 24 << 16, 0, 4, 2835, 2835, 0, 0] {
        bmp.extend(word.to_le_bytes());
    }
    bmp.extend([255, 0, 0, 0]);
    let answer: Prediction = body(&served.post("/predict", "image/jpeg", bmp.clone()), StatusCode::OK);
    assert_eq!(answer.prediction.as_deref(), Some("blue"));
    assert_eq!(answer.image_url, Some(Format::Bmp.data_url(&bmp)));
}

#[test]
fn a_raw_picture_that_fails_has_its_errors_status() {
    let served = with_model();
    refused(&served.post("/predict", "image/png", "no picture at all"), ErrorCode::UnsupportedFormat, "");
    refused(&served.post("/predict", "image/png", ""), ErrorCode::Empty, "");
    refused(&served.post("/predict?top_k=many", "image/png", png([0; 3])), ErrorCode::BadRequest, "top_k is \"many\"");
    refused(&served.post("/predict", "text/plain", " {\"images\":[]}"), ErrorCode::BadRequest, "Content-Type");
}

#[test]
fn a_request_that_is_not_as_expected_is_refused_with_its_reason() {
    let served = with_model();
    refused(&served.post("/predict", "application/json", "{\"images\":"), ErrorCode::BadRequest, "EOF");
    refused(&served.post_json("/predict", &json!({})), ErrorCode::BadRequest, "missing field `images`");
    let images = vec![json!({"image": ""}); MAX_IMAGES + 1];
    refused(&served.post_json("/predict", &json!({"images": images})), ErrorCode::TooLarge, "257 pictures");
    let response = served.post("/predict", "Application/JSON; charset=utf-8", "{\"images\":[]}");
    assert_eq!(body::<Vec<Prediction>>(&response, StatusCode::OK), []);
}

#[test]
fn without_a_model_every_answer_says_what_to_do_and_a_later_model_is_found() {
    let served = without_model();
    let sentence = "no model has been published yet: train one";
    let request = json!({"images": [encoded("r", &png(COLOURS[0].1))]});
    refused(&served.get("/health/ready"), ErrorCode::Unavailable, sentence);
    refused(&served.post_json("/predict", &request), ErrorCode::Unavailable, sentence);
    refused(&served.post("/predict", "image/png", png([0; 3])), ErrorCode::Unavailable, sentence);
    assert_eq!(body::<FunctionInfo>(&served.get("/"), StatusCode::OK).model, None);
    assert_eq!(served.get("/health/live").status(), StatusCode::OK);

    write_colours(served.dir(), 1, &spec()).unwrap();
    assert_eq!(body::<ModelInfo>(&served.get("/health/ready"), StatusCode::OK).version, 1);
    assert_eq!(served.post_json("/predict", &request).status(), StatusCode::OK);
}

#[test]
fn a_broken_model_is_unavailable_until_it_is_replaced() {
    let served = with_model();
    fs::write(served.dir().join("model.onnx"), "cut off").unwrap();
    refused(&served.get("/health/ready"), ErrorCode::Unavailable, "cannot be loaded");
    refused(&served.post("/predict", "image/png", png([0; 3])), ErrorCode::Unavailable, "cannot be loaded");
    fs::write(served.dir().join("manifest.json"), "{}").unwrap();
    refused(&served.get("/health/ready"), ErrorCode::Unavailable, "cannot be loaded");
    write_colours(served.dir(), 8, &spec()).unwrap();
    assert_eq!(served.get("/health/ready").status(), StatusCode::OK);
}

#[test]
fn a_loaded_model_is_kept() {
    let served = with_model();
    assert_eq!(served.get("/health/ready").status(), StatusCode::OK);
    fs::remove_file(served.dir().join("model.onnx")).unwrap();
    assert_eq!(served.post("/predict", "image/png", png([0; 3])).status(), StatusCode::OK);
}

#[test]
fn the_function_tells_what_it_is_and_what_it_answers_with() {
    let served = with_model();
    let info: FunctionInfo = body(&served.get("/"), StatusCode::OK);
    assert!(info.function.starts_with("fovea inference "));
    assert!(info.routes.contains(&"POST /predict".to_owned()));
    let labels = COLOURS.map(|(label, _)| label.to_owned()).to_vec();
    assert_eq!(info.model, Some(ModelInfo { name: NAME.to_owned(), version: 7, labels }));
}

#[test]
fn unknown_routes_and_wrong_methods_are_told_apart() {
    let served = with_model();
    refused(&served.get("/nowhere"), ErrorCode::NotFound, "\"/nowhere\"");
    for (path, method, allow) in [
        ("/", "PUT", "GET, POST"),
        ("/predict", "GET", "POST"),
        ("/health/live", "POST", "GET"),
        ("/health/ready", "DELETE", "GET"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        let response = served.function.answer(&request);
        refused(&response, ErrorCode::MethodNotAllowed, allow);
        assert_eq!(response.headers()[header::ALLOW], allow);
    }
}

#[test]
fn a_route_prefix_of_spin_is_left_out() {
    let served = with_model();
    for (path_info, status) in [("/health/live", StatusCode::OK), ("", StatusCode::OK), ("/x", StatusCode::NOT_FOUND)] {
        let request = Request::get("/classify/health/live").header("spin-path-info", path_info);
        assert_eq!(served.function.answer(&request.body(Bytes::new()).unwrap()).status(), status);
    }
}

#[test]
fn bodies_that_cannot_be_read_are_refused() {
    refused(&Function::refuse_long_body(), ErrorCode::TooLarge, "50331648 bytes");
    let cause = std::io::Error::other("reset");
    refused(&Function::refuse_broken_body(&cause), ErrorCode::BadRequest, "broke off");
}
