//! What becomes of pictures: cleaned, split, always the same way.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    ErrorCode, Fit,
    dataset::{RejectReason, Split},
};
use ingest::{IngestError, Native, Options, Outcome, Picture, Progress, Source, Stage};

use crate::house::*;

/// The same picture, saved with a loss.
fn as_jpeg(pixels: &[u8], quality: u8) -> Vec<u8> {
    let side = (pixels.len() / 3).isqrt() as u32;
    let mut bytes = vec![];
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(pixels, side, side, image::ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// The same picture, enlarged smoothly.
fn enlarged(pixels: &[u8], factor: u32) -> Vec<u8> {
    let side = (pixels.len() / 3).isqrt() as u32;
    let small = image::RgbImage::from_raw(side, side, pixels.to_vec()).unwrap();
    let large = image::imageops::resize(&small, side * factor, side * factor, image::imageops::CatmullRom);
    png(large.as_raw())
}

fn memory(pictures: impl IntoIterator<Item = (String, Vec<u8>)>) -> Source {
    let picture = |(name, bytes): (String, Vec<u8>)| {
        let label = name.split('/').next().unwrap().to_owned();
        Picture { name, label, split: None, bytes: bytes.into() }
    };
    Source::Memory { name: "memory".into(), pictures: pictures.into_iter().map(picture).collect() }
}

fn per_class(outcome: &Outcome) -> Vec<[u64; 3]> {
    outcome.published.dataset.manifest.classes.iter().map(|class| Split::ALL.map(|split| class.of(split))).collect()
}

#[tokio::test]
async fn every_class_is_split_in_the_same_shares() {
    let house = House::new();
    let mut pictures = pets(40);
    pictures.extend((0..20).map(|n| (format!("birds/{n}.png"), picture(5000 + n))));
    pictures.extend((0..2).map(|n| (format!("rare/{n}.png"), picture(6000 + n))));
    let outcome = house.add(memory(pictures)).await.unwrap();
    assert_eq!(outcome.published.dataset.labels(), ["birds", "cats", "dogs", "rare"]);
    assert_eq!(per_class(&outcome), [[14, 3, 3], [28, 6, 6], [28, 6, 6], [2, 0, 0]]);
    let policy = &outcome.published.dataset.manifest.split;
    assert_eq!((policy.given.len(), policy.validation_ratio, policy.test_ratio), (0, 0.15, 0.15));
}

#[tokio::test]
async fn order_and_names_decide_nothing() {
    let mut pictures = pets(20);
    let mut splits = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for round in 0..3 {
        let house = House::new();
        Random::new(round).shuffle(&mut pictures);
        let renamed = pictures.iter().enumerate().map(|(at, (name, bytes))| {
            (format!("{}/{at}-{round}.png", name.split('/').next().unwrap()), bytes.clone())
        });
        let outcome = house.add(memory(renamed)).await.unwrap();
        let records = outcome.published.dataset.pictures().unwrap();
        splits.insert(records.into_iter().map(|r| (r.facts.content_hash, r.split)).collect::<BTreeMap<_, _>>());
        ids.insert(outcome.published.dataset.manifest.id);
    }
    assert_eq!((splits.len(), ids.len()), (1, 1));
}

#[tokio::test]
async fn other_labels_or_another_size_are_another_dataset() {
    let house = House::new();
    let first = house.add(memory(pets(4))).await.unwrap();
    let relabelled = pets(4).into_iter().map(|(name, bytes)| (name.replace("cats", "lions"), bytes));
    let relabelled = house.add(memory(relabelled)).await.unwrap();
    let options = Options { size: Some((48, 24)), fit: Fit::Contain, ..Options::default() };
    let resized = house.add_by(Native::default(), memory(pets(4)), options).await.unwrap();
    assert_eq!(resized.published.dataset.manifest.preprocess.fit, Fit::Contain);
    let ids: BTreeSet<_> = [&first, &relabelled, &resized].map(|o| &o.published.dataset.manifest.id).into();
    assert_eq!(ids.len(), 3);
    assert!(![first, relabelled, resized].iter().any(|outcome| outcome.published.existed));
}

#[tokio::test]
async fn the_side_follows_the_middle_picture() {
    for (sides, expected) in [
        (&[20, 20, 20][..], 28),
        (&[28, 28, 300], 28),
        (&[33, 33, 33], 48),
        (&[100, 130, 400], 160),
        (&[300, 300, 300], 224),
        (&[4, 4, 4, 4, 90, 90], 96),
    ] {
        let house = House::new();
        let pictures = sides
            .iter()
            .enumerate()
            .map(|(at, side)| (format!("{}/{at}.png", ["cats", "dogs"][at % 2]), png(&waves(at as u64, *side))));
        let outcome = house.add(memory(pictures)).await.unwrap();
        let spec = &outcome.published.dataset.manifest.preprocess;
        assert_eq!((spec.width, spec.height), (expected, expected), "{sides:?}");
    }
}

#[tokio::test]
async fn one_bad_picture_spoils_nothing() {
    let house = House::new();
    let whole = picture(1);
    let mut pictures = pets(4);
    pictures.extend(files([
        ("cats/empty.png", vec![]),
        ("cats/text.png", b"no picture at all".to_vec()),
        ("cats/cut.png", whole[..whole.len() / 2].to_vec()),
        ("dogs/tiny.png", png(&waves(9, 7))),
    ]));
    let outcome = house.add(memory(pictures)).await.unwrap();
    let expected = [
        ("cats/cut.png", RejectReason::Undecodable),
        ("cats/empty.png", RejectReason::Undecodable),
        ("cats/text.png", RejectReason::UnsupportedFormat),
        ("dogs/tiny.png", RejectReason::TooSmall),
    ];
    assert_eq!(rejects(&outcome), expected.into());
    assert_eq!(outcome.published.dataset.manifest.rejected, outcome.rejected);
    assert!(outcome.rejected.iter().all(|file| file.label.is_some()));
    let tiny = outcome.rejected.iter().find(|file| file.name == "dogs/tiny.png").unwrap();
    assert_eq!(tiny.message, "the picture is 7 × 7; expected at least 8 pixels on each side");
    assert_eq!(outcome.published.dataset.manifest.pictures, 8);
}

#[tokio::test]
async fn of_equal_pictures_one_stays() {
    let house = House::new();
    let mut pictures = pets(4);
    pictures.push(("cats/again.png".into(), picture(0)));
    // Other bytes, the same pixels.
    let mut longer = picture(1);
    longer.extend_from_slice(b"behind the last chunk");
    pictures.push(("cats/longer.png".into(), longer));
    let outcome = house.add(memory(pictures)).await.unwrap();
    assert_eq!(outcome.published.dataset.manifest.pictures, 8);
    let reasons: Vec<_> = outcome.rejected.iter().map(|file| file.reason).collect();
    assert_eq!(reasons, [RejectReason::Duplicate, RejectReason::Duplicate]);
    assert!(outcome.rejected[0].message.starts_with("the same picture as \"cats/"), "{:?}", outcome.rejected);
}

#[tokio::test]
async fn a_picture_under_two_labels_is_trusted_under_none() {
    let house = House::new();
    let mut pictures = pets(4);
    pictures.push(("dogs/wolf.png".into(), picture(0)));
    pictures.push(("dogs/wolf-again.png".into(), picture(0)));
    let outcome = house.add(memory(pictures)).await.unwrap();
    let expected = ["cats/0.png", "dogs/wolf-again.png", "dogs/wolf.png"];
    assert_eq!(rejects(&outcome), expected.map(|name| (name, RejectReason::ConflictingLabels)).into());
    assert_eq!(outcome.rejected[0].message, "the same picture lies under \"cats\" and \"dogs\"");
    assert_eq!(outcome.published.dataset.manifest.pictures, 7);
}

#[tokio::test]
async fn what_cannot_be_decoded_is_not_called_a_conflict() {
    let house = House::new();
    let mut pictures = pets(4);
    pictures.extend(files([("cats/broken.png", b"junk".to_vec()), ("dogs/broken.png", b"junk".to_vec())]));
    let outcome = house.add(memory(pictures)).await.unwrap();
    assert!(outcome.rejected.iter().all(|file| file.reason == RejectReason::UnsupportedFormat));
    assert_eq!(outcome.rejected.len(), 2);
}

#[tokio::test]
async fn near_duplicates_stay_on_one_side() {
    let house = House::new();
    let mut pictures = pets(30);
    for seed in 0..30 {
        pictures.push((format!("cats/{seed}-jpeg.jpg"), as_jpeg(&waves(seed, 32), 90)));
        pictures.push((format!("cats/{seed}-large.png"), enlarged(&waves(seed, 32), 3)));
    }
    let options = Options { size: Some((32, 32)), ..Options::default() };
    let outcome = house.add_by(Native::default(), memory(pictures), options).await.unwrap();
    let records = records(&outcome);
    assert_eq!(records.len(), 120, "near duplicates are kept");
    assert_eq!(outcome.near_duplicates.len(), 30);
    for group in &outcome.near_duplicates {
        let splits: BTreeSet<_> = group.names.iter().map(|name| records[name].1).collect();
        assert_eq!((group.names.len(), splits.len(), group.several_labels), (3, 1, false), "{group:?}");
    }
    assert_eq!(per_class(&outcome)[1], [20, 5, 5], "dogs");
    let [train, validation, test] = per_class(&outcome)[0];
    assert!(train >= 62 && (12..=14).contains(&validation) && (12..=14).contains(&test), "cats");
}

#[tokio::test]
async fn look_alikes_under_two_labels_are_named_and_kept_together() {
    let house = House::new();
    let mut pictures = pets(10);
    pictures.push(("dogs/like-a-cat.jpg".into(), as_jpeg(&waves(3, 32), 90)));
    let outcome = house.add(memory(pictures)).await.unwrap();
    let [group] = &outcome.near_duplicates[..] else { panic!("{:?}", outcome.near_duplicates) };
    assert_eq!(
        (group.several_labels, &group.names[..]),
        (true, &["cats/3.png".into(), "dogs/like-a-cat.jpg".into()][..])
    );
    let records = records(&outcome);
    assert_eq!(records["cats/3.png"].1, records["dogs/like-a-cat.jpg"].1);
}

#[tokio::test]
async fn thousands_of_flat_pictures_of_one_hash_take_no_quadratic_time() {
    let house = House::new();
    let mut random = Random::new(3);
    let pictures = (0..6000).map(|n| {
        let color = [0; 3].map(|_: u8| random.below(256) as u8);
        (format!("{}/{n}.png", ["warm", "cold"][n % 2]), png(&color.repeat(64)))
    });
    let began = std::time::Instant::now();
    let outcome = house.add(memory(pictures)).await.unwrap();
    assert!(began.elapsed().as_secs() < 60, "it took {:?}", began.elapsed());
    assert!(outcome.published.dataset.manifest.pictures > 5900);
}

#[tokio::test]
async fn splits_that_the_upload_brings_are_kept_and_the_missing_one_is_cut_from_train() {
    let house = House::new();
    let named = |split: &str, first: u64, n: u64| -> Vec<_> {
        let all = (first..first + n)
            .map(|seed| (format!("{split}/{}/{seed}.png", ["a", "b"][seed as usize % 2]), picture(seed)));
        all.collect()
    };
    let upload = [named("Train", 0, 40), named("test", 100, 20)].concat();
    let outcome = house.add_archive(&zip(&upload)).await.unwrap();
    assert_eq!(per_class(&outcome), [[17, 3, 10], [17, 3, 10]]);
    let policy = &outcome.published.dataset.manifest.split;
    assert_eq!(policy.given, [Split::Train, Split::Test]);
    assert_eq!((policy.validation_ratio, policy.test_ratio), (0.15, 0.0));
    for (name, (_, split)) in records(&outcome) {
        assert_eq!(name.starts_with("test/"), split == Split::Test, "{name}");
    }

    let upload = [named("train", 0, 40), named("val", 200, 8), named("test", 100, 20)].concat();
    let outcome = house.add_archive(&zip(&upload)).await.unwrap();
    assert_eq!(per_class(&outcome), [[20, 4, 10], [20, 4, 10]]);

    let upload = [named("train", 0, 40), named("validation", 200, 8)].concat();
    let outcome = house.add_archive(&zip(&upload)).await.unwrap();
    assert_eq!(per_class(&outcome), [[17, 4, 3], [17, 4, 3]]);

    let error = house.add_archive(&zip(&[named("val", 0, 8), named("test", 100, 8)].concat())).await.unwrap_err();
    assert!(error.to_string().contains("no train/ folder"), "{error}");
    assert_eq!(error.detail().code, ErrorCode::Unprocessable);
}

#[tokio::test]
async fn what_resembles_a_test_picture_does_not_train() {
    let house = House::new();
    let mut upload: Vec<_> =
        (0..12).map(|n| (format!("train/{}/{n}.png", ["a", "b"][n as usize % 2]), picture(n))).collect();
    upload.extend((20..28).map(|n| (format!("test/{}/{n}.png", ["a", "b"][n as usize % 2]), picture(n))));
    upload.extend(files([
        ("train/a/near-test.jpg", as_jpeg(&waves(20, 32), 90)),
        ("val/a/near-test-too.png", enlarged(&waves(20, 32), 2)),
        ("train/b/same-as-test.png", picture(21)),
        ("val/a/validates.png", picture(40)),
        ("train/a/near-validation.jpg", as_jpeg(&waves(40, 32), 90)),
        ("train/a/near-train.jpg", as_jpeg(&waves(0, 32), 90)),
    ]));
    let outcome = house.add_archive(&tar(&upload)).await.unwrap();
    let expected =
        ["train/a/near-test.jpg", "train/a/near-validation.jpg", "train/b/same-as-test.png", "val/a/near-test-too.png"];
    assert_eq!(rejects(&outcome), expected.map(|name| (name, RejectReason::Leak)).into());
    let said: BTreeMap<_, _> = outcome.rejected.iter().map(|file| (&file.name[..], &file.message[..])).collect();
    assert_eq!(said["train/a/near-test.jpg"], "looks like \"test/a/20.png\" of the test split");
    assert_eq!(said["train/b/same-as-test.png"], "the same picture as \"test/b/21.png\" of the test split");
    assert_eq!(outcome.near_duplicates.len(), 1, "{:?}", outcome.near_duplicates);
    assert_eq!(outcome.near_duplicates[0].names, ["train/a/0.png", "train/a/near-train.jpg"]);
}

#[tokio::test]
async fn too_little_left_is_said_with_examples() {
    let house = House::new();
    let mut pictures = pets(3);
    pictures.iter_mut().filter(|(name, _)| name.starts_with("dogs")).for_each(|(_, bytes)| *bytes = b"junk".to_vec());
    let error = house.add(memory(pictures)).await.unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("only pictures of \"cats\" are left of 6 files"), "{message}");
    assert!(message.contains("dogs/1000.png"), "{message}");
    let IngestError::NothingLeft { rejected, .. } = error else { panic!("{message}") };
    assert_eq!(rejected.len(), 3);
}

#[tokio::test]
async fn a_size_out_of_range_is_refused_before_anything_is_read() {
    let house = House::new();
    for size in [(0, 32), (32, 1025)] {
        let options = Options { size: Some(size), ..Options::default() };
        let error = house.add_by(Native::default(), Source::Folder("/nowhere".into()), options).await.unwrap_err();
        assert!(error.to_string().contains("expected 1 to 1024 pixels"), "{error}");
    }
}

#[tokio::test]
async fn a_dataset_bears_the_name_it_was_given() {
    let house = House::new();
    let options = Options { name: Some(" My \u{1b}[31mpets ".into()), ..Options::default() };
    let outcome = house.add_by(Native::default(), memory(pets(3)), options).await.unwrap();
    assert_eq!(outcome.published.dataset.manifest.name, "My [31mpets");
    assert_eq!(outcome.published.dataset.manifest.provenance.source, "memory");
}

#[tokio::test]
async fn progress_is_told_stage_by_stage_and_ends_with_all_done() {
    let house = House::new();
    let ingest = ingest::Ingest::new(house.volumes(), Native::default());
    let progress = tokio::sync::watch::Sender::new(Progress::default());
    let mut told = progress.subscribe();
    let listener = tokio::spawn(async move {
        let mut stages = vec![];
        while told.changed().await.is_ok() {
            let now = *told.borrow_and_update();
            assert!(now.total == 0 || now.done <= now.total, "{now:?}");
            if stages.last() != Some(&now.stage) {
                stages.push(now.stage);
            }
            if now == (Progress { stage: Stage::Publish, done: 1, total: 1 }) {
                return stages;
            }
        }
        panic!("the end was never told");
    });
    ingest.run(memory(pets(10)), Options::default(), progress).await.unwrap();
    let stages = listener.await.unwrap();
    assert!(stages.is_sorted_by_key(|stage| *stage as u8), "{stages:?}");
}

#[tokio::test]
async fn an_ingest_that_nobody_waits_for_ends_and_leaves_nothing() {
    let house = House::new();
    let ingest = ingest::Ingest::new(house.volumes(), Native::default());
    let progress = tokio::sync::watch::Sender::new(Progress::default());
    let mut told = progress.subscribe();
    let source = folder(&house.beside("folder"), &pets(200));
    let run = tokio::spawn(async move { ingest.run(source, Options::default(), progress).await });
    told.wait_for(|now| now.stage == Stage::Process && now.done > 10).await.unwrap();
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    // The writer's thread ends on its own, and its folder with it; the runtime waits for it when it is shut down.
    while !house.staged().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.volumes().dataset_ids().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn the_same_upload_at_the_same_time_becomes_one_dataset() {
    let house = House::new();
    let ingest = ingest::Ingest::new(house.volumes(), Native::default());
    let run = || ingest.run(memory(pets(10)), Options::default(), tokio::sync::watch::Sender::default());
    let (a, b, c) = tokio::join!(run(), run(), run());
    let outcomes = [a.unwrap(), b.unwrap(), c.unwrap()];
    let ids: BTreeSet<_> = outcomes.iter().map(|outcome| &outcome.published.dataset.manifest.id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.published.existed).count(), 1);
    outcomes[0].published.dataset.verify().unwrap();
}
