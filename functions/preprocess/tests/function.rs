//! The function as a client sees it: requests in, answers out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use api::{
    ErrorBody, ErrorCode, PreprocessSpec,
    predict::FunctionInfo,
    preprocess::{BatchAnswer, BatchRequest, DEFAULT_SIDE, EncodedImage, Entry, Outcome, Processed, SAFETENSORS},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use preprocess::{MAX_IMAGES, answer, refuse_broken_body, refuse_long_body};
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;

const JSON: &str = "application/json";

fn picture(width: u32, height: u32, color: [u8; 3]) -> Vec<u8> {
    let spec = PreprocessSpec { width, height, ..PreprocessSpec::square(1) };
    imaging::encode_png(&color.repeat((width * height) as usize), &spec)
}

fn red() -> Vec<u8> {
    picture(6, 4, [200, 0, 0])
}

fn ask(method: &str, uri: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request.body(body.into()).unwrap())
}

fn batch(images: &[(&str, String)]) -> String {
    let images =
        images.iter().map(|(name, image)| EncodedImage { name: Some((*name).into()), image: image.clone() }).collect();
    serde_json::to_string(&BatchRequest { images, spec: Some(PreprocessSpec::square(2)) }).unwrap()
}

#[track_caller]
fn read<T: DeserializeOwned>(response: &Response<Bytes>, status: u16) -> T {
    let text = String::from_utf8_lossy(response.body());
    assert_eq!(response.status().as_u16(), status, "{text}");
    assert_eq!(response.headers()["content-type"], JSON);
    assert_eq!(response.headers()["content-length"], response.body().len().to_string());
    serde_json::from_slice(response.body()).unwrap()
}

#[track_caller]
fn error(response: &Response<Bytes>, code: ErrorCode) -> String {
    let ErrorBody { error } = read(response, code.status());
    assert_eq!(error.code, code, "{}", error.message);
    error.message
}

#[track_caller]
fn succeeded(entry: Entry) -> Processed {
    match entry.outcome {
        Outcome::Processed(processed) => processed,
        Outcome::Failed { error } => panic!("{}", error.message),
    }
}

#[track_caller]
fn failed(entry: &Entry) -> ErrorCode {
    match &entry.outcome {
        Outcome::Failed { error } => error.code,
        Outcome::Processed(_) => panic!("{:?} was processed", entry.name),
    }
}

/// The pixels of an answer's base64 PNG.
fn pixels(processed: &Processed) -> image::RgbImage {
    let png = BASE64_STANDARD.decode(processed.image.as_deref().unwrap()).unwrap();
    image::load_from_memory(&png).unwrap().into_rgb8()
}

/// The pixels and the answer of a compact body.
#[track_caller]
fn compact(response: &Response<Bytes>) -> (Vec<usize>, Vec<u8>, BatchAnswer) {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], SAFETENSORS);
    let tensors = SafeTensors::deserialize(response.body()).unwrap();
    let (_, head) = SafeTensors::read_metadata(response.body()).unwrap();
    let images = tensors.tensor("images").unwrap();
    let answer = serde_json::from_str(&head.metadata().as_ref().unwrap()["answer"]).unwrap();
    (images.shape().to_vec(), images.data().to_vec(), answer)
}

#[test]
fn it_says_what_it_is_and_that_it_lives() {
    let info: FunctionInfo = read(&ask("GET", "/", &[], ""), 200);
    assert!(info.function.starts_with("fovea preprocess"));
    assert!(info.routes.iter().any(|route| route == "POST /probe"));
    for route in ["/health/live", "/health/ready"] {
        assert_eq!(ask("GET", route, &[], "").status(), 200);
    }
}

#[test]
fn a_raw_picture_comes_back_processed_with_its_facts() {
    let entry = succeeded(read(&ask("POST", "/?width=3&height=5", &[("content-type", "image/png")], red()), 200));
    assert_eq!(pixels(&entry), image::RgbImage::from_pixel(3, 5, image::Rgb([200, 0, 0])));
    assert_eq!((entry.facts.width, entry.facts.height), (6, 4));
    assert_eq!(entry.facts.content_hash, imaging::content_hash(&red()));
}

#[test]
fn content_type_and_path_of_a_raw_picture_do_not_matter() {
    let expected = ask("POST", "/", &[], red());
    let entry = succeeded(read(&expected, 200));
    assert_eq!(pixels(&entry).dimensions(), (DEFAULT_SIDE, DEFAULT_SIDE));
    for content_type in ["application/x-www-form-urlencoded", "text/html", "application/octet-stream"] {
        let other = ask("POST", "/process", &[("content-type", content_type)], red());
        assert_eq!(other.body(), expected.body(), "{content_type}");
    }
    let behind_a_route = ask("POST", "/preprocess/process", &[("spin-path-info", "/process")], red());
    assert_eq!(behind_a_route.body(), expected.body());
    let at_the_route = ask("POST", "/preprocess", &[("spin-path-info", "")], red());
    assert_eq!(at_the_route.body(), expected.body());
}

#[test]
fn a_raw_picture_that_fails_has_the_status_of_its_error() {
    let post = |body: &[u8], headers| ask("POST", "/", headers, Bytes::copy_from_slice(body));
    let compact: &[_] = &[("accept", SAFETENSORS)];
    for headers in [&[], compact] {
        error(&post(b"", headers), ErrorCode::Empty);
        error(&post(&red()[..60], headers), ErrorCode::Truncated);
        let message = error(&post(b"%PDF-1.7", headers), ErrorCode::UnsupportedFormat);
        assert!(message.contains("a PDF document"), "{message}");
    }
}

#[test]
fn a_spec_that_cannot_be_is_unprocessable() {
    let message = error(&ask("POST", "/?size=5000", &[], red()), ErrorCode::Unprocessable);
    assert_eq!(message, "width is 5000; expected 1 to 1024 pixels");
    let request = r#"{"images": [], "spec": {"width": 0, "height": 3}}"#;
    error(&ask("POST", "/", &[("content-type", JSON)], request), ErrorCode::Unprocessable);
}

#[test]
fn one_bad_picture_spoils_neither_the_batch_nor_its_order() {
    let good = BASE64_STANDARD.encode(red());
    let request = batch(&[
        ("good", good.clone()),
        ("no base64", "???".into()),
        ("no picture", BASE64_STANDARD.encode("hello")),
        ("empty", String::new()),
        ("data URL", format!("data:image/png;base64,{good}")),
    ]);
    let answer: BatchAnswer =
        read(&ask("POST", "/", &[("content-type", "application/json; charset=utf-8")], request), 200);
    assert_eq!(answer.spec, PreprocessSpec::square(2));
    let names: Vec<_> = answer.images.iter().map(|entry| entry.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["good", "no base64", "no picture", "empty", "data URL"]);
    assert_eq!(failed(&answer.images[1]), ErrorCode::BadRequest);
    assert_eq!(failed(&answer.images[2]), ErrorCode::UnsupportedFormat);
    assert_eq!(failed(&answer.images[3]), ErrorCode::Empty);
    let [first, .., last] = answer.images.try_into().map(|images: [Entry; 5]| images).unwrap();
    let (first, last) = (succeeded(first), succeeded(last));
    assert_eq!(pixels(&first), image::RgbImage::from_pixel(2, 2, image::Rgb([200, 0, 0])));
    assert_eq!(first, last);
}

#[test]
fn the_compact_answer_holds_the_rows_of_those_that_succeeded() {
    let [red, blue] = [[200, 0, 0], [0, 0, 90]].map(|color| BASE64_STANDARD.encode(picture(5, 5, color)));
    let request = batch(&[("red", red), ("bad", "???".into()), ("blue", blue)]);
    let headers = [("content-type", JSON), ("accept", "application/json;q=0.5, Application/X-Safetensors;q=1")];
    let (shape, pixels, answer) = compact(&ask("POST", "/", &headers, request));
    assert_eq!(shape, [2, 2, 2, 3]);
    assert_eq!(pixels, [[200, 0, 0].repeat(4), [0, 0, 90].repeat(4)].concat());
    let [red, bad, blue] = answer.images.try_into().map(|images: [Entry; 3]| images).unwrap();
    assert_eq!(failed(&bad), ErrorCode::BadRequest);
    for entry in [red, blue] {
        assert_eq!(succeeded(entry).image, None);
    }
}

#[test]
fn a_raw_picture_can_have_the_compact_answer_too() {
    let (shape, pixels, answer) = compact(&ask("POST", "/?size=3", &[("accept", SAFETENSORS)], red()));
    assert_eq!(shape, [1, 3, 3, 3]);
    assert_eq!(pixels, [200, 0, 0].repeat(9));
    assert_eq!(answer.spec, PreprocessSpec::square(3));
    assert_eq!(answer.images.len(), 1);
}

#[test]
fn a_batch_of_nothing_is_answered_with_nothing() {
    let headers = [("content-type", JSON), ("accept", SAFETENSORS)];
    let (shape, pixels, answer) = compact(&ask("POST", "/?size=7", &headers, r#"{"images": []}"#));
    assert_eq!((shape, pixels.len(), answer.images.len()), (vec![0, 7, 7, 3], 0, 0));
}

#[test]
fn malformed_json_is_a_bad_request() {
    for body in ["", "{", "[]", r#"{"images": 3}"#, r#"{"images": [{}]}"#, r#"{"images": [], "spec": {"side": 3}}"#] {
        error(&ask("POST", "/", &[("content-type", JSON)], body), ErrorCode::BadRequest);
    }
}

#[test]
fn too_many_pictures_at_once_are_too_large() {
    let many = batch(&vec![("", String::new()); MAX_IMAGES + 1]);
    let message = error(&ask("POST", "/", &[("content-type", JSON)], many), ErrorCode::TooLarge);
    assert!(message.contains(&format!("at most {MAX_IMAGES}")), "{message}");
    let images = [r#"{"image": ""}"#; 11].join(",");
    let large = format!(r#"{{"images": [{images}], "spec": {{"width": 1024, "height": 1024}}}}"#);
    let message = error(&ask("POST", "/", &[("content-type", JSON)], large), ErrorCode::TooLarge);
    assert!(message.contains("at most 10"), "{message}");
    error(&refuse_long_body(), ErrorCode::TooLarge);
    error(&refuse_broken_body(), ErrorCode::BadRequest);
}

#[test]
fn a_probe_reads_headers_only() {
    let probe: imaging::Probe = read(&ask("POST", "/probe", &[], red()), 200);
    assert_eq!((probe.format, probe.width, probe.height), (api::Format::Png, 6, 4));
    let body: serde_json::Value = read(&ask("POST", "/probe", &[], red()[..60].to_vec()), 200);
    assert_eq!(body, serde_json::json!({"format": "png", "width": 6, "height": 4}));
    error(&ask("POST", "/probe", &[], "hello"), ErrorCode::UnsupportedFormat);
}

#[test]
fn other_routes_and_methods_are_refused_by_name() {
    error(&ask("POST", "/predict", &[], ""), ErrorCode::NotFound);
    for (method, route, allow) in [
        ("PUT", "/", "GET, POST"),
        ("GET", "/process", "POST"),
        ("GET", "/probe", "POST"),
        ("POST", "/health/live", "GET"),
    ] {
        let response = ask(method, route, &[], "");
        error(&response, ErrorCode::MethodNotAllowed);
        assert_eq!(response.headers()["allow"], allow);
    }
}
