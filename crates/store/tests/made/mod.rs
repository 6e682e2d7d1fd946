//! What the tests put onto volumes.
#![allow(dead_code, reason = "each test program uses its part")]

use api::{
    Format, PreprocessSpec,
    dataset::{PictureRecord, Provenance, Split, SplitPolicy},
    model::{Metrics, ModelManifest},
    preprocess::Facts,
    train::{Family, ModelParams, Results, Settings},
};
use store::{DatasetInfo, Published, Volumes};

pub fn volumes() -> (tempfile::TempDir, Volumes) {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::under(dir.path());
    volumes.create().unwrap();
    (dir, volumes)
}

pub fn record(n: u8, label: u32, split: Split) -> PictureRecord {
    let facts = Facts {
        width: 2,
        height: 2,
        format: Format::Png,
        content_hash: format!("{n:064x}"),
        perceptual_hash: format!("{n:016x}"),
    };
    PictureRecord { name: format!("{n}.png"), label, split, facts }
}

pub fn info(labels: &[&str]) -> DatasetInfo {
    DatasetInfo {
        name: "shapes".into(),
        labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        split: SplitPolicy { given: vec![], validation_ratio: 0.15, test_ratio: 0.15 },
        provenance: Provenance { source: "shapes.zip".into(), files: 6, made_by: "test".into(), derived_from: None },
        rejected: vec![],
        near_duplicates: vec![],
    }
}

/// Picture `n` is 2 × 2 × 3 bytes of value `n`.
pub fn publish(volumes: &Volumes, order: &[u8]) -> Published {
    let mut draft = volumes.draft_dataset(PreprocessSpec::square(2)).unwrap();
    let rows = order
        .iter()
        .map(|&n| {
            let split = Split::ALL[usize::from(n) % 3];
            (draft.push(&[n; 12]).unwrap(), record(n, u32::from(n) % 2, split))
        })
        .collect();
    draft.publish(info(&["circle", "square"]), rows).unwrap()
}

pub fn results() -> Results {
    Results {
        accuracy: 1.0,
        val_accuracy: Some(0.5),
        loss: 0.1,
        val_loss: Some(0.2),
        validated: None,
        model_params: ModelParams { learning_rate: 1e-3, epochs: 1, batch_size: 8, optimizer: "AdamW".into() },
        test_accuracy: None,
        test_loss: None,
        labels: vec!["a".into(), "b".into()],
        per_class: vec![],
        confusion_matrix: vec![],
        best_epoch: 1,
        curves: vec![],
        timings: Default::default(),
        settings: Settings::defaults(Family::Cnn, 32),
        notes: vec![],
        leaderboard: vec![],
        choice: None,
        calibration: None,
        suspects: vec![],
        examined: None,
        promotion: None,
        model_bytes: 0,
        milliseconds_per_picture: None,
        parameters: 1,
        dataset: "ds-1".into(),
        run: "r".into(),
        made_by: "test".into(),
    }
}

pub fn manifest() -> ModelManifest {
    ModelManifest {
        schema: api::model::SCHEMA,
        name: "classifier".into(),
        version: 0,
        created: "2026-01-01T00:00:00Z".into(),
        labels: vec!["a".into(), "b".into()],
        preprocess: PreprocessSpec::square(2),
        family: Family::Cnn,
        backbone: None,
        doubt: None,
        classes: vec![],
        metrics: Metrics { accuracy: 1.0, val_accuracy: Some(0.5), test_accuracy: None },
        dataset: "ds-1".into(),
        run: "r".into(),
        engine_difference: 0.0,
        made_by: "test".into(),
        files: Default::default(),
    }
}
