//! One run from its spec to a published version, and its status whatever happens on the way.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use api::{
    dataset::{DatasetManifest, Split},
    model::{Metrics, ModelManifest, SCHEMA},
    train::{Family, ModelParams, Plan, Progress, Results, RunState, RunStatus, Settings},
};
use store::{Dataset, ModelDraft, ModelVersion, Pixels, Run, Volumes, now_rfc3339};

use crate::{
    Result, TrainerError,
    backbone::Backbones,
    data::{self, Pictures},
    engine::Engine,
    evaluate::{Evaluation, empty_confusion, per_class},
    export::{CHECKED_PICTURES, Runner, agree, tract_logits},
    family::{Fitted, Rows, Task, fit},
    features::Computed,
    monitor::Monitor,
    onnx::PRODUCER,
};

/// A run to be worked on, and what surrounds it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where datasets and models lie.
    pub volumes: Volumes,
    /// What was asked for.
    pub run: Run,
    /// Folder of built-in backbones' weights, if there is one.
    pub backbones: Option<PathBuf>,
    /// Whether the version in use stays in use, where there is one.
    pub keep_current: bool,
}

impl Job {
    /// Trains, checks and publishes; writes the run's status, progress and results on the way.
    ///
    /// `echo` sees every event of progress after it was written; `stop` says whether someone asked to stop, beside the
    /// run's own cancel file.
    ///
    /// # Errors
    /// Whatever kept the run from a model; the status says so too, unless another process has the run or it ended before
    pub fn work(&self, echo: &mut dyn FnMut(&Progress), stop: &dyn Fn() -> bool) -> Result<ModelVersion> {
        let _lock = self.run.lock()?;
        let before = self.run.written_status()?;
        if before.state.is_final() {
            return Err(TrainerError::Ended { run: self.run.id().into(), state: state_name(before.state) });
        }
        let started = Some(now_rfc3339());
        let attempts = before.attempts + 1;
        let running =
            RunStatus { state: RunState::Running, reason: None, started, ended: None, version: None, attempts };
        self.run.write_status(&running)?;

        let mut tell = |progress: &Progress| {
            self.run.append_progress(progress)?;
            echo(progress);
            Ok(())
        };
        let stop = || stop() || self.run.cancel_requested();
        let mut monitor = Monitor::new(&mut tell, &stop);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.publish(&mut monitor)))
            .unwrap_or_else(|panic| Err(TrainerError::Panicked(panic_message(&*panic))));

        let (state, reason, version) = match &outcome {
            Ok(published) => (RunState::Succeeded, None, Some(published.manifest.version)),
            Err(TrainerError::Cancelled) => (RunState::Cancelled, None, None),
            Err(error) => (RunState::Failed, Some(error.sentence()), None),
        };
        let ended = Some(now_rfc3339());
        let status = RunStatus { state, reason: reason.clone(), ended, version, ..running };
        let written = self.run.write_status(&status);
        // What went wrong first is the better answer than a status or a last line that could not be written.
        let told = monitor.end(state, reason, version);
        let published = outcome?;
        written?;
        told?;
        Ok(published)
    }

    fn publish(&self, monitor: &mut Monitor) -> Result<ModelVersion> {
        monitor.go_on()?;
        let dataset = self.volumes.dataset(&self.run.spec.dataset)?;
        data::check(&dataset)?;
        let backbones =
            Backbones::find(self.backbones.as_deref(), Some(&self.volumes.models_dir().with_file_name("backbones")));
        let settings = self.settings(&dataset, &backbones.names())?;
        monitor.timed("verify", |_| Ok(dataset.verify()?))?;
        let engine = Engine::load()?;
        let splits = Splits::open(&dataset)?;
        let n_classes = dataset.manifest.classes.len();
        let pictures = splits.pictures();
        let [train, validation, test] = splits.rows();
        let task = Task { engine: &engine, backbones: &backbones, pictures: &pictures, n_classes };
        let mut source = Computed::default();
        let rows = Rows { train: &train, validation: &validation };
        let learned = fit(&task, &settings, rows, &mut source, &mut (), monitor)?;
        let checked = [&test, &validation, &train].into_iter().find(|rows| !rows.is_empty());
        let checked = &checked.expect("the train split has pictures")[..];
        let checked = &checked[..checked.len().min(CHECKED_PICTURES)];
        let reference = learned.logits(&task, checked, &mut source, monitor)?;

        let metadata = metadata(&dataset.manifest, &settings);
        let onnx = monitor.timed("export", |_| Ok(learned.exported(1.0, &metadata)))?;
        let mut runner = Runner::new(&engine, &onnx, learned.pixels())?;
        let engine_difference = monitor.timed("check", |monitor| {
            let exported = runner.logits(&pictures, checked, |_| monitor.go_on())?;
            agree("ONNX Runtime and the training-time forward", &exported, &reference, n_classes)?;
            let spec = &dataset.manifest.preprocess;
            let native = tract_logits(&onnx, spec, n_classes, &pictures, checked, |done| {
                monitor.stage("check", done, checked.len())
            })?;
            agree("ONNX Runtime and tract", &exported, &native, n_classes)
        })?;
        let tested = monitor.timed("evaluate", |monitor| {
            let logits = runner.logits(&pictures, &test, |done| monitor.stage("evaluate", done, test.len()))?;
            let labels: Vec<u32> = test.iter().map(|&row| pictures.labels()[row]).collect();
            Ok(Evaluation::of(&logits, &labels, n_classes))
        })?;

        let results = self.results(&dataset, &settings, &learned, tested, monitor);
        let manifest = self.manifest(&dataset, &results, &learned, engine_difference);
        monitor.stage("publish", 0, 1)?;
        self.run.write_results(&results)?;
        let published = self.volumes.publish_model(ModelDraft { manifest, onnx: &onnx, results: &results })?;
        let name = &published.manifest.name;
        if !self.keep_current || self.volumes.current(name)?.is_none() {
            self.volumes.set_current(name, published.manifest.version)?;
        }
        Ok(published)
    }

    fn settings(&self, dataset: &Dataset, backbones: &[String]) -> Result<Settings> {
        let spec = &dataset.manifest.preprocess;
        let side = spec.width.max(spec.height);
        let plan = self.run.spec.hyperparameters.resolve(backbones, side).map_err(TrainerError::Settings)?;
        Ok(match plan {
            Plan::Manual(settings) => settings,
            Plan::Auto(search) => {
                let family = if backbones.is_empty() { Family::Cnn } else { Family::Linear };
                search.stated.settings(family, side)
            }
        })
    }

    fn results(
        &self,
        dataset: &Dataset,
        settings: &Settings,
        learned: &Fitted,
        tested: Option<Evaluation>,
        monitor: &Monitor,
    ) -> Results {
        let labels = dataset.labels();
        let best = learned.fit.best();
        let epochs = learned.fit.curves.len() as u32;
        let confusion_matrix =
            tested.as_ref().map_or_else(|| empty_confusion(labels.len()), |test| test.confusion.clone());
        Results {
            accuracy: best.accuracy,
            val_accuracy: best.val_accuracy,
            loss: best.loss,
            val_loss: best.val_loss,
            model_params: ModelParams {
                learning_rate: settings.learning_rate,
                epochs,
                batch_size: settings.batch_size,
                optimizer: "AdamW".into(),
            },
            test_accuracy: tested.as_ref().map(|test| test.accuracy),
            test_loss: tested.as_ref().map(|test| test.loss),
            per_class: per_class(&confusion_matrix, &labels),
            labels,
            confusion_matrix,
            best_epoch: learned.fit.best_epoch,
            notes: notes(settings, epochs, best.val_loss.is_some(), tested.is_some()),
            curves: learned.fit.curves.clone(),
            timings: monitor.timings().clone(),
            settings: settings.clone(),
            leaderboard: vec![],
            choice: None,
            calibration: None,
            suspects: vec![],
            promotion: None,
            model_bytes: 0,
            milliseconds_per_picture: None,
            parameters: learned.n_weights as u64,
            dataset: dataset.manifest.id.clone(),
            run: self.run.id().into(),
            made_by: made_by(),
        }
    }

    /// `version` and `files` are filled in by publishing.
    fn manifest(
        &self,
        dataset: &Dataset,
        results: &Results,
        learned: &Fitted,
        engine_difference: f32,
    ) -> ModelManifest {
        ModelManifest {
            schema: SCHEMA,
            name: self.run.spec.model.clone(),
            version: 0,
            created: now_rfc3339(),
            labels: results.labels.clone(),
            preprocess: dataset.manifest.preprocess.clone(),
            family: results.settings.family,
            backbone: learned.backbone().cloned(),
            metrics: Metrics {
                accuracy: results.accuracy,
                val_accuracy: results.val_accuracy,
                test_accuracy: results.test_accuracy,
            },
            doubt: None,
            classes: dataset.manifest.classes.clone(),
            dataset: results.dataset.clone(),
            run: results.run.clone(),
            engine_difference,
            made_by: made_by(),
            files: Default::default(),
        }
    }
}

/// The dataset's splits, mapped.
struct Splits {
    pixels: [Pixels; 3],
    height: u32,
    width: u32,
}

impl Splits {
    fn open(dataset: &Dataset) -> Result<Self> {
        let [train, validation, test] = Split::ALL.map(|split| dataset.pixels(split));
        let spec = &dataset.manifest.preprocess;
        Ok(Self { pixels: [train?, validation?, test?], height: spec.height, width: spec.width })
    }

    /// All of them, one split after the other.
    fn pictures(&self) -> Pictures<'_> {
        let none = Pictures::new(self.height, self.width);
        self.pixels.iter().fold(none, |pictures, split| pictures.with(split.images(), split.labels()))
    }

    /// The rows of each split.
    fn rows(&self) -> [Vec<usize>; 3] {
        let mut first = 0;
        [0, 1, 2].map(|split: usize| {
            let rows = first..first + self.pixels[split].labels().len();
            first = rows.end;
            rows.collect()
        })
    }
}

/// Keys and values inside the ONNX file, so that it explains itself where its manifest is lost.
///
/// No time and no run: the same data, settings and seed give the same bytes.
fn metadata(dataset: &DatasetManifest, settings: &Settings) -> Vec<(&'static str, String)> {
    let labels: Vec<&str> = dataset.classes.iter().map(|class| class.name.as_str()).collect();
    let json = |value: serde_json::Result<String>| value.expect("plain data serialises");
    vec![
        ("labels", json(serde_json::to_string(&labels))),
        ("preprocess", json(serde_json::to_string(&dataset.preprocess))),
        ("settings", json(serde_json::to_string(settings))),
        ("dataset", dataset.id.clone()),
    ]
}

fn notes(settings: &Settings, epochs: u32, validated: bool, tested: bool) -> Vec<String> {
    let mut notes = vec![];
    let measure = if validated { "validation" } else { "train" };
    if !validated {
        notes.push("There is no validation split: the best epoch was chosen by train loss.".into());
    }
    if !tested {
        notes.push("There is no test split: how well the model does on new pictures is not known.".into());
    }
    if epochs < settings.epochs {
        notes.push(format!(
            "Training stopped after epoch {epochs} of {}: the {measure} loss had not got better for {} epochs.",
            settings.epochs, settings.patience
        ));
    }
    notes
}

fn made_by() -> String {
    format!("{PRODUCER} {}", env!("CARGO_PKG_VERSION"))
}

fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Queued => "queued",
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
