//! Uploads and datasets over REST.

use api::{ErrorCode, dataset::DatasetManifest};
use axum::body::{Body, Bytes};
use futures_util::stream;
use http::{Method, StatusCode, header};
use serde_json::Value;

use crate::bench::{Bench, Part, png, preprocess_function, request, stubborn_function, tar};

async fn bench() -> Bench {
    let url = preprocess_function().await;
    Bench::with(|config| config.preprocess_url = url)
}

#[tokio::test]
async fn an_archive_becomes_a_dataset_once() {
    let bench = bench().await;
    let archive = tar(&["cat", "dog"], 10);
    let first = bench.post("/api/datasets?wait=true&name=pets&size=16", "application/x-tar", archive.clone()).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text());
    let manifest: DatasetManifest = first.json();
    assert_eq!((manifest.name.as_str(), manifest.pictures, manifest.preprocess.width), ("pets", 20, 16));
    assert_eq!(first.header(header::LOCATION), format!("/api/datasets/{}", manifest.id));

    let second = bench.post("/api/datasets?wait=true&name=pets&size=16", "application/x-tar", archive).await;
    assert_eq!(second.status, StatusCode::OK);
    assert_eq!(second.json::<DatasetManifest>().id, manifest.id);
    assert_eq!(bench.get("/api/datasets").await.json::<Vec<DatasetManifest>>().len(), 1);
    bench.nothing_is_left_aside();
}

#[tokio::test]
async fn an_upload_is_followed_by_its_events_to_its_dataset() {
    let bench = bench().await;
    let archive = tar(&["cat", "dog"], 10);
    let accepted =
        bench.post_form("/api/datasets", &[("name", None, b"pets"), ("archive", Some("p.tar"), &archive)]).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text());
    let upload: Value = accepted.json();
    assert_eq!(upload["state"], "working");
    assert_eq!(accepted.header(header::LOCATION), upload["links"]["self"]);

    let events = bench.get(upload["links"]["events"].as_str().unwrap()).await;
    assert_eq!(events.header(header::CONTENT_TYPE), "text/event-stream");
    let last: Value = serde_json::from_str(
        events.text().lines().rfind(|l| l.starts_with("data: ")).unwrap().trim_start_matches("data: "),
    )
    .unwrap();
    assert_eq!(last["state"], "succeeded", "{last}");
    assert_eq!(bench.get(upload["links"]["self"].as_str().unwrap()).await.json::<Value>(), last);
    let manifest: DatasetManifest = bench.get(last["links"]["dataset"].as_str().unwrap()).await.json();
    assert_eq!((manifest.name.as_str(), manifest.pictures), ("pets", 20));
}

#[tokio::test]
async fn files_are_filed_under_the_class_that_their_field_or_label_or_folder_tells() {
    let bench = bench().await;
    let pictures: Vec<_> = (0..20).map(|n| png(n / 10, n)).collect();
    let names: Vec<_> = (0..20).map(|n| format!("{n}.png")).collect();
    let by_field = |n: usize| ["class:cat", "class:dog"][n / 10];
    let fields: Vec<Part> = (0..20).map(|n| (by_field(n), Some(names[n].as_str()), pictures[n].as_slice())).collect();
    let one = bench.post_form("/api/datasets?wait=true", &fields).await;
    assert_eq!(one.status, StatusCode::CREATED, "{}", one.text());

    let mut labelled: Vec<Part> = vec![("label", None, b"cat")];
    labelled.extend((0..10).map(|n| ("files", Some(names[n].as_str()), pictures[n].as_slice())));
    labelled.push(("label", None, b"dog"));
    labelled.extend((10..20).map(|n| ("files", Some(names[n].as_str()), pictures[n].as_slice())));
    let two = bench.post_form("/api/datasets?wait=true", &labelled).await;
    assert_eq!(two.status, StatusCode::OK, "{}", two.text());

    let paths: Vec<_> = (0..20).map(|n| format!("pets/{}/{n}.png", ["cat", "dog"][n / 10])).collect();
    let foldered: Vec<Part> = (0..20).map(|n| ("files", Some(paths[n].as_str()), pictures[n].as_slice())).collect();
    let three = bench.post_form("/api/datasets?wait=true", &foldered).await;
    assert_eq!(three.status, StatusCode::OK, "{}", three.text());

    let manifest: DatasetManifest = one.json();
    let classes: Vec<_> = manifest.classes.iter().map(|class| (class.name.as_str(), class.total())).collect();
    assert_eq!(classes, [("cat", 10), ("dog", 10)]);
}

#[tokio::test]
async fn uploads_over_the_limit_are_refused_and_leave_nothing() {
    let bench = bench().await;
    let declared = request(Method::POST, "/api/datasets")
        .header(header::CONTENT_TYPE, "application/zip")
        .header(header::CONTENT_LENGTH, u64::MAX)
        .body(Body::empty())
        .unwrap();
    let refused = bench.send(declared).await;
    assert_eq!(refused.error().message, "the upload is larger than the limit of 1.0 MiB");
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);

    let endless = || Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 16]))));
    let streamed = bench.post("/api/datasets", "application/zip", endless()).await;
    assert_eq!(streamed.error().code, ErrorCode::TooLarge);

    let head = b"--BOUNDARY\r\nContent-Disposition: form-data; name=\"archive\"; filename=\"a.zip\"\r\n\r\n";
    let endless_form = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(head)) });
    let endless_form =
        futures_util::StreamExt::chain(endless_form, stream::repeat_with(|| Ok(Bytes::from(vec![0; 1 << 16]))));
    let form =
        bench.post("/api/datasets", "multipart/form-data; boundary=BOUNDARY", Body::from_stream(endless_form)).await;
    assert_eq!(form.error().code, ErrorCode::TooLarge);

    let part = vec![7; 400 << 10];
    let many: Vec<Part> = (0..6).map(|_| ("class:a", Some("a.png"), part.as_slice())).collect();
    assert_eq!(bench.post_form("/api/datasets", &many).await.error().code, ErrorCode::TooLarge);
    bench.nothing_is_left_aside();
}

#[tokio::test]
async fn what_cannot_become_a_dataset_is_refused_with_a_reason() {
    let bench = bench().await;
    for (path, kind, body, status, part_of_message) in [
        ("/api/datasets?wait=true", "application/zip", &b"no archive"[..], 400, "archive"),
        ("/api/datasets", "text/plain", b"hello", 415, "\"text/plain\""),
        ("/api/datasets?size=big", "application/zip", b"x", 422, "size is \"big\""),
        ("/api/datasets?colour=red", "application/zip", b"x", 400, "colour"),
        ("/api/datasets?wait=maybe", "application/zip", b"x", 400, "wait is \"maybe\""),
        ("/api/datasets", "multipart/form-data; boundary=BOUNDARY", b"--BOUNDARY--\r\n", 400, "no file"),
        ("/api/datasets", "multipart/form-data; boundary=BOUNDARY", b"--BOUNDARY\r\nConte", 400, "form"),
        ("/api/datasets", "multipart/form-data", b"", 400, "boundary"),
    ] {
        let answer = bench.post(path, kind, body).await;
        let message = answer.error().message;
        assert_eq!(answer.status.as_u16(), status, "{path} {kind}: {message}");
        assert!(message.contains(part_of_message), "{path} {kind}: {message}");
    }
    let unknown: [Part; 1] = [("pictures", Some("a.png"), b"x")];
    let message = bench.post_form("/api/datasets", &unknown).await.error().message;
    assert!(message.starts_with("the form has a field \"pictures\"; expected archive,"), "{message}");
    bench.nothing_is_left_aside();
}

#[tokio::test]
async fn an_upload_fails_with_its_reason_when_the_function_does_not_answer_as_it_should() {
    let url = stubborn_function(StatusCode::INTERNAL_SERVER_ERROR, "oops").await;
    let bench = Bench::with(|config| config.preprocess_url = url);
    let archive = tar(&["cat", "dog"], 10);
    let answer = bench.post("/api/datasets?wait=true", "application/x-tar", archive).await;
    assert_eq!(answer.error().code, ErrorCode::BadGateway);
    assert!(answer.error().message.contains("preprocess function"), "{}", answer.text());
    bench.nothing_is_left_aside();
}

#[tokio::test]
async fn pictures_are_told_by_split_and_class_and_shown_as_png() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let base = format!("/api/datasets/{}/pictures", dataset.manifest.id);
    let all: Value = bench.get(&base).await.json();
    assert_eq!((&all["total"], all["pictures"].as_array().unwrap().len()), (&16.into(), 16));
    let some: Value = bench.get(&format!("{base}?split=validation&class=cat&offset=1&limit=5")).await.json();
    assert_eq!((&some["total"], some["pictures"].as_array().unwrap().len()), (&2.into(), 1));
    let picture = &some["pictures"][0];
    assert_eq!((&picture["split"], &picture["label"]), (&"validation".into(), &1.into()));

    let png = bench.get(picture["url"].as_str().unwrap()).await;
    assert_eq!((png.status, png.header(header::CONTENT_TYPE)), (StatusCode::OK, "image/png"));
    assert!(png.header(header::CACHE_CONTROL).contains("immutable"));
    let row = picture["row"].as_u64().unwrap() as usize;
    let expected = dataset.pixels(api::dataset::Split::Validation).unwrap().image(row - 8).to_vec();
    assert_eq!(png.body, imaging::encode_png(&expected, &dataset.manifest.preprocess));

    for missing in ["/16.png", "/x.png", "/0", "?class=horse"] {
        assert_eq!(bench.get(&format!("{base}{missing}")).await.error().code, ErrorCode::NotFound, "{missing}");
    }
    assert_eq!(bench.get(&format!("{base}?split=half")).await.error().code, ErrorCode::BadRequest);
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    let bench = Bench::new();
    assert_eq!(bench.get("/api/datasets/..%2f..%2fetc").await.error().code, ErrorCode::Unprocessable);
    assert_eq!(bench.get("/api/datasets/ds-0").await.error().code, ErrorCode::NotFound);
    assert_eq!(bench.get("/api/uploads/up-0").await.error().code, ErrorCode::NotFound);
    assert_eq!(bench.get("/api/uploads/up-0/events").await.error().code, ErrorCode::NotFound);
}
