//! What people change: labels, what is deleted, datasets without some of their pictures, backbones of their own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod made;

use std::{collections::BTreeSet, fs, path::Path};

use api::{
    backbone::{self, BackboneManifest},
    dataset::{NearDuplicates, Split},
    train::{Hyperparameters, PicturePrediction, RunLabel, RunState},
};
use made::{info, manifest, publish, record, results, volumes};
use store::{ModelDraft, Run, StoreError, Volumes};

fn run(volumes: &Volumes, dataset: &str) -> Run {
    volumes.create_run(dataset, "classifier", Hyperparameters { epochs: Some(7), ..Default::default() }).unwrap()
}

fn version(volumes: &Volumes) -> u32 {
    let draft = ModelDraft { manifest: manifest(), onnx: &[1; 100], results: &results() };
    volumes.publish_model(draft).unwrap().manifest.version
}

#[track_caller]
fn in_use<T: std::fmt::Debug>(result: store::Result<T>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    error.to_string()
}

/// Writes a network to this path; its manifest.
fn backbone(network: &Path) -> BackboneManifest {
    fs::write(network, b"layers").unwrap();
    BackboneManifest {
        schema: backbone::SCHEMA,
        name: "mine".into(),
        licence: "MIT".into(),
        sha256: store::digest_file(network).unwrap().sha256,
        input: "x".into(),
        output: "y".into(),
        input_size: 32,
        n_features: 8,
        mean: [0.0; 3],
        deviation: [255.0; 3],
        created: "2026-01-01T00:00:00Z".into(),
    }
}

fn nothing_aside(volumes: &Volumes) {
    assert_eq!(fs::read_dir(volumes.staging1()).unwrap().count(), 0);
}

#[test]
fn a_label_is_kept_and_one_that_is_too_long_changes_nothing() {
    let (_dir, volumes) = volumes();
    let run = run(&volumes, "ds-1");
    assert_eq!(run.label().unwrap(), RunLabel::default());
    let label = RunLabel { name: "ä".repeat(100), notes: "first\nsecond".into() };
    run.write_label(&label).unwrap();
    for (name, notes, sentence) in [
        ("x".repeat(101), String::new(), "name has 101 characters; expected at most 100"),
        ("a\nb".into(), String::new(), "name has a line break or another control character; expected one line"),
        (String::new(), "x".repeat(10_001), "notes have 10001 characters; expected at most 10000"),
    ] {
        assert_eq!(run.write_label(&RunLabel { name, notes }).unwrap_err().to_string(), sentence);
    }
    assert_eq!(volumes.run(run.id()).unwrap().label().unwrap(), label);
}

#[test]
fn a_run_asked_for_again_is_another_run_for_the_same() {
    let (_dir, volumes) = volumes();
    let first = run(&volumes, "ds-1");
    let again = volumes.retry_run(&first).unwrap();
    assert_eq!(again.spec.retry_of.as_deref(), Some(first.id()));
    assert_ne!(again.id(), first.id());
    assert_eq!(again.spec.hyperparameters, first.spec.hyperparameters);
    assert_eq!(volumes.run(again.id()).unwrap().status().unwrap().state, RunState::Queued);
}

#[test]
fn a_run_is_deleted_only_after_its_end() {
    let (_dir, volumes) = volumes();
    let run = run(&volumes, "ds-1");
    let sentence = in_use(volumes.delete_run(run.id()));
    assert_eq!(sentence, format!("run {:?} cannot be deleted: it has not ended; cancel it first", run.id()));
    run.bury(RunState::Cancelled, "cancelled").unwrap();
    let lock = run.lock().unwrap();
    in_use(volumes.delete_run(run.id()));
    drop(lock);
    let mut died = run.written_status().unwrap();
    died.state = RunState::Running;
    run.write_status(&died).unwrap();
    in_use(volumes.delete_run(run.id()));
    died.attempts = store::MAX_ATTEMPTS;
    run.write_status(&died).unwrap();
    volumes.delete_run(run.id()).unwrap();
    assert!(matches!(volumes.delete_run(run.id()), Err(StoreError::NotFound { .. })));
    assert!(volumes.runs().unwrap().is_empty());
    nothing_aside(&volumes);
}

#[test]
fn a_dataset_stays_while_a_run_without_an_end_uses_it() {
    let (_dir, volumes) = volumes();
    let dataset = publish(&volumes, &[0, 1, 2, 3]).dataset;
    let id = &dataset.manifest.id;
    let run = run(&volumes, id);
    assert!(in_use(volumes.delete_dataset(id)).contains(run.id()));
    let mapped = dataset.pixels(Split::Train).unwrap();
    run.bury(RunState::Failed, "no").unwrap();
    volumes.delete_dataset(id).unwrap();
    assert!(matches!(volumes.dataset(id), Err(StoreError::NotFound { .. })));
    assert_eq!(mapped.image(0), [0; 12], "who reads it goes on");
    assert!(matches!(volumes.delete_dataset("ds-0"), Err(StoreError::NotFound { .. })));
    nothing_aside(&volumes);
}

#[test]
fn the_version_in_use_stays_and_no_number_is_given_twice() {
    let (_dir, volumes) = volumes();
    assert_eq!([version(&volumes), version(&volumes), version(&volumes)], [1, 2, 3]);
    volumes.set_current("classifier", 2).unwrap();
    assert!(in_use(volumes.delete_version("classifier", 2)).contains("put another version into use first"));
    for gone in [3, 1] {
        volumes.delete_version("classifier", gone).unwrap();
        assert!(matches!(volumes.delete_version("classifier", gone), Err(StoreError::NotFound { .. })));
    }
    assert_eq!(volumes.version_numbers("classifier").unwrap(), [2]);
    assert_eq!(version(&volumes), 4);
    assert!(matches!(volumes.delete_version("other", 1), Err(StoreError::NotFound { .. })));
    nothing_aside(&volumes);
}

#[test]
fn the_version_that_was_in_use_before_is_remembered() {
    let (_dir, volumes) = volumes();
    for _ in 0..3 {
        version(&volumes);
    }
    let put = |n| {
        volumes.set_current("classifier", n).unwrap();
        volumes.previous("classifier").unwrap()
    };
    assert_eq!([put(1), put(2), put(2), put(3), put(2)], [None, Some(1), Some(1), Some(2), Some(3)]);
    volumes.delete_version("classifier", 3).unwrap();
    assert_eq!(volumes.previous("classifier").unwrap(), None, "there is nothing to go back to");
    assert_eq!(volumes.current("classifier").unwrap(), Some(2));
    assert_eq!(volumes.versions("classifier").unwrap().len(), 2, "the pointers are no versions");
}

fn without(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_derived_dataset_has_the_same_pictures_in_the_same_splits_but_for_those_left_out() {
    let (_dir, volumes) = volumes();
    let mut draft = volumes.draft_dataset(api::PreprocessSpec::square(2)).unwrap();
    let mut rows = vec![];
    for n in 0..18u8 {
        let split = Split::ALL[usize::from(n / 6)];
        rows.push((draft.push(&[n; 12]).unwrap(), record(n, u32::from(n % 2), split)));
    }
    let alike =
        |names: &[&str]| NearDuplicates { names: names.iter().map(|n| (*n).into()).collect(), several_labels: true };
    let info = store::DatasetInfo {
        near_duplicates: vec![alike(&["0.png", "2.png", "3.png"]), alike(&["3.png", "4.png"])],
        ..info(&["circle", "square"])
    };
    let whole = draft.publish(info, rows).unwrap().dataset;

    let derived = volumes.derive_dataset(&whole, &without(&["3.png", "12.png"]), "test").unwrap();
    assert!(!derived.existed);
    let dataset = derived.dataset;
    dataset.verify().unwrap();
    let expected: Vec<_> =
        whole.pictures().unwrap().into_iter().filter(|p| p.name != "3.png" && p.name != "12.png").collect();
    assert_eq!(dataset.pictures().unwrap(), expected);
    let test = dataset.pixels(Split::Test).unwrap();
    assert_eq!((0..test.len()).map(|row| test.image(row)[0]).collect::<Vec<_>>(), [13, 14, 15, 16, 17]);
    let from = dataset.manifest.provenance.derived_from.as_ref().unwrap();
    assert_eq!(
        (from.dataset.as_str(), from.removed.as_slice()),
        (whole.manifest.id.as_str(), &["12.png".into(), "3.png".into()][..])
    );
    let groups = &dataset.manifest.near_duplicates;
    assert_eq!(groups, &[NearDuplicates { names: vec!["0.png".into(), "2.png".into()], several_labels: false }]);

    let again = volumes.derive_dataset(&whole, &without(&["12.png", "3.png"]), "test").unwrap();
    assert!(again.existed);
    assert_eq!(again.dataset.manifest, dataset.manifest);
    whole.verify().unwrap();
    nothing_aside(&volumes);
}

#[test]
fn what_would_leave_too_little_is_refused_with_a_sentence() {
    let (_dir, volumes) = volumes();
    // Train 0, 3, 6, 9, 12; validation 1, 4; test 2; of which the even ones are circles.
    let dataset = publish(&volumes, &[0, 3, 6, 9, 12, 1, 4, 2]).dataset;
    let refused = |names: &[&str]| volumes.derive_dataset(&dataset, &without(names), "test").unwrap_err().to_string();
    let few = "cannot publish: class \"circle\" would have 1 of 3 train pictures left; expected 2 or more: leave fewer \
               out, or upload more of it";
    assert_eq!(refused(&["0.png", "6.png"]), few);
    assert_eq!(refused(&["2.png"]), "cannot publish: the test split would have none of its 1 pictures left");
    assert_eq!(refused(&[]), "cannot publish: no picture is named that is to be left out");
    let unknown = refused(&["a", "b", "c", "d", "1.png"]);
    assert!(unknown.ends_with("has no picture \"a\", \"b\", \"c\" and 1 more"), "{unknown}");
    assert_eq!(volumes.datasets().unwrap().len(), 1);
    nothing_aside(&volumes);
}

fn prediction(row: u64) -> PicturePrediction {
    let (split, name) = (Split::Test, format!("{row}.png"));
    PicturePrediction { split, row, name, label: 0, predicted: 1, probabilities: vec![0.25, 0.75], unsure: row == 1 }
}

#[test]
fn predictions_come_back_line_by_line_and_half_of_them_are_none() {
    let (_dir, volumes) = volumes();
    let run = run(&volumes, "ds-1");
    assert!(run.predictions().unwrap().is_none());
    let broken = [Ok(prediction(0)), Err(StoreError::Draft("the network failed".into()))];
    assert!(run.write_predictions(broken).is_err());
    assert!(run.predictions().unwrap().is_none());
    run.write_predictions((0..3).map(|row| Ok::<_, StoreError>(prediction(row)))).unwrap();
    let read: Vec<_> = run.predictions().unwrap().unwrap().map(Result::unwrap).collect();
    assert_eq!(read, [prediction(0), prediction(1), prediction(2)]);
}

#[test]
fn a_backbone_is_removed_unless_a_run_still_needs_it() {
    let (dir, volumes) = volumes();
    let network = dir.path().join("mine.onnx");
    volumes.add_backbone(backbone(&network), &network).unwrap();
    let asked = Hyperparameters { backbone: Some("mine".into()), ..Default::default() };
    let run = volumes.create_run("ds-1", "classifier", asked).unwrap();
    assert!(in_use(volumes.remove_backbone("mine")).contains(run.id()));
    run.bury(RunState::Cancelled, "a test").unwrap();
    volumes.remove_backbone("mine").unwrap();
    assert!(volumes.backbones().unwrap().is_empty());
    assert!(matches!(volumes.remove_backbone("mine"), Err(StoreError::NotFound { .. })));
    nothing_aside(&volumes);
}

#[test]
fn a_backbone_is_added_once_and_only_as_its_hash_says() {
    let (dir, volumes) = volumes();
    let network = dir.path().join("mine.onnx");
    let manifest = backbone(&network);
    let added = volumes.add_backbone(manifest.clone(), &network).unwrap();
    assert_eq!(fs::read(added.network()).unwrap(), b"layers");
    added.verify().unwrap();
    assert_eq!(volumes.backbones().unwrap(), [added]);
    let twice = volumes.add_backbone(manifest.clone(), &network).unwrap_err();
    assert!(twice.to_string().contains("already; choose another name"), "{twice}");
    fs::write(&network, b"other layers").unwrap();
    let other = volumes.add_backbone(BackboneManifest { name: "other".into(), ..manifest }, &network).unwrap_err();
    assert!(other.to_string().contains("expected"), "{other}");
    assert!(matches!(volumes.backbone("other"), Err(StoreError::NotFound { .. })));
    nothing_aside(&volumes);
}

#[test]
fn disk_use_counts_each_thing_once() {
    let (_dir, volumes) = volumes();
    let dataset = publish(&volumes, &[0, 1, 2, 3]).dataset;
    let run = run(&volumes, &dataset.manifest.id);
    fs::create_dir(run.dir.join("checkpoint")).unwrap();
    fs::write(run.dir.join("checkpoint/weights"), [0; 1000]).unwrap();
    version(&volumes);
    fs::create_dir_all(volumes.cache_dir().join("features")).unwrap();
    fs::write(volumes.cache_dir().join("features/a"), [0; 77]).unwrap();
    let used = volumes.disk_use().unwrap();
    let lengths = |dir: &std::path::Path| -> u64 {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap())
            .filter(|m| m.is_file())
            .map(|m| m.len())
            .sum()
    };
    assert_eq!(
        (used.datasets[0].id.as_str(), used.datasets[0].bytes),
        (run.spec.dataset.as_str(), lengths(&dataset.dir))
    );
    assert_eq!((used.runs[0].id.as_str(), used.runs[0].bytes), (run.id(), lengths(&run.dir) + 1000));
    assert_eq!(used.versions[0].bytes, lengths(&volumes.version("classifier", 1).unwrap().dir));
    assert_eq!((used.cache_bytes, used.half_made_bytes, used.backbones_bytes), (77, 0, 0));
    assert!(used.volumes.iter().all(|volume| volume.total_bytes >= volume.free_bytes && volume.total_bytes > 0));
}
