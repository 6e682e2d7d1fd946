//! Files that arrive piece by piece, as a web form sends them.

use api::{ErrorCode, dataset::RejectReason};
use bytes::Bytes;
use futures_util::stream;
use ingest::{IngestError, Limits, Source, Upload};

use crate::house::*;

/// A body in pieces of a thousand bytes.
fn body(bytes: &[u8]) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Unpin + use<> {
    let pieces: Vec<_> = bytes.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

#[tokio::test]
async fn pictures_chosen_per_class_an_archive_and_a_folder_become_the_same_dataset() {
    let house = House::new();
    let pets = pets(5);
    let mut chosen = Upload::begin(&house.volumes(), house.limits.clone()).unwrap();
    let mut by_path = Upload::begin(&house.volumes(), house.limits.clone()).unwrap();
    let mut archive = Upload::begin(&house.volumes(), house.limits.clone()).unwrap();
    for (name, bytes) in &pets {
        let (label, file) = name.split_once('/').unwrap();
        chosen.receive_picture(Some(label), file, body(bytes)).await.unwrap();
        by_path.receive_picture(None, &format!("pets/{name}"), body(bytes)).await.unwrap();
    }
    archive.receive_archive("pets.tar.gz", body(&gzip(&tar(&pets)))).await.unwrap();
    assert_eq!(house.staged().len(), 3);

    let mut ids = vec![];
    for upload in [chosen, by_path, archive] {
        let ingest = ingest::Ingest::new(house.volumes(), ingest::Native::default());
        let run = ingest.run(Source::Upload(upload), Default::default(), Default::default());
        ids.push(run.await.unwrap().published.dataset.manifest.id);
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(house.staged().is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_single_file_is_told_with_the_rest() {
    let mut house = House::new();
    house.limits.file_bytes = 20_000;
    let mut upload = Upload::begin(&house.volumes(), house.limits.clone()).unwrap();
    for (name, bytes) in pets(3) {
        let (label, file) = name.split_once('/').unwrap();
        upload.receive_picture(Some(label), file, body(&bytes)).await.unwrap();
    }
    upload.receive_picture(Some("cats"), "huge.png", body(&[7; 50_000])).await.unwrap();
    upload.receive_picture(Some("cats"), "../slip.png", body(&picture(8))).await.unwrap();
    upload.receive_picture(None, "loose.png", body(&picture(9))).await.unwrap();
    let outcome = house.add(Source::Upload(upload)).await.unwrap();
    let expected = [
        ("../slip.png", RejectReason::UnsafePath),
        ("huge.png", RejectReason::TooLarge),
        ("loose.png", RejectReason::Stray),
    ];
    assert_eq!(rejects(&outcome), expected.into());
    assert_eq!(outcome.files, 9);
}

#[tokio::test]
async fn an_upload_beyond_the_limits_is_stopped_while_it_arrives() {
    let house = House::new();
    let limits = Limits { archive_bytes: 5000, unpacked_bytes: 5000, entries: 2, ..house.limits.clone() };
    let begin = || Upload::begin(&house.volumes(), limits.clone()).unwrap();

    let error = begin().receive_archive("a.zip", body(&[0; 6000])).await.unwrap_err();
    assert_eq!(error.detail().code, ErrorCode::TooLarge);

    let mut upload = begin();
    upload.receive_picture(Some("a"), "1", body(&[0; 3000])).await.unwrap();
    let error = upload.receive_picture(Some("a"), "2", body(&[0; 3000])).await.unwrap_err();
    assert_eq!(error.detail().code, ErrorCode::TooLarge);
    let error = upload.receive_picture(Some("a"), "3", body(&[0; 1])).await.unwrap_err();
    assert!(error.to_string().contains("more than 2 files"), "{error}");
    drop(upload);
    assert!(house.staged().is_empty());

    let full = Limits { reserve_bytes: u64::MAX, ..limits.clone() };
    let error = Upload::begin(&house.volumes(), full).unwrap_err();
    assert_eq!(error.detail().code, ErrorCode::InsufficientStorage);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_by_name() {
    let house = House::new();
    let mut upload = Upload::begin(&house.volumes(), house.limits.clone()).unwrap();
    let broken = stream::iter([Ok(Bytes::from_static(b"PK")), Err(std::io::Error::other("the line is dead"))]);
    let error = upload.receive_archive("pets.zip", broken).await.unwrap_err();
    assert_eq!(error.to_string(), "the upload of \"pets.zip\" broke off");
    assert_eq!(error.detail().code, ErrorCode::BadRequest);
    assert!(matches!(error, IngestError::BrokenOff { source, .. } if source.to_string() == "the line is dead"));
    drop(upload);
    assert!(house.staged().is_empty());
}

#[tokio::test]
async fn a_second_archive_is_refused() {
    let house = House::new();
    let mut upload = Upload::begin(&house.volumes(), house.limits.clone()).unwrap();
    upload.receive_archive("a.zip", body(&zip(&pets(2)))).await.unwrap();
    assert!(upload.receive_archive("b.zip", body(&zip(&pets(2)))).await.is_err());
}
