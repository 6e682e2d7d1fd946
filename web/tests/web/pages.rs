//! The pages, empty and filled, and what works without scripts.

use api::train::{Progress, RunState};
use http::{StatusCode, header};

use crate::bench::{Answer, Bench, Part, epoch, inference_function, preprocess_function, status, tar};

pub const URLENCODED: &str = "application/x-www-form-urlencoded";

#[track_caller]
pub fn shows(page: &Answer, texts: &[&str]) {
    assert_eq!(page.header(header::CONTENT_TYPE), "text/html; charset=utf-8");
    let html = page.text();
    for text in texts {
        assert!(html.contains(text), "no {text:?} in {html}");
    }
    assert!(!html.contains("style=\""), "the content security policy forbids inline styles");
    assert!(!html.contains("<dog>"), "labels are escaped");
}

#[tokio::test]
async fn empty_pages_tell_the_next_step() {
    let bench = Bench::new();
    for (path, texts) in [
        ("/", &["Choose a pipeline", "href=\"/training_page\"", "href=\"/inference_page\"", "None yet"][..]),
        ("/training_page", &["Upload pictures above", "name=\"archive\"", "name=\"label\"", "name=\"files\""]),
        ("/train", &["Train a classifier"]),
        ("/runs", &["No run yet"]),
        ("/models", &["No model yet"]),
        ("/functions", &["This service was not told where the functions&#39; runtime is", "FOVEA_ADMIN"]),
        ("/inference_page", &["There is no classifier yet", "multiple"]),
        ("/classify", &["Classify pictures"]),
        ("/inference_page_2", &["Classify pictures"]),
    ] {
        let page = bench.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        shows(&page, texts);
    }
    let results = bench.get("/results_page").await;
    assert_eq!((results.status, results.header(header::LOCATION)), (StatusCode::SEE_OTHER, "/runs"));
}

#[tokio::test]
async fn filled_pages_show_what_is_there() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let id = dataset.manifest.id.clone();
    let run = bench.finished_run(&dataset);
    bench.model(&dataset);
    bench.model(&dataset);
    bench.volumes.set_current("classifier", 1).unwrap();

    shows(&bench.get("/").await, &["classifier v1", "62.5 %", run.id(), "cats &#38; &#60;dogs&#62;"]);
    shows(&bench.get("/training_page").await, &[&format!("/datasets/{id}"), "8 × 8"]);
    let page = bench.get(&format!("/datasets/{id}")).await;
    let sample = format!("/api/datasets/{id}/pictures/0.png");
    shows(&page, &["16 pictures of 2 classes", "&#60;dog&#62;", &sample, "cat/broken.png", "the picture is cut off"]);
    shows(
        &page,
        &[
            "perhaps mislabelled",
            "name=\"epochs\" min=\"1\" max=\"1000\"",
            "name=\"budget_seconds\"",
            "hidden layer: 256",
        ],
    );
    shows(&bench.get("/runs").await, &[run.id(), "62.5 %", "succeeded"]);
    let page = bench.get(&format!("/runs/{}", run.id())).await;
    shows(
        &page,
        &[
            "62.5 %",
            "<svg class=\"chart\"",
            "Confusion matrix",
            "shade-10",
            "4,321",
            "Classify with it",
            "state good\">in use</span>",
        ],
    );
    shows(&page, &["the test split has only 4 pictures", "13 s", "AdamW"]);
    assert_eq!(bench.get("/results_page").await.header(header::LOCATION), format!("/runs/{}", run.id()));
    shows(&bench.get("/models").await, &["in use", "Put into use", "/api/models/classifier/2/model.onnx"]);
    shows(&bench.get("/inference_page").await, &["classifier v1 knows: &#60;dog&#62;, cat."]);
}

#[tokio::test]
async fn a_run_is_shown_live_then_with_the_reason_of_its_end() {
    let bench = Bench::new();
    let run = bench.queued_run(&bench.dataset());
    let path = format!("/runs/{}", run.id());
    shows(&bench.get(&path).await, &["waiting for the trainer", "http-equiv=\"refresh\"", "/cancel", "data-events"]);

    let lock = run.lock().unwrap();
    run.write_status(&status(RunState::Running)).unwrap();
    run.append_progress(&Progress::Epoch(epoch(1))).unwrap();
    let fragment = bench.get(&format!("{path}/live")).await;
    shows(&fragment, &["epoch 1 of at most 3 · about 2.0 s left", "<progress value=\"1\" max=\"3\"", "1234"]);
    assert!(!fragment.text().contains("<html"));
    shows(&bench.get(&path).await, &["training", "about 2.0 s left"]);

    drop(lock);
    run.bury(RunState::Failed, "the disk is full").unwrap();
    std::fs::write(run.log_path(), "no space left").unwrap();
    let page = bench.get(&path).await;
    shows(&page, &["The disk is full.", "no space left", "Curves until then", "Train again"]);
    assert!(!page.text().contains("refresh"));
}

#[tokio::test]
async fn the_form_of_settings_starts_a_run_or_says_what_is_wrong_beside_each_field() {
    let bench = Bench::new();
    let id = bench.dataset().manifest.id;
    let path = format!("/datasets/{id}/train");
    let wrong = bench.post(&path, URLENCODED, "epochs=0&dropout=many&model=..&batch_size=").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    shows(
        &wrong,
        &[
            "Dropout is &#34;many&#34;; expected a number from 0 to 0.9",
            "value=\"many\"",
            "<strong class=\"wrong\" role=\"alert\">Epochs is 0; expected 1 to 1000</strong>",
            "Publish as is &#34;..&#34;",
            "<details open>",
        ],
    );
    let wrong = bench.post(&path, URLENCODED, "epochs=0&seed=-1").await;
    shows(&wrong, &["Seed is &#34;-1&#34;; expected a whole number from 0 to 4294967295"]);
    assert!(bench.volumes.runs().unwrap().is_empty());

    let started = bench.post(&path, URLENCODED, "family=cnn&epochs=5&dropout=&model=pets").await;
    assert_eq!(started.status, StatusCode::SEE_OTHER, "{}", started.text());
    let run = &bench.volumes.runs().unwrap()[0];
    assert_eq!(started.header(header::LOCATION), format!("/runs/{}", run.id()));
    assert_eq!((run.spec.hyperparameters.epochs, run.spec.model.as_str()), (Some(5), "pets"));

    bench.until(run.id(), RunState::Running).await;
    let cancelled = bench.post(&format!("/runs/{}/cancel", run.id()), URLENCODED, "").await;
    assert_eq!(cancelled.header(header::LOCATION), format!("/runs/{}", run.id()));
    bench.until(run.id(), RunState::Cancelled).await;
}

#[tokio::test]
async fn an_upload_without_scripts_leads_to_its_dataset_or_to_the_reason() {
    let url = preprocess_function().await;
    let bench = Bench::with(|config| config.preprocess_url = url);
    let archive = tar(&["cat", "dog"], 10);
    let follow = |answer: Answer| {
        let bench = &bench;
        async move {
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
            let page = answer.header(header::LOCATION).to_owned();
            shows(&bench.get(&format!("{page}/live")).await, &["<progress"]);
            let api = format!("/api{page}/events");
            bench.get(&api).await;
            bench.get(&page).await
        }
    };
    let fields: [Part; 3] = [("archive", Some("pets.tar"), &archive), ("size", None, b""), ("fit", None, b"")];
    let done = follow(bench.post_form("/datasets", &fields).await).await;
    let id = &bench.volumes.datasets().unwrap()[0].manifest.id;
    assert_eq!(done.header(header::LOCATION), format!("/datasets/{id}"));

    let only_garbage: [Part; 2] = [("class:a", Some("a.png"), b"garbage"), ("class:b", Some("b.png"), b"trash")];
    let failed = follow(bench.post_form("/datasets", &only_garbage).await).await;
    shows(&failed, &["No dataset came of the upload", "a.png", "Upload again"]);
}

#[tokio::test]
async fn pictures_are_classified_without_scripts_errors_in_their_places() {
    let url = inference_function().await;
    let bench = Bench::with(|config| config.inference_url = url);
    let files: [Part; 3] =
        [("p", Some("1.tiff"), b"ship"), ("p", Some("2.png"), b"garbage"), ("p", Some("<dog>.gif"), b"<dog>")];
    let page = bench.post_form("/inference_page_2", &files).await;
    assert_eq!(page.status, StatusCode::OK);
    shows(&page, &["1.tiff", "ship", "75.0 %", "That is no picture.", "&#60;dog&#62;", "data:image/png;base64,AAAA"]);
    let html = page.text();
    assert!(html.find("1.tiff") < html.find("2.png") && html.find("2.png") < html.find("&#60;dog&#62;.gif"));
    let unsure: Vec<_> = html.match_indices("It may show none of the classes").map(|(at, _)| at).collect();
    assert!(matches!(unsure[..], [at] if Some(at) > html.find("&#60;dog&#62;.gif")), "{unsure:?}");

    let nothing: [Part; 1] = [("p", Some(""), b"")];
    let refused = bench.post_form("/inference_page_2", &nothing).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    shows(&refused, &["choose one or more"]);
}

#[tokio::test]
async fn a_version_is_put_into_use_by_its_form() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    bench.model(&dataset);
    let set = bench.post("/models/classifier/current", URLENCODED, "version=1").await;
    assert_eq!((set.status, set.header(header::LOCATION)), (StatusCode::SEE_OTHER, "/models"));
    assert_eq!(bench.volumes.current("classifier").unwrap(), Some(1));
    let missing = bench.post("/models/classifier/current", URLENCODED, "version=9").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    shows(&missing, &["Model classifier has no version 9."]);
}

#[tokio::test]
async fn what_is_not_there_is_a_page_for_people_and_json_for_programs() {
    let bench = Bench::new();
    for path in ["/nowhere", "/datasets/ds-0", "/runs/20260101", "/uploads/up-0", "/assets/other.css"] {
        let page = bench.get(path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}");
        shows(&page, &["Not here", "To the start page"]);
    }
    assert_eq!(bench.get("/api/nowhere").await.error().code, api::ErrorCode::NotFound);
}

#[tokio::test]
async fn assets_are_there_and_cached_by_their_content() {
    let bench = Bench::new();
    let mut html = String::new();
    for path in ["/", "/training_page", "/inference_page"] {
        html += &bench.get(path).await.text();
    }
    let addresses: Vec<_> = html.split('"').filter(|text| text.starts_with("/assets/")).collect();
    assert!(addresses.iter().any(|a| a.contains("style.css")) && addresses.iter().any(|a| a.contains("upload.js")));
    for address in addresses {
        let asset = bench.get(address).await;
        assert_eq!(asset.status, StatusCode::OK, "{address}");
        let tag = asset.header(header::ETAG).to_owned();
        assert!(address.ends_with(tag.trim_matches('"')));
        let again = crate::bench::request(http::Method::GET, address).header(header::IF_NONE_MATCH, &tag);
        let again = bench.send(again.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    }
}

#[tokio::test]
async fn a_damaged_dataset_is_our_fault_and_its_path_stays_in_the_log() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    std::fs::write(dataset.dir.join("pixels.safetensors"), "damaged").unwrap();
    let page = bench.get(&format!("/datasets/{}", dataset.manifest.id)).await;
    assert_eq!(page.status, StatusCode::INTERNAL_SERVER_ERROR);
    shows(&page, &["Something went wrong on our side; the service&#39;s log says more."]);
    assert!(!page.text().contains("safetensors"));
    assert!(page.text().contains(page.header("x-request-id")));
    assert_eq!(bench.get("/").await.status, StatusCode::OK);
}
