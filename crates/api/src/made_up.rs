//! Made-up runs and models that the tests of this crate share.

use crate::{
    PreprocessSpec,
    dataset::ClassCount,
    model::{Backbone, Metrics, ModelManifest},
    train::{ClassMetrics, Family, Hyperparameters, ModelParams, Results, RunSpec, Settings},
};

/// Two classes, of one of which there is little.
pub fn classes() -> Vec<ClassCount> {
    vec![
        ClassCount { name: "cat".into(), train: 50, validation: 10, test: 12 },
        ClassCount { name: "dog".into(), train: 15, validation: 3, test: 4 },
    ]
}

/// A run that asks for nothing special.
pub fn spec() -> RunSpec {
    RunSpec {
        run: "20261123-064512-123".into(),
        dataset: "ds-1".into(),
        model: "pets".into(),
        hyperparameters: Hyperparameters::default(),
        created: "2026-11-23T06:45:12Z".into(),
        retry_of: None,
    }
}

/// Of 16 test pictures, 14 rightly.
pub fn results() -> Results {
    let class = |label: &str, recall, support| ClassMetrics {
        label: label.into(),
        precision: Some(0.9),
        recall: Some(recall),
        f1: Some(0.8),
        support,
    };
    Results {
        accuracy: 0.95,
        val_accuracy: Some(0.9),
        loss: 0.1,
        val_loss: Some(0.2),
        validated: None,
        model_params: ModelParams { learning_rate: 1e-3, epochs: 3, batch_size: 32, optimizer: "AdamW".into() },
        test_accuracy: Some(0.875),
        test_loss: Some(0.3),
        labels: vec!["cat".into(), "dog".into()],
        per_class: vec![class("cat", 11.0 / 12.0, 12), class("dog", 0.75, 4)],
        confusion_matrix: vec![vec![11, 1], vec![1, 3]],
        best_epoch: 2,
        notes: vec![],
        curves: vec![],
        timings: Default::default(),
        settings: Settings::defaults(Family::Cnn, 32),
        leaderboard: vec![],
        choice: None,
        calibration: None,
        suspects: vec![],
        examined: None,
        promotion: None,
        model_bytes: 1000,
        milliseconds_per_picture: Some(2.0),
        parameters: 4321,
        dataset: "ds-1".into(),
        run: "20261123-064512-123".into(),
        made_by: "test".into(),
    }
}

/// What came of [`results`].
pub fn manifest() -> ModelManifest {
    ModelManifest {
        schema: crate::model::SCHEMA,
        name: "pets".into(),
        version: 3,
        created: "2026-11-23T06:46:00Z".into(),
        labels: vec!["cat".into(), "dog".into()],
        preprocess: PreprocessSpec::square(32),
        family: Family::Linear,
        backbone: Some(Backbone { name: "net".into(), licence: "Apache-2.0".into(), sha256: "ab".repeat(32) }),
        metrics: Metrics { accuracy: 0.95, val_accuracy: Some(0.9), test_accuracy: Some(0.875) },
        doubt: None,
        classes: classes(),
        dataset: "ds-1".into(),
        run: "20261123-064512-123".into(),
        engine_difference: 1e-5,
        made_by: "test".into(),
        files: Default::default(),
    }
}
