//! `fovea dataset`, `fovea models` and `fovea verify` as processes, on volumes that the store filled.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    process::{Command, Output},
};

use api::{
    Format, PreprocessSpec,
    dataset::{PictureRecord, Provenance, RejectReason, Rejected, Split, SplitPolicy},
    model::{Metrics, ModelManifest},
    preprocess::Facts,
    train::{Family, ModelParams, Results, Settings},
};
use serde_json::Value;
use store::{DatasetInfo, ModelDraft, Volumes};
use tempfile::TempDir;

fn record(name: &str, hash: char, label: u32, split: Split) -> PictureRecord {
    let facts = Facts {
        width: 2,
        height: 2,
        format: Format::Png,
        content_hash: hash.to_string().repeat(64),
        perceptual_hash: hash.to_string().repeat(16),
    };
    PictureRecord { name: name.into(), label, split, facts }
}

/// Two pictures in two classes, and one that was left out.
fn publish_dataset(volumes: &Volumes) -> String {
    let mut draft = volumes.draft_dataset(PreprocessSpec::square(2)).expect("a draft");
    let rows = vec![
        (draft.push(&[1; 12]).expect("a row"), record("ship/1.png", 'a', 0, Split::Train)),
        (draft.push(&[2; 12]).expect("a row"), record("truck/2.png", 'b', 1, Split::Test)),
    ];
    let info = DatasetInfo {
        name: "vehicles".into(),
        labels: vec!["ship".into(), "truck".into()],
        split: SplitPolicy { given: vec![], validation_ratio: 0.15, test_ratio: 0.15 },
        provenance: Provenance {
            source: "vehicles.zip".into(),
            files: 3,
            made_by: "a test".into(),
            derived_from: None,
        },
        rejected: vec![Rejected {
            name: "ship/broken.png".into(),
            label: Some("ship".into()),
            reason: RejectReason::Undecodable,
            message: "the file is cut off".into(),
        }],
        near_duplicates: vec![],
    };
    draft.publish(info, rows).expect("it is whole").dataset.manifest.id
}

fn publish_model(volumes: &Volumes, dataset: &str) -> u32 {
    let labels = vec!["ship".to_owned(), "truck".to_owned()];
    let results = Results {
        accuracy: 1.0,
        val_accuracy: None,
        loss: 0.1,
        val_loss: None,
        validated: None,
        model_params: ModelParams { learning_rate: 1e-3, epochs: 1, batch_size: 8, optimizer: "AdamW".into() },
        test_accuracy: Some(0.905),
        test_loss: Some(0.2),
        labels: labels.clone(),
        per_class: vec![],
        confusion_matrix: vec![],
        best_epoch: 1,
        notes: vec![],
        curves: vec![],
        timings: BTreeMap::new(),
        settings: Settings::defaults(Family::Cnn, 32),
        leaderboard: vec![],
        choice: None,
        calibration: None,
        suspects: vec![],
        examined: None,
        promotion: None,
        model_bytes: 0,
        milliseconds_per_picture: None,
        parameters: 1,
        dataset: dataset.into(),
        run: "run".into(),
        made_by: "a test".into(),
    };
    let manifest = ModelManifest {
        schema: api::model::SCHEMA,
        name: "classifier".into(),
        version: 0,
        created: "2026-01-01T00:00:00Z".into(),
        labels,
        preprocess: PreprocessSpec::square(2),
        family: Family::Cnn,
        backbone: None,
        doubt: None,
        classes: vec![],
        metrics: Metrics { accuracy: 1.0, val_accuracy: None, test_accuracy: Some(0.905) },
        dataset: dataset.into(),
        run: "run".into(),
        engine_difference: 0.0,
        made_by: "a test".into(),
        files: BTreeMap::new(),
    };
    let draft = ModelDraft { manifest, onnx: b"a network", results: &results };
    volumes.publish_model(draft).expect("it is whole").manifest.version
}

/// A dataset and two versions of a model, the first of them in use.
fn house() -> (TempDir, Volumes, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let volumes = Volumes::under(folder.path());
    volumes.create().expect("folders");
    let id = publish_dataset(&volumes);
    let first = publish_model(&volumes, &id);
    publish_model(&volumes, &id);
    volumes.set_current("classifier", first).expect("it was published");
    (folder, volumes, id)
}

fn fovea(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fovea"));
    command.args(arguments).arg("--data").arg(data).env("RUST_BACKTRACE", "1");
    command.env_remove("FOVEA_VOLUME1").env_remove("FOVEA_VOLUME2");
    command.output().expect("fovea runs")
}

#[track_caller]
fn succeeds(data: &Path, arguments: &[&str]) -> String {
    let output = fovea(data, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn succeeds_with_json(data: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&succeeds(data, arguments)).expect("JSON and nothing else")
}

#[track_caller]
fn fails(data: &Path, arguments: &[&str], sentence: &str) {
    let output = fovea(data, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error: ") && said.contains(sentence) && !said.contains("backtrace"), "{said}");
}

#[test]
fn datasets_are_listed_and_shown() {
    let (data, _, id) = house();
    let list = succeeds(data.path(), &["dataset", "list"]);
    assert!(list.starts_with(&id) && list.contains("2 pictures  2 classes  vehicles"), "{list}");
    assert_eq!(succeeds_with_json(data.path(), &["dataset", "list", "--json"])[0]["id"], id.as_str());

    let shown = succeeds(data.path(), &["dataset", "show", &id]);
    for part in ["vehicles.zip", "ship   train 1  validation 0  test 0", "ship/broken.png: the file is cut off"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let shown = succeeds_with_json(data.path(), &["dataset", "show", &id, "--json"]);
    assert_eq!(shown["rejected"][0]["reason"], "undecodable");
}

#[test]
fn versions_are_listed_newest_first_and_the_one_in_use_is_marked() {
    let (data, _, _) = house();
    let list = succeeds(data.path(), &["models"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines[0].starts_with("classifier v2 ") && !lines[0].contains("current"), "{list}");
    assert!(lines[1].starts_with("classifier v1 ") && lines[1].ends_with("test accuracy 0.905  current"), "{list}");
    let list = succeeds_with_json(data.path(), &["models", "--json"]);
    assert_eq!((&list[0]["version"], &list[0]["current"]), (&2.into(), &false.into()));
    assert_eq!((&list[1]["version"], &list[1]["current"]), (&1.into(), &true.into()));
}

#[test]
fn whole_volumes_verify() {
    let (data, _, id) = house();
    let said = succeeds(data.path(), &["verify"]);
    let expected = format!("dataset {id}: ok\nmodel classifier v2: ok\nmodel classifier v1: ok\n3 checked, 0 wrong\n");
    assert_eq!(said, expected);
}

#[test]
fn each_damaged_thing_is_named_and_the_rest_is_still_checked() {
    let (data, volumes, id) = house();
    let pixels = volumes.datasets_dir().join(&id).join("pixels.safetensors");
    let mut bytes = fs::read(&pixels).expect("it is there");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    fs::write(&pixels, bytes).expect("it is writable");
    let pointer = volumes.current_link("classifier");
    fs::remove_file(&pointer).expect("it is there");
    std::os::unix::fs::symlink("v9", &pointer).expect("a link");

    let output = fovea(data.path(), &["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    let wrong = |n: usize| findings[n]["problem"].as_str().unwrap_or_default();
    assert!(findings[0]["name"] == id.as_str() && wrong(0).contains("pixels.safetensors"), "{findings}");
    assert!(wrong(1).is_empty() && wrong(2).is_empty(), "{findings}");
    assert!(findings[3]["name"] == "classifier current" && wrong(3).contains("classifier v9"), "{findings}");
    let said = fovea(data.path(), &["verify"]).stdout;
    assert!(String::from_utf8_lossy(&said).ends_with("4 checked, 2 wrong\n"), "{said:?}");
}

#[test]
fn an_unreadable_manifest_is_a_finding_and_no_end() {
    let (data, volumes, id) = house();
    fs::write(volumes.datasets_dir().join(&id).join("manifest.json"), "{").expect("it is writable");
    let output = fovea(data.path(), &["verify"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("manifest.json is not a valid dataset manifest") && said.contains("v1: ok"), "{said}");
    assert!(succeeds(data.path(), &["dataset", "list"]).starts_with("no datasets in "));
}

#[test]
fn what_is_not_there_is_told_in_one_sentence() {
    let (data, _, _) = house();
    fails(data.path(), &["dataset", "show", "ds-0000000000000000"], "there is no dataset \"ds-0000000000000000\"");
    fails(data.path(), &["dataset", "show", "../runs"], "expected 1 to 100 letters");
    for arguments in [&["verify"][..], &["models"], &["dataset", "list"]] {
        fails(&data.path().join("mistyped"), arguments, "name the right one with --data");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let (data, _, id) = house();
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fovea"));
    command.args(["dataset", "show", &id]).arg("--data").arg(data.path()).stdout(writer);
    let output = command.output().expect("fovea runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
