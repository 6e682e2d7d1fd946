//! From an archive to an answer, over HTTP, with the real programs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use api::{
    model::{INPUT, LOGIT_TOLERANCE, OUTPUT, logit_difference},
    predict::Prediction,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use image::ImageFormat;
use predictor::Predictor;
use reqwest::{StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};
use store::Volumes;
use tests::{
    house::House,
    pictures::{self, LABELS},
};
use trainer::engine::{Engine, Inputs};

/// A CNN that learns the shapes in a few seconds.
fn quick() -> Value {
    json!({"family": "cnn", "epochs": 25, "batch_size": 8, "input_size": 32, "patience": 25})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_becomes_a_classifier_that_answers() {
    let data = tempfile::tempdir().unwrap();
    let house = House::start(data.path()).await.unwrap();

    let early =
        house.http.post(format!("{}/predict", house.inference)).body(pictures::png("circle", 1)).send().await.unwrap();
    assert_eq!(early.status(), StatusCode::SERVICE_UNAVAILABLE, "no model yet");
    let sentence: Value = early.json().await.unwrap();
    assert!(sentence["error"]["message"].as_str().unwrap().contains("train"), "says what to do: {sentence}");

    let archive = pictures::archive(30, 0);
    let dataset = house.upload(archive.clone()).await.unwrap();
    assert_eq!(dataset["pictures"], 90, "{dataset}");
    let names: Vec<_> = dataset["classes"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, LABELS);
    let id = dataset["id"].as_str().unwrap();
    let again = house.upload(archive).await.unwrap();
    assert_eq!(again["id"], id, "the same upload is the same dataset");
    assert_eq!(house.get("/api/datasets").await.unwrap().as_array().unwrap().len(), 1);

    let run = house.train(id, quick()).await.unwrap();
    let status = house.wait_for_run(&run).await.unwrap();
    assert_eq!(status["state"], "succeeded", "{status}");
    let results = house.get(&format!("/api/runs/{run}/results")).await.unwrap();
    assert!(results["test_accuracy"].as_f64().unwrap() >= 0.8, "the shapes are easy: {}", results["test_accuracy"]);
    for field in ["accuracy", "val_accuracy", "loss", "val_loss"] {
        assert!(results[field].is_number(), "{field}");
    }
    for field in ["learning_rate", "epochs", "batch_size", "optimizer"] {
        assert!(!results["model_params"][field].is_null(), "model_params.{field}");
    }

    house.wait_for_version(1).await.unwrap();
    answers_keep_order_and_errors_keep_their_place(&house).await;
    the_page_forwards_pictures_of_any_format(&house).await;
    golden_pictures_agree_between_engines(&house, data.path()).await;
    every_odd_file_gets_an_honest_answer(&house).await;
    a_new_version_is_served_without_a_failed_request(&house, id).await;

    assert!(house.stop().await.unwrap().success(), "a clean end");
    let volumes = Volumes::under(data.path());
    for dataset in volumes.datasets().unwrap() {
        dataset.verify().unwrap();
    }
    assert_eq!(volumes.versions("classifier").unwrap().len(), 2);
    for version in volumes.versions("classifier").unwrap() {
        version.verify().unwrap();
    }
}

async fn predict(house: &House, body: Value) -> Vec<Prediction> {
    let answer = house.http.post(format!("{}/predict", house.inference)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

async fn answers_keep_order_and_errors_keep_their_place(house: &House) {
    let jpeg = pictures::encode(&pictures::picture("stripes", 1003), ImageFormat::Jpeg);
    let files = [
        ("a.png", pictures::png("circle", 1001)),
        ("b.txt", b"no picture".to_vec()),
        ("c.png", pictures::png("square", 1002)),
        ("d.jpg", jpeg[..jpeg.len() / 2].to_vec()),
        ("e.jpg", jpeg),
    ];
    let images: Vec<Value> =
        files.iter().map(|(name, bytes)| json!({"name": name, "image": BASE64_STANDARD.encode(bytes)})).collect();
    let predictions = predict(house, json!({"images": images, "payload": 200})).await;
    let found: Vec<_> = predictions.iter().map(|p| (p.name.as_deref().unwrap(), p.prediction.as_deref())).collect();
    assert_eq!(
        found,
        [
            ("a.png", Some("circle")),
            ("b.txt", None),
            ("c.png", Some("square")),
            ("d.jpg", None),
            ("e.jpg", Some("stripes"))
        ]
    );
    assert!(predictions[1].error.is_some() && predictions[3].error.is_some());
    assert!(predictions[0].image_url.as_deref().unwrap().starts_with("data:image/png;base64,"));
    assert!(predictions[4].image_url.as_deref().unwrap().starts_with("data:image/jpeg;base64,"));
    for p in predictions.iter().filter(|p| p.error.is_none()) {
        let sum: f32 = p.top_k.iter().map(|r| r.probability).sum();
        assert!((sum - 1.0).abs() < 1e-4, "three labels make 1: {sum}");
        assert_eq!(p.top_k[0].probability, p.confidence.unwrap());
    }
}

async fn the_page_forwards_pictures_of_any_format(house: &House) {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let mut form = reqwest::multipart::Form::new();
    let formats = [Png, Jpeg, Gif, Bmp, Tiff, WebP];
    for (n, format) in formats.into_iter().enumerate() {
        let label = LABELS[n % 3];
        let bytes = pictures::encode(&pictures::picture(label, 2000 + n as u64), format);
        form = form.part(format!("any{n}"), reqwest::multipart::Part::bytes(bytes).file_name(format!("{n}-{label}")));
    }
    let answer = house.http.post(format!("{}/api/predict", house.web)).multipart(form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let predictions: Vec<Prediction> = answer.json().await.unwrap();
    let wrong: Vec<_> = predictions
        .iter()
        .enumerate()
        .filter(|(n, p)| p.error.is_some() || p.prediction.as_deref() != Some(LABELS[n % 3]))
        .collect();
    assert_eq!(predictions.len(), formats.len());
    // Lossy formats may cost one picture its label, never its answer.
    assert!(wrong.iter().all(|(_, p)| p.error.is_none()) && wrong.len() <= 1, "{wrong:?}");
}

/// Golden pictures through ONNX Runtime, native tract and the component. The component tells probabilities, so the
/// logits are compared after their common offset is gone: as logarithms of probabilities.
async fn golden_pictures_agree_between_engines(house: &House, data: &std::path::Path) {
    let volumes = Volumes::under(data);
    let version = volumes.version("classifier", 1).unwrap();
    let native = Predictor::load(&version.dir).unwrap();
    let spec = &version.manifest.preprocess;
    let n_classes = LABELS.len();
    let files: Vec<Vec<u8>> = (0..9u64)
        .map(|n| {
            pictures::encode(
                &pictures::picture(LABELS[n as usize % 3], 3000 + n),
                [ImageFormat::Png, ImageFormat::Jpeg][n as usize % 2],
            )
        })
        .collect();
    let mut pixels = vec![];
    for file in &files {
        pixels.extend(imaging::process(file, spec, &imaging::Limits::default()).unwrap().pixels);
    }
    let tract = native.logits(&pixels).unwrap();
    let onnx = std::fs::read(version.onnx()).unwrap();
    let mut exported = Engine::load().unwrap().session("exported", &onnx).unwrap();
    let mut inputs = Inputs::new();
    let dims = [files.len() as i64, i64::from(spec.height), i64::from(spec.width), 3];
    inputs.tensor(INPUT, &dims, &pixels).unwrap();
    let ort: Vec<f32> = exported.run(inputs).unwrap().values(OUTPUT).unwrap().to_vec();
    let images: Vec<Value> = files.iter().map(|f| json!({"image": BASE64_STANDARD.encode(f)})).collect();
    let answers = predict(house, json!({"images": images, "include_images": false, "top_k": n_classes})).await;
    let component: Vec<f32> = answers
        .iter()
        .flat_map(|p| LABELS.map(|l| p.top_k.iter().find(|r| r.label == l).unwrap().probability.ln()))
        .collect();
    let difference = logit_difference(&ort, &tract, n_classes);
    assert!(difference <= LOGIT_TOLERANCE, "ONNX Runtime and native tract differ by {difference}");
    let difference = logit_difference(&log_softmax(&tract, n_classes), &component, n_classes);
    assert!(difference <= LOGIT_TOLERANCE, "native tract and the component differ by {difference}");
}

fn log_softmax(logits: &[f32], n_classes: usize) -> Vec<f32> {
    logits
        .chunks(n_classes)
        .flat_map(|row| {
            let max = row.iter().copied().fold(f32::MIN, f32::max);
            let sum = row.iter().map(|x| (x - max).exp()).sum::<f32>().ln();
            row.iter().map(move |x| x - max - sum)
        })
        .collect()
}

/// Files that are odd, broken or hostile: what natively processing them says is what both functions must say.
async fn every_odd_file_gets_an_honest_answer(house: &House) {
    let Some(folder) = tests::shared("data/odd") else { return };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e != "tsv"));
    paths.sort();
    assert!(paths.len() >= 50, "{} files", paths.len());
    let spec = api::PreprocessSpec::square(48);
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let expected = imaging::process(&bytes, &spec, &imaging::Limits::default());
        for url in [format!("{}/?width=48&height=48", house.preprocess), format!("{}/predict", house.inference)] {
            let answer = house
                .http
                .post(&url)
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(bytes.clone())
                .send()
                .await
                .unwrap_or_else(|e| panic!("{name}: {e:#}"));
            let status = answer.status().as_u16();
            let body: Value = answer.json().await.unwrap_or_else(|e| panic!("{name}: {e:#}"));
            match &expected {
                Ok(picture) => {
                    assert_eq!(status, 200, "{name} at {url}: {body}");
                    if url.contains("width") {
                        assert_eq!(body["width"], picture.facts.width, "{name}");
                        assert_eq!(body["perceptual_hash"], picture.facts.perceptual_hash.as_str(), "{name}");
                        let png = BASE64_STANDARD.encode(imaging::encode_png(&picture.pixels, &spec));
                        assert_eq!(body["image"], png, "{name}: the sandbox makes the very same pixels");
                    }
                }
                Err(error) => {
                    let detail = error.detail();
                    assert_eq!(status, detail.code.status(), "{name} at {url}: {body}");
                    assert_eq!(body["error"]["code"], serde_json::to_value(detail.code).unwrap(), "{name}");
                }
            }
        }
    }
}

async fn a_new_version_is_served_without_a_failed_request(house: &House, dataset: &str) {
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..3u64)
        .map(|n| {
            let (http, url, stop) = (house.http.clone(), format!("{}/predict", house.inference), stop.clone());
            tokio::spawn(async move {
                let picture = pictures::png("circle", 4000 + n);
                let mut answered = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    let answer = http.post(&url).body(picture.clone()).send().await.unwrap();
                    assert_eq!(answer.status(), StatusCode::OK);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let run = house.train(dataset, quick()).await.unwrap();
    assert_eq!(house.wait_for_run(&run).await.unwrap()["state"], "succeeded");
    house.wait_for_version(2).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
}
