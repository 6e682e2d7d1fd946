//! Volumes with a model that tells colours apart, pictures for it, and the program itself.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    fs, io,
    path::Path,
    process::{Command, Output},
};

use api::{
    PreprocessSpec,
    model::{Doubt, ModelManifest},
    train::Results,
};
use predictor::testing::{colours_onnx, solid, write_colours};
use serde_json::{Value, json};
use store::{ModelDraft, Volumes};

/// What the model sees.
pub fn spec() -> PreprocessSpec {
    PreprocessSpec::square(8)
}

/// Empty volumes in a temporary folder.
pub fn volumes() -> (tempfile::TempDir, Volumes) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let volumes = Volumes::under(folder.path().join("data"));
    volumes.create().expect("folders");
    (folder, volumes)
}

/// `fovea` on these volumes, knowing nothing of this machine.
pub fn fovea(volumes: &Volumes, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fovea"));
    command.arg("--data").arg(volumes.volume1()).args(arguments).env("FOVEA_CACHE", "/nowhere");
    for name in ["FOVEA_VOLUME1", "FOVEA_VOLUME2", "FOVEA_MODEL", "FOVEA_TRAINER", "FOVEA_BACKBONES", "ORT_DYLIB_PATH"]
    {
        command.env_remove(name);
    }
    command
}

pub fn run(volumes: &Volumes, arguments: &[&str]) -> Output {
    fovea(volumes, arguments).output().expect("fovea runs")
}

#[track_caller]
pub fn succeeds(volumes: &Volumes, arguments: &[&str]) -> String {
    let output = run(volumes, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
pub fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[track_caller]
pub fn fails(volumes: &Volumes, arguments: &[&str], sentence: &str) {
    let output = run(volumes, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error: ") && said.contains(sentence), "{sentence:?} is not in {said}");
}

/// What a run came to; `change` says what is special about it.
pub fn results(dataset: &str, run: &str, change: impl FnOnce(&mut Results)) -> Results {
    let settings = api::train::Settings::defaults(api::train::Family::Cnn, 32);
    let class = |label: &str, recall: f64| json!({"label": label, "precision": 1.0, "recall": recall, "f1": 0.9, "support": 10});
    let value = json!({
        "accuracy": 1.0, "val_accuracy": 0.875, "loss": 0.1, "val_loss": 0.5,
        "model_params": {"learning_rate": 1e-3, "epochs": 3, "batch_size": 8, "optimizer": "AdamW"},
        "test_accuracy": 0.9, "test_loss": 0.2, "labels": ["red", "green"],
        "per_class": [class("red", 1.0), class("green", 0.8)], "confusion_matrix": [[10, 0], [2, 8]],
        "best_epoch": 1, "notes": [], "curves": [], "timings": {}, "settings": settings, "parameters": 1,
        "dataset": dataset, "run": run, "made_by": "a test",
    });
    let mut results = serde_json::from_value(value).expect("results");
    change(&mut results);
    results
}

/// Publishes the colour network as the next version of `name`, and puts it into use.
pub fn publish(volumes: &Volumes, name: &str, dataset: &str, doubt: Option<Doubt>) -> ModelManifest {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_colours(folder.path(), 1, &spec()).expect("it can be written");
    let text = fs::read(folder.path().join("manifest.json")).expect("it was written");
    let mut manifest: ModelManifest = serde_json::from_slice(&text).expect("a manifest");
    (manifest.name, manifest.dataset, manifest.doubt) = (name.into(), dataset.into(), doubt);
    let results = results(dataset, "run-0", |_| {});
    let draft = ModelDraft { manifest, onnx: &colours_onnx(&spec()), results: &results };
    let published = volumes.publish_model(draft).expect("it is whole").manifest;
    volumes.set_current(name, published.version).expect("it was published");
    published
}

/// Writes a picture of one colour, of other sides than the model sees.
pub fn picture(path: &Path, colour: [u8; 3], side: u32) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("a folder"))?;
    let spec = PreprocessSpec::square(side);
    fs::write(path, imaging::encode_png(&solid(&spec, colour), &spec))
}
