//! What is written about a run: results, the version's manifest, what the ONNX file says of itself, notes for people.

use std::collections::BTreeMap;

use api::{
    dataset::DatasetManifest,
    model::{Metrics, ModelManifest, SCHEMA},
    train::{Calibration, Examined, ModelParams, Promotion, Results, Settings, Suspect, Validated},
};
use store::{Dataset, Run, now_rfc3339};

use crate::{
    evaluate::{Evaluation, empty_confusion, per_class},
    learning::Learned,
    onnx::PRODUCER,
};

/// Everything that a run has come to.
pub struct Report<'a> {
    /// What was learnt from.
    pub dataset: &'a Dataset,
    /// What was asked for.
    pub run: &'a Run,
    /// The network and how it was found.
    pub learned: &'a Learned,
    /// Figures on the test split; nothing where it is empty.
    pub tested: Option<Evaluation>,
    /// How far probabilities can be believed.
    pub calibration: Option<Calibration>,
    /// Pictures whose label is probably wrong.
    pub suspects: Vec<Suspect>,
    /// Against the version in use.
    pub promotion: Promotion,
    /// Length of the ONNX file.
    pub model_bytes: u64,
    /// In native tract on one thread.
    pub milliseconds_per_picture: Option<f64>,
    /// Between engines.
    pub engine_difference: f32,
    /// The epoch after which a trainer died that worked on the run before.
    pub resumed: Option<u32>,
    /// Seconds by stage.
    pub timings: &'a BTreeMap<String, f64>,
}

impl Report<'_> {
    /// `results.json`.
    pub fn results(&self) -> Results {
        let Learned { settings, fitted, found, .. } = self.learned;
        let labels = self.dataset.labels();
        let best = fitted.fit.best();
        let tested = self.tested.as_ref();
        let confusion_matrix = tested.map_or_else(|| empty_confusion(labels.len()), |test| test.confusion.clone());
        let (val_accuracy, val_loss) = self.validated();
        Results {
            accuracy: best.accuracy,
            val_accuracy,
            loss: best.loss,
            val_loss,
            validated: self.rests_on(),
            model_params: ModelParams {
                learning_rate: settings.learning_rate,
                epochs: fitted.fit.curves.len() as u32,
                batch_size: settings.batch_size,
                optimizer: "AdamW".into(),
            },
            test_accuracy: tested.map(|test| test.accuracy),
            test_loss: tested.map(|test| test.loss),
            per_class: per_class(&confusion_matrix, &labels),
            labels,
            confusion_matrix,
            best_epoch: fitted.fit.best_epoch,
            notes: self.notes(),
            curves: fitted.fit.curves.clone(),
            timings: self.timings.clone(),
            settings: settings.clone(),
            leaderboard: found.as_ref().map_or_else(Vec::new, |found| found.leaderboard.clone()),
            choice: found.as_ref().map(|found| found.sentence.clone()),
            calibration: self.calibration.clone(),
            suspects: self.suspects.clone(),
            examined: Some(self.examined()),
            promotion: Some(self.promotion.clone()),
            model_bytes: self.model_bytes,
            milliseconds_per_picture: self.milliseconds_per_picture,
            parameters: fitted.n_weights as u64,
            dataset: self.dataset.manifest.id.clone(),
            run: self.run.id().into(),
            made_by: made_by(),
        }
    }

    /// The version's manifest; `version` and `files` are filled in by publishing.
    pub fn manifest(&self) -> ModelManifest {
        ModelManifest {
            schema: SCHEMA,
            name: self.run.spec.model.clone(),
            version: 0,
            created: now_rfc3339(),
            labels: self.dataset.labels(),
            preprocess: self.dataset.manifest.preprocess.clone(),
            family: self.learned.settings.family,
            backbone: self.learned.fitted.backbone().cloned(),
            metrics: Metrics {
                accuracy: self.learned.fitted.fit.best().accuracy,
                val_accuracy: self.validated().0,
                test_accuracy: self.tested.as_ref().map(|test| test.accuracy),
            },
            doubt: self.calibration.as_ref().and_then(|calibration| calibration.doubt),
            classes: self.dataset.manifest.classes.clone(),
            dataset: self.dataset.manifest.id.clone(),
            run: self.run.id().into(),
            engine_difference: self.engine_difference,
            made_by: made_by(),
            files: BTreeMap::new(),
        }
    }

    /// Accuracy and loss on pictures outside the fit: of the kept epoch, or of the cross-validation where the final fit
    /// has no validation split of its own.
    fn validated(&self) -> (Option<f64>, Option<f64>) {
        let best = self.learned.fitted.fit.best();
        let searched = self.learned.chosen().and_then(|chosen| chosen.val_accuracy.zip(chosen.val_loss));
        match (best.val_accuracy, searched) {
            (None, Some((accuracy, loss))) => (Some(accuracy), Some(loss)),
            _ => (best.val_accuracy, best.val_loss),
        }
    }

    /// What those figures rest on.
    fn rests_on(&self) -> Option<Validated> {
        let Learned { fitted, held_out, .. } = self.learned;
        if fitted.fit.best().val_accuracy.is_some() {
            return Some(Validated { pictures: held_out.rows.len() as u64, folds: 0 });
        }
        let chosen = self.learned.chosen().filter(|chosen| chosen.val_accuracy.is_some())?;
        Some(Validated { pictures: chosen.pictures, folds: chosen.folds })
    }

    /// How many pictures could be suspected of a wrong label.
    fn examined(&self) -> Examined {
        let Learned { held_out, further, .. } = self.learned;
        let classes = self.dataset.manifest.classes.iter();
        let pictures = (held_out.rows.len() + further.rows.len()) as u64;
        Examined { pictures, of: classes.map(|class| class.train + class.validation).sum() }
    }

    fn notes(&self) -> Vec<String> {
        let Learned { settings, fitted, found, .. } = self.learned;
        let epochs = fitted.fit.curves.len() as u32;
        let validated = fitted.fit.best().val_loss.is_some();
        let mut notes = vec![];
        match self.learned.chosen().map(|chosen| (chosen.folds, chosen.val_accuracy)) {
            Some((folds, Some(_))) if folds > 0 => notes.push(
                "The final fit is on train and validation pictures together: validation figures are those of the \
                 cross-validation."
                    .into(),
            ),
            _ if !validated => {
                notes.push("There is no validation split: the best epoch was chosen by train loss.".into());
            }
            _ => {}
        }
        if self.tested.is_none() {
            notes.push("There is no test split: how well the model does on new pictures is not known.".into());
        }
        if epochs < settings.epochs {
            let measure = if validated { "validation" } else { "train" };
            notes.push(format!(
                "Training stopped after epoch {epochs} of {}: the {measure} loss had not got better for {} epochs.",
                settings.epochs, settings.patience
            ));
        }
        if let Some(epoch) = self.resumed {
            let from = if epoch == 0 { "from the search on".to_owned() } else { format!("after epoch {epoch}") };
            notes.push(format!("A trainer died on the way and another one went on {from}; timings are the latter's."));
        }
        notes.extend(found.iter().flat_map(|found| found.notes.clone()));
        notes
    }
}

/// Keys and values inside the ONNX file, so that it explains itself where its manifest is lost.
///
/// No time and no run: the same data, settings and seed give the same bytes.
pub fn metadata(dataset: &DatasetManifest, settings: &Settings) -> Vec<(&'static str, String)> {
    let labels: Vec<&str> = dataset.classes.iter().map(|class| class.name.as_str()).collect();
    let json = |value: serde_json::Result<String>| value.expect("plain data serialises");
    vec![
        ("labels", json(serde_json::to_string(&labels))),
        ("preprocess", json(serde_json::to_string(&dataset.preprocess))),
        ("settings", json(serde_json::to_string(settings))),
        ("dataset", dataset.id.clone()),
    ]
}

fn made_by() -> String {
    format!("{PRODUCER} {}", env!("CARGO_PKG_VERSION"))
}
