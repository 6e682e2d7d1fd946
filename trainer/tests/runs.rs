//! The trainer as a process: what a run leaves behind, however it ends.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use api::{
    PreprocessSpec,
    dataset::Split,
    model::LOGIT_TOLERANCE,
    train::{Augmentation, Family, Hyperparameters, Progress, RunState},
};
use common::Place;
use rustix::process::{Pid, Signal, kill_process};
use store::Run;

impl Place {
    fn new(per_class: [usize; 3]) -> Self {
        Self::with(PreprocessSpec { height: 20, ..PreprocessSpec::square(16) }, per_class)
    }

    fn trainer(&self, run: &Run) -> Command {
        self.trainer_of(&run.spec_path())
    }

    /// Trains to the end.
    fn train(&self, hyperparameters: Hyperparameters) -> (Run, Output) {
        let run = self.run(hyperparameters);
        let output = self.trainer(&run).output().unwrap();
        (run, output)
    }

    fn versions(&self) -> Vec<u32> {
        self.volumes.version_numbers("stripes").unwrap()
    }

    /// The run failed with a sentence that contains all of these, and published nothing.
    #[track_caller]
    fn failed(&self, run: &Run, output: &Output, sentences: &[&str]) {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let status = run.status().unwrap();
        assert_eq!(status.state, RunState::Failed);
        assert!(status.ended.is_some());
        let reason = status.reason.unwrap();
        let printed = String::from_utf8(output.stderr.clone()).unwrap();
        for sentence in sentences {
            assert!(reason.contains(sentence), "{reason:?} does not say {sentence:?}");
            assert!(printed.contains(sentence), "{printed:?} does not say {sentence:?}");
        }
        assert!(self.versions().is_empty());
    }
}

/// Few epochs of a small network; enough for stripes.
fn quick() -> Hyperparameters {
    Hyperparameters {
        family: Some(Family::Cnn),
        epochs: Some(8),
        augmentation: Some(Augmentation::Flip),
        ..Hyperparameters::default()
    }
}

/// Goes on until it is stopped.
fn endless() -> Hyperparameters {
    Hyperparameters { epochs: Some(1000), patience: Some(0), ..quick() }
}

/// A trainer at work; it does not outlive the test.
struct Working(Child);

impl Working {
    /// Starts a run and waits until it has told of a first epoch.
    fn start(place: &Place, run: &Run) -> Self {
        let mut working = Self(place.trainer(run).stdout(Stdio::piped()).spawn().unwrap());
        let stdout = BufReader::new(working.0.stdout.take().unwrap());
        let mut lines = stdout.lines();
        assert!(
            lines.any(|line| matches!(serde_json::from_str(&line.unwrap()).unwrap(), Progress::Epoch(_))),
            "the trainer ended before its first epoch"
        );
        working
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_cnn_learns_stripes_and_is_published_with_everything_that_belongs_to_it() {
    let place = Place::new([40, 12, 12]);
    let (run, output) = place.train(quick());
    assert!(output.status.success(), "{output:?}");

    let status = run.status().unwrap();
    assert_eq!((status.state, status.version), (RunState::Succeeded, Some(1)));
    assert_eq!(place.volumes.current("stripes").unwrap(), Some(1));
    let version = place.volumes.version("stripes", 1).unwrap();
    version.verify().unwrap();
    assert!(version.manifest.engine_difference <= LOGIT_TOLERANCE);
    assert_eq!(version.manifest.preprocess, place.dataset.manifest.preprocess);

    let results = run.results().unwrap().unwrap();
    assert_eq!(version.results().unwrap(), results);
    assert!(results.test_accuracy.unwrap() >= 0.95, "test accuracy {:?}", results.test_accuracy);
    assert_eq!(version.manifest.metrics.test_accuracy, results.test_accuracy);
    assert_eq!(results.confusion_matrix.iter().flatten().sum::<u64>(), 24);
    assert!(results.per_class.iter().all(|class| class.support == 12));
    let best = &results.curves[results.best_epoch as usize - 1];
    assert!(results.curves.iter().all(|epoch| best.val_loss <= epoch.val_loss));
    assert_eq!((results.val_loss, results.accuracy), (best.val_loss, best.accuracy));
    assert_eq!(results.model_params.epochs as usize, results.curves.len());
    for stage in ["verify", "fit", "export", "check", "evaluate"] {
        assert!(results.timings.contains_key(stage), "{:?}", results.timings);
    }

    let (told, _) = run.progress_from(0).unwrap();
    let echoed: Vec<Progress> =
        output.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(told, echoed);
    assert_eq!(told.iter().filter(|p| matches!(p, Progress::Epoch(_))).count(), results.curves.len());
    assert!(matches!(told.last(), Some(Progress::End { state: RunState::Succeeded, version: Some(1), .. })));

    let predictor = predictor::Predictor::load(&version.dir).unwrap();
    let (test, labels) = (place.dataset.pixels(Split::Test).unwrap(), place.dataset.labels());
    let right = (0..test.len())
        .filter(|&row| {
            predictor.predict(test.image(row), 1).unwrap().ranked[0].label == labels[test.labels()[row] as usize]
        })
        .count();
    assert_eq!(right as f64 / test.len() as f64, results.test_accuracy.unwrap());
}

#[test]
fn the_same_data_settings_and_seed_give_the_same_file_and_another_seed_another() {
    let place = Place::new([12, 4, 0]);
    let asked =
        Hyperparameters { epochs: Some(2), augmentation: Some(Augmentation::FlipShift), dropout: Some(0.3), ..quick() };
    for seed in [5, 5, 6] {
        let (_, output) = place.train(Hyperparameters { seed: Some(seed), ..asked.clone() });
        assert!(output.status.success(), "{output:?}");
    }
    let file = |version| fs::read(place.volumes.version("stripes", version).unwrap().onnx()).unwrap();
    assert_eq!(place.volumes.current("stripes").unwrap(), Some(3));
    assert!(file(1) == file(2), "two runs with one seed made different files");
    assert!(file(1) != file(3), "two seeds made one file");
}

#[test]
fn without_validation_and_test_pictures_the_figures_are_absent_and_the_notes_say_so() {
    let place = Place::new([10, 0, 0]);
    let (run, output) = place.train(quick());
    assert!(output.status.success(), "{output:?}");
    let results = run.results().unwrap().unwrap();
    assert_eq!((results.val_loss, results.val_accuracy, results.test_accuracy), (None, None, None));
    assert_eq!(results.notes.len(), 2, "{:?}", results.notes);
    assert!(results.notes[0].contains("no validation split"));
    assert!(results.notes[1].contains("no test split"));
    let best = &results.curves[results.best_epoch as usize - 1];
    assert!(results.curves.iter().all(|epoch| best.loss <= epoch.loss));
}

#[test]
fn training_stops_early_when_validation_gets_no_better() {
    let place = Place::new([20, 6, 0]);
    // A learning rate that forgets faster than it learns.
    let asked = Hyperparameters { epochs: Some(200), patience: Some(2), learning_rate: Some(0.3), ..quick() };
    let (run, output) = place.train(asked);
    assert!(output.status.success(), "{output:?}");
    let results = run.results().unwrap().unwrap();
    let epochs = results.curves.len() as u32;
    assert!(epochs < 200);
    assert_eq!(epochs, results.best_epoch + 2);
    assert!(results.notes.iter().any(|note| note.contains(&format!("after epoch {epochs} of 200"))));
}

#[test]
fn a_linear_head_on_the_backbone_learns_stripes() {
    let Some(backbones) = common::backbones() else {
        println!("SKIPPED: no backbone is installed; run `cargo xtask setup`");
        return;
    };
    let place = Place::new([12, 4, 12]);
    let run = place.run(Hyperparameters { input_size: Some(96), ..Hyperparameters::default() });
    let output = place.trainer(&run).env("FOVEA_BACKBONES", backbones).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let results = run.results().unwrap().unwrap();
    assert_eq!(results.settings.family, Family::Linear, "the default where there is a backbone");
    assert!(results.test_accuracy.unwrap() >= 0.95, "{results:?}");
    assert!(results.parameters > 3_000_000);
    let version = place.volumes.version("stripes", 1).unwrap();
    version.verify().unwrap();
    assert_eq!(version.manifest.backbone.unwrap().licence, "Apache-2.0");
    let (told, _) = run.progress_from(0).unwrap();
    let total = (12 + 4) * 2;
    assert!(told.iter().any(
        |p| matches!(p, Progress::Stage { stage, done, total: t, .. } if stage == "features" && done == t && *t == total)
    ));
}

#[test]
fn a_linear_head_on_squeezenet_learns_stripes_and_its_blocks_cannot_be_trained() {
    let backbones = common::backbones().filter(|folder| folder.join("squeezenet1.1.h5").is_file());
    let Some(backbones) = backbones else {
        println!("SKIPPED: squeezenet1.1 is not installed; run `cargo xtask setup`");
        return;
    };
    let place = Place::new([12, 4, 12]);
    let of = |family| Hyperparameters {
        family: Some(family),
        backbone: Some("squeezenet1.1".to_owned()),
        input_size: Some(96),
        ..Hyperparameters::default()
    };
    let run = place.run(of(Family::FineTune));
    let output = place.trainer(&run).env("FOVEA_BACKBONES", &backbones).output().unwrap();
    place.failed(&run, &output, &["backbone squeezenet1.1 can only be used frozen; choose family linear or mlp"]);

    let run = place.run(of(Family::Linear));
    let output = place.trainer(&run).env("FOVEA_BACKBONES", &backbones).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let results = run.results().unwrap().unwrap();
    // 20 of 24, which guessing reaches less than once in a thousand times.
    assert!(results.test_accuracy.unwrap() >= 0.8, "{results:?}");
    let version = place.volumes.version("stripes", 1).unwrap();
    assert_eq!(version.manifest.backbone.unwrap().licence, "BSD-3-Clause");
}

#[test]
fn a_file_that_is_not_the_backbone_is_refused_by_its_digest() {
    let place = Place::new([4, 0, 0]);
    let run = place.run(Hyperparameters::default());
    let folder = place.volumes.volume1();
    fs::write(folder.join("efficientnet-lite0.pth"), b"weights").unwrap();
    let output = place.trainer(&run).env("FOVEA_BACKBONES", folder).output().unwrap();
    place.failed(&run, &output, &["SHA-256", "cargo xtask setup"]);
}

#[test]
fn a_missing_or_unfit_library_is_named_with_the_remedy() {
    let place = Place::new([4, 0, 0]);
    let no_library = place.volumes.volume1().join("library.so");
    fs::write(&no_library, b"no library").unwrap();
    let named = no_library.to_str().unwrap();
    for (value, sentence) in [("", "ORT_DYLIB_PATH is not set"), ("/nowhere/lib.so", "/nowhere/lib.so"), (named, named)]
    {
        let run = place.run(quick());
        let output = place.trainer(&run).env("ORT_DYLIB_PATH", value).output().unwrap();
        place.failed(&run, &output, &[sentence, "ORT_DYLIB_PATH", "cargo xtask setup"]);
    }
}

#[test]
fn what_cannot_be_trained_is_said_in_a_sentence() {
    let place = Place::new([4, 0, 0]);
    let linear = Hyperparameters { family: Some(Family::Linear), ..quick() };
    let (run, output) = place.train(linear);
    place.failed(&run, &output, &["family linear needs a backbone", "is not installed"]);

    let (run, output) = place.train(Hyperparameters { epochs: Some(0), ..quick() });
    place.failed(&run, &output, &["epochs is 0; expected 1 to 1000"]);

    let run = place.volumes.create_run("ds-0000000000000000", "stripes", quick()).unwrap();
    let output = place.trainer(&run).output().unwrap();
    place.failed(&run, &output, &["there is no dataset \"ds-0000000000000000\""]);
}

#[test]
fn a_damaged_dataset_is_refused() {
    let place = Place::new([4, 0, 0]);
    let pixels = place.dataset.dir.join("pixels.safetensors");
    let mut bytes = fs::read(&pixels).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&pixels, bytes).unwrap();
    let (run, output) = place.train(quick());
    place.failed(&run, &output, &["is damaged"]);
}

#[test]
fn a_full_volume_fails_the_run_and_says_so() {
    let place = Place::new([4, 0, 0]);
    let run = place.run(quick());
    std::os::unix::fs::symlink("/dev/full", run.dir.join("progress.jsonl")).unwrap();
    let output = place.trainer(&run).output().unwrap();
    place.failed(&run, &output, &["the volume is full"]);
}

#[test]
fn the_cancel_file_stops_a_run_and_nothing_is_published() {
    let place = Place::new([16, 4, 4]);
    let run = place.run(endless());
    let mut working = Working::start(&place, &run);
    run.request_cancel().unwrap();
    assert_eq!(working.exit_code(), Some(130));
    cancelled(&place, &run);
}

#[test]
fn a_termination_signal_stops_a_run_and_nothing_is_published() {
    let place = Place::new([16, 4, 4]);
    for signal in [Signal::TERM, Signal::INT] {
        let run = place.run(endless());
        let mut working = Working::start(&place, &run);
        kill_process(Pid::from_child(&working.0), signal).unwrap();
        assert_eq!(working.exit_code(), Some(130));
        cancelled(&place, &run);
    }
}

#[track_caller]
fn cancelled(place: &Place, run: &Run) {
    let status = run.written_status().unwrap();
    assert_eq!((status.state, status.reason, status.version), (RunState::Cancelled, None, None));
    let (told, _) = run.progress_from(0).unwrap();
    assert!(matches!(told.last(), Some(Progress::End { state: RunState::Cancelled, .. })));
    assert!(place.versions().is_empty());
}

#[test]
fn a_killed_trainer_leaves_a_run_for_another_and_no_half_model() {
    let place = Place::new([16, 4, 4]);
    let run = place.run(endless());
    let mut working = Working::start(&place, &run);
    assert_eq!(run.status().unwrap().state, RunState::Running);
    working.0.kill().unwrap();
    assert_eq!(working.exit_code(), None);
    let status = run.status().unwrap();
    assert_eq!(status.state, RunState::Queued);
    assert!(status.reason.is_some());
    assert!(place.versions().is_empty());
    let (_, output) = place.train(quick());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(place.versions(), [1]);
}

#[test]
fn a_panic_fails_the_run_with_its_message() {
    let place = Place::new([4, 0, 0]);
    let run = place.run(quick());
    let job = trainer::Job { volumes: place.volumes.clone(), run: run.clone(), options: trainer::Options::default() };
    let error = job.work(&mut |_| {}, &|| panic!("two and two are five")).unwrap_err();
    assert!(matches!(error, trainer::TrainerError::Panicked(_)));
    let status = run.status().unwrap();
    assert_eq!(status.state, RunState::Failed);
    assert!(status.reason.unwrap().ends_with("a bug of its own: two and two are five"));
}

#[test]
fn a_second_trainer_leaves_a_run_alone() {
    let place = Place::new([16, 4, 4]);
    let run = place.run(endless());
    let mut working = Working::start(&place, &run);
    let second = place.trainer(&run).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("is being worked on by another process"));
    assert_eq!(run.status().unwrap().state, RunState::Running);
    run.request_cancel().unwrap();
    assert_eq!(working.exit_code(), Some(130));

    let third = place.trainer(&run).output().unwrap();
    assert!(String::from_utf8_lossy(&third.stderr).contains("has ended already (cancelled)"), "{third:?}");
    cancelled(&place, &run);
}

#[test]
fn two_runs_at_once_get_versions_of_their_own() {
    let place = Place::new([16, 4, 4]);
    let runs = [place.run(quick()), place.run(quick())];
    let children: Vec<Child> = runs.iter().map(|run| place.trainer(run).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(place.versions(), [2, 1]);
    for version in place.volumes.versions("stripes").unwrap() {
        version.verify().unwrap();
    }
}

#[test]
fn a_version_in_use_stays_in_use_where_that_is_asked() {
    let place = Place::new([16, 4, 4]);
    for version in [1, 2] {
        let run = place.run(quick());
        let output = place.trainer(&run).arg("--keep-current").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(place.versions()[0], version);
        assert_eq!(place.volumes.current("stripes").unwrap(), Some(1), "only the first comes into use by itself");
    }
}

#[test]
fn a_spec_outside_of_its_runs_folder_is_refused() {
    let place = Place::new([4, 0, 0]);
    let run = place.run(quick());
    let aside = place.volumes.volume2().join("run.json");
    fs::copy(run.spec_path(), &aside).unwrap();
    let output = place.trainer_of(&aside).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("must lie in that run's folder"), "{output:?}");
    assert!(!aside.with_file_name("status.json").exists());
    assert_eq!(run.status().unwrap().state, RunState::Queued);
}
