//! From a dataset to a published version: learning, calibration, the exported file and its checks, the test split, and
//! whether the version comes into use.

use std::time::Instant;

use api::{
    dataset::{PictureRecord, Split},
    train::{Calibration, PicturePrediction, Suspect},
};
use store::{Dataset, ModelDraft, ModelVersion};

use crate::{
    Result, TrainerError,
    backbone::Backbones,
    cache::Cache,
    calibration::{self, Labelled, calibrated, probabilities},
    checkpoint::Checkpoints,
    data::{self, Pictures},
    engine::Engine,
    evaluate::{Evaluation, predicted},
    export::{CHECKED_PICTURES, Runner, agree, tract_logits},
    family::Task,
    job::Job,
    learning::{HeldOut, Pool, learn},
    monitor::Monitor,
    promotion,
    report::{self, Report},
    rival::Rival,
    splits::Splits,
    suspects,
};

/// Does all of it.
///
/// `resumed`: the epoch after which a trainer died that worked on the run before
///
/// # Errors
/// Whatever kept the run from a version
pub fn publish(
    job: &Job,
    checkpoints: &Checkpoints,
    resumed: Option<u32>,
    monitor: &mut Monitor,
) -> Result<ModelVersion> {
    monitor.go_on()?;
    if resumed.is_some()
        && let Some(published) = published_before(job)?
    {
        return Ok(published);
    }
    let dataset = job.volumes.dataset(&job.run.spec.dataset)?;
    data::check(&dataset)?;
    let own = job.volumes.volume2().join("backbones");
    let backbones = Backbones::find(job.options.backbones.as_deref(), Some(&own));
    let spec = &dataset.manifest.preprocess;
    let side = spec.width.max(spec.height);
    let plan = job.run.spec.hyperparameters.resolve(&backbones.installed(), side).map_err(TrainerError::Settings)?;
    monitor.timed("verify", |_| Ok(dataset.verify()?))?;

    let engine = Engine::load()?;
    let splits = Splits::open(&dataset)?;
    let (pictures, groups) = (splits.pool(), splits.groups(&dataset));
    let n_classes = dataset.manifest.classes.len();
    let task = Task { engine: &engine, backbones: &backbones, pictures: &pictures, n_classes };
    let overrun = job.options.overrun;
    let pool = Pool { task: &task, n_train: splits.n_train(), groups: &groups, overrun };
    let mut source = Cache::new(&job.volumes, &dataset.manifest.id, job.options.cache_bytes);
    let interval = job.options.checkpoint_interval;
    let keeper = |settings: &_| Box::new(checkpoints.fit(settings, interval)) as Box<_>;
    let learned = learn(&pool, &plan, &mut source, checkpoints, keeper, monitor)?;

    let labels_of = |rows: &[usize]| rows.iter().map(|&row| pictures.labels()[row]).collect::<Vec<u32>>();
    let held_out_labels = labels_of(&learned.held_out.rows);
    let held_out = Labelled { logits: &learned.held_out.logits, labels: &held_out_labels, n_classes };
    let temperature = monitor.timed("calibrate", |_| Ok(calibration::temperature(held_out)))?;

    let metadata = report::metadata(&dataset.manifest, &learned.settings);
    let onnx = monitor.timed("export", |_| Ok(learned.fitted.exported(temperature, &metadata)))?;
    let mut runner = Runner::new(&engine, &onnx, learned.fitted.pixels())?;
    let pool_logits = calibrated(&learned.logits, temperature);
    let checked = Checked { dataset: &dataset, pictures: &pictures, onnx: &onnx, n_classes };
    let (engine_difference, milliseconds) =
        monitor.timed("check", |monitor| checked.check(&mut runner, &pool_logits, monitor))?;

    let test = splits.test();
    let test_logits = monitor.timed("evaluate", |monitor| {
        runner.logits(&test, &all(&test), |done| monitor.stage("evaluate", done, test.len()))
    })?;
    let tested = Evaluation::of(&test_logits, test.labels(), n_classes);
    let calibration =
        calibrate(held_out, temperature, Labelled { logits: &test_logits, labels: test.labels(), n_classes });
    let answers = Answers {
        splits: &splits,
        n_classes,
        calibration: calibration.as_ref(),
        own: HeldOut { logits: calibrated(&learned.held_out.logits, temperature), ..learned.held_out.clone() },
        further: &learned.further,
    };
    answers.write(job, &pool_logits, &test_logits)?;
    let suspects = answers.suspects(&dataset);

    let rival = Rival {
        volumes: &job.volumes,
        model: &job.run.spec.model,
        dataset: &dataset,
        records: splits.records().1,
        test: &test,
        engine: &engine,
        pixels: learned.fitted.pixels(),
    };
    let present = rival.ask(&test_logits, monitor)?;
    let promotion = promotion::decide(present, job.options.margin, job.options.keep_current);

    let report = Report {
        dataset: &dataset,
        run: &job.run,
        learned: &learned,
        tested,
        calibration,
        suspects,
        promotion,
        model_bytes: onnx.len() as u64,
        milliseconds_per_picture: milliseconds,
        engine_difference,
        resumed,
        timings: monitor.timings(),
    };
    let (results, manifest) = (report.results(), report.manifest());
    monitor.stage("publish", 0, 1)?;
    job.run.write_results(&results)?;
    let published = job.volumes.publish_model(ModelDraft { manifest, onnx: &onnx, results: &results })?;
    if results.promotion.is_some_and(|promotion| promotion.promoted) {
        job.volumes.set_current(&published.manifest.name, published.manifest.version)?;
    }
    Ok(published)
}

/// The version that a trainer which died had published for this run already, put into use where that was all that was
/// left to do: where the version in use is still the one that it was compared with.
fn published_before(job: &Job) -> Result<Option<ModelVersion>> {
    let model = &job.run.spec.model;
    let of_run = |version: &ModelVersion| version.manifest.run == job.run.id();
    let Some(published) = job.volumes.versions(model)?.into_iter().find(of_run) else { return Ok(None) };
    let promotion = published.results()?.promotion.filter(|promotion| promotion.promoted);
    if let Some(promotion) = promotion
        && job.volumes.current(model)? == promotion.compared_with
    {
        job.volumes.set_current(model, published.manifest.version)?;
    }
    Ok(Some(published))
}

fn all(pictures: &Pictures) -> Vec<usize> {
    (0..pictures.len()).collect()
}

/// The exported file against the network that was fitted.
struct Checked<'a> {
    dataset: &'a Dataset,
    pictures: &'a Pictures<'a>,
    onnx: &'a [u8],
    n_classes: usize,
}

impl Checked<'_> {
    /// Compares engines on some pictures of the pool; returns how far they are apart, and the milliseconds that a picture
    /// takes in native tract.
    ///
    /// `expected`: `[pool, n_classes]`, as training computes them
    fn check(&self, runner: &mut Runner, expected: &[f32], monitor: &mut Monitor) -> Result<(f32, Option<f64>)> {
        let stride = self.pictures.len().div_ceil(CHECKED_PICTURES);
        let rows: Vec<usize> = (0..self.pictures.len()).step_by(stride.max(1)).collect();
        let n = self.n_classes;
        let reference: Vec<f32> = rows.iter().flat_map(|row| expected[row * n..][..n].iter().copied()).collect();
        let exported = runner.logits(self.pictures, &rows, |_| monitor.go_on())?;
        agree("ONNX Runtime and the training-time forward", &exported, &reference, n)?;
        let mut ends = vec![];
        let spec = &self.dataset.manifest.preprocess;
        let native = tract_logits(self.onnx, spec, n, self.pictures, &rows, |done| {
            ends.push(Instant::now());
            monitor.stage("check", done, rows.len())
        })?;
        let mut taken: Vec<f64> = ends.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect();
        taken.sort_by(f64::total_cmp);
        Ok((agree("ONNX Runtime and tract", &exported, &native, n)?, taken.get(taken.len() / 2).copied()))
    }
}

/// `held_out` as fitted, `test` as published.
fn calibrate(held_out: Labelled, temperature: f64, test: Labelled) -> Option<Calibration> {
    if held_out.labels.is_empty() && test.labels.is_empty() {
        return None;
    }
    let error = |of, temperature| calibration::expected_error(&calibration::bins(of, temperature));
    let published = calibrated(held_out.logits, temperature);
    let doubt = calibration::doubt(&published, held_out.n_classes, calibration::SCORE);
    let bins = calibration::bins(test, 1.0);
    let n_test = test.labels.len();
    let rows = test.logits.chunks_exact(test.n_classes);
    let marked = doubt.map(|doubt| rows.filter(|row| calibration::is_unsure(&doubt, row)).count());
    Some(Calibration {
        temperature,
        pictures: held_out.labels.len() as u64,
        ece_before: error(held_out, 1.0),
        ece_after: error(held_out, temperature),
        test_ece: (n_test > 0).then(|| calibration::expected_error(&bins)),
        bins,
        doubt,
        test_unsure: marked.filter(|_| n_test > 0).map(|marked| marked as f64 / n_test as f64),
    })
}

/// What networks say about every picture.
struct Answers<'a> {
    splits: &'a Splits,
    n_classes: usize,
    calibration: Option<&'a Calibration>,
    /// Of pictures from outside the fit, as calibrated.
    own: HeldOut,
    /// Of further ones, by other candidates, as calibrated.
    further: &'a HeldOut,
}

impl Answers<'_> {
    /// Every picture that a network is asked about which was not fitted on it: row and logits.
    fn held_out(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let both = [&self.own, self.further].into_iter();
        both.flat_map(|of| of.rows.iter().copied().zip(of.logits.chunks_exact(self.n_classes)))
    }

    /// Writes `predictions.jsonl`.
    ///
    /// A picture that the published network was fitted on is told as models took it that were not, where there are such:
    /// what a network says about pictures that it knows by heart tells nothing. The line says which of both it is. Whether
    /// it is unsure is told by the network that the threshold belongs to.
    fn write(&self, job: &Job, pool_logits: &[f32], test_logits: &[f32]) -> Result<()> {
        let n = self.n_classes;
        let mut logits = pool_logits.to_vec();
        let mut is_held_out = vec![false; self.splits.n_pool()];
        let mut is_unsure: Vec<bool> = pool_logits.chunks_exact(n).map(|logits| self.is_unsure(logits)).collect();
        for (row, answer) in self.held_out() {
            logits[row * n..][..n].copy_from_slice(answer);
            is_held_out[row] = true;
        }
        for (&row, answer) in self.own.rows.iter().zip(self.own.logits.chunks_exact(n)) {
            is_unsure[row] = self.is_unsure(answer);
        }
        let (pool, test) = self.splits.records();
        let of_pool = pool.iter().zip(logits.chunks_exact(n)).enumerate().map(|(row, (record, logits))| {
            let (split, row_in_split) = self.splits.place(row);
            let line = line(split, row_in_split, record, logits);
            PicturePrediction { unsure: is_unsure[row], held_out: is_held_out[row], ..line }
        });
        let of_test = test.iter().zip(test_logits.chunks_exact(n)).enumerate();
        let of_test = of_test.map(|(row, (record, logits))| PicturePrediction {
            unsure: self.is_unsure(logits),
            held_out: true,
            ..line(Split::Test, row as u64, record, logits)
        });
        job.run.write_predictions(of_pool.chain(of_test).map(Ok))
    }

    fn is_unsure(&self, logits: &[f32]) -> bool {
        let doubt = self.calibration.and_then(|calibration| calibration.doubt);
        doubt.is_some_and(|doubt| calibration::is_unsure(&doubt, logits))
    }

    /// Pictures of the pool whose label is probably wrong.
    fn suspects(&self, dataset: &Dataset) -> Vec<Suspect> {
        let probabilities: Vec<f32> = self.held_out().flat_map(|(_, logits)| probabilities(logits, 1.0)).collect();
        let rows: Vec<usize> = self.held_out().map(|(row, _)| row).collect();
        let (records, labels) = (self.splits.records().0, dataset.labels());
        let given: Vec<u32> = rows.iter().map(|&row| records[row].label).collect();
        let found = suspects::find(&probabilities, &given, self.n_classes).into_iter();
        found
            .map(|doubtful| {
                let at = rows[doubtful.row];
                let (split, row) = self.splits.place(at);
                Suspect {
                    split,
                    row,
                    name: records[at].name.clone(),
                    label: labels[records[at].label as usize].clone(),
                    suggested: labels[doubtful.suggested as usize].clone(),
                    probability: f64::from(doubtful.probability),
                }
            })
            .collect()
    }
}

/// What is said of a picture; neither unsure nor held out.
fn line(split: Split, row: u64, record: &PictureRecord, logits: &[f32]) -> PicturePrediction {
    PicturePrediction {
        split,
        row,
        name: record.name.clone(),
        label: record.label,
        predicted: predicted(logits) as u32,
        probabilities: probabilities(logits, 1.0),
        unsure: false,
        held_out: false,
    }
}
