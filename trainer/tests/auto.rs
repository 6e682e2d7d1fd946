//! Searches, crashes, comparisons of versions and a person's own backbone, with the trainer as a process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use api::{
    PreprocessSpec,
    backbone::{BackboneManifest, NETWORK_FILE, SCHEMA},
    dataset::Split,
    train::{
        CandidateState, Examined, Family, Hyperparameters, PicturePrediction, Progress, RunState, RunStatus, Validated,
    },
};
use common::Place;
use rand::RngExt;
use rand_pcg::Pcg64;
use sha2::{Digest, Sha256};
use store::Run;

impl Place {
    fn new(per_class: [usize; 3]) -> Self {
        Self::with(PreprocessSpec::square(16), per_class)
    }

    fn trainer(&self, run: &Run) -> Command {
        let mut command = self.trainer_of(&run.spec_path());
        // However busy the machine is, the clock decides nothing here.
        command.args(["--search-overrun", "1000", "--checkpoint-seconds", "0"]);
        command
    }

    fn finish(&self, run: &Run) -> Output {
        let output = self.trainer(run).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    }

    fn train(&self, hyperparameters: Hyperparameters) -> Run {
        let run = self.run(hyperparameters);
        self.finish(&run);
        run
    }

    /// Kills the trainer of a run as soon as it has told this.
    fn kill_after(&self, run: &Run, told: impl Fn(&Progress) -> bool) {
        let mut trainer = self.trainer(run).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(trainer.stdout.take().unwrap()).lines();
        let heard = lines.any(|line| told(&serde_json::from_str(&line.unwrap()).unwrap()));
        trainer.kill().unwrap();
        trainer.wait().unwrap();
        assert!(heard, "the trainer ended before it could be killed");
        assert_eq!(run.written_status().unwrap().state, RunState::Running);
    }

    /// The network that a run published.
    fn network(&self, run: &Run) -> Vec<u8> {
        let version = run.status().unwrap().version.unwrap();
        fs::read(self.volumes.version("stripes", version).unwrap().onnx()).unwrap()
    }
}

/// A search over the two networks from scratch, each short.
fn searched() -> Hyperparameters {
    Hyperparameters { epochs: Some(3), budget_seconds: Some(600.0), ..Hyperparameters::default() }
}

fn stated() -> Hyperparameters {
    Hyperparameters { family: Some(Family::SeparableCnn), epochs: Some(6), ..Hyperparameters::default() }
}

#[test]
fn a_search_publishes_the_best_with_its_leaderboard_and_what_every_picture_was_taken_for() {
    let place = Place::new([20, 6, 12]);
    let run = place.train(searched());
    let results = run.results().unwrap().unwrap();
    assert_eq!(results.leaderboard[0].state, CandidateState::Chosen);
    assert_eq!(results.leaderboard[0].settings.family, results.settings.family);
    let families: Vec<_> = results.leaderboard.iter().map(|candidate| candidate.settings.family).collect();
    assert!(families.contains(&Family::Cnn) && families.contains(&Family::SeparableCnn), "{families:?}");
    assert!(results.choice.unwrap().contains("-fold cross-validation"));
    assert_eq!((results.val_accuracy, results.val_loss).0, results.leaderboard[0].val_accuracy);
    assert!(results.test_accuracy.unwrap() > 0.5 && results.model_bytes > 0);
    assert!(results.milliseconds_per_picture.unwrap() > 0.0);
    assert_eq!(results.examined, Some(Examined { pictures: 52, of: 52 }));
    assert_eq!(results.validated, Some(Validated { pictures: 52, folds: results.leaderboard[0].folds }));
    assert!(results.leaderboard[0].multiply_adds.is_some_and(|n| n > 0));
    let calibration = results.calibration.unwrap();
    assert_eq!(calibration.pictures, 52, "every picture of train and validation was left out of one fit");
    assert_eq!(calibration.bins.iter().map(|bin| bin.count).sum::<u64>(), 24);
    let version = place.volumes.version("stripes", 1).unwrap();
    assert_eq!(version.manifest.doubt, calibration.doubt);
    assert!(calibration.doubt.is_some());

    let text = fs::read_to_string(run.dir.join("predictions.jsonl")).unwrap();
    let lines: Vec<PicturePrediction> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records = place.dataset.pictures().unwrap();
    assert_eq!(lines.len(), records.len());
    assert!(lines.iter().zip(&records).all(|(line, record)| line.name == record.name && line.label == record.label));
    assert!(lines.iter().all(|line| line.held_out), "no picture is judged by a network that was fitted on it");
    let right = lines.iter().filter(|line| line.split == Split::Test && line.predicted == line.label).count();
    assert_eq!(right as f64 / 24.0, results.test_accuracy.unwrap());

    let (told, _) = run.progress_from(0).unwrap();
    let first = told.iter().position(|progress| matches!(progress, Progress::Candidate(_))).unwrap();
    let epoch = told.iter().position(|progress| matches!(progress, Progress::Epoch(_))).unwrap();
    assert!(first < epoch, "epochs are those of the final fit");
    assert!(!run.dir.join("checkpoint").exists(), "a run that has ended needs no checkpoints");
}

#[test]
fn pictures_of_none_of_the_classes_are_answered_less_surely() {
    let place = Place::new([60, 30, 30]);
    let run = place.train(Hyperparameters { family: Some(Family::Cnn), epochs: Some(8), ..Hyperparameters::default() });
    let results = run.results().unwrap().unwrap();
    assert!(results.test_accuracy.unwrap() > 0.9, "{:?}", results.test_accuracy);
    let version = place.volumes.version("stripes", 1).unwrap();
    let predictor = predictor::Predictor::load(version.onnx().parent().unwrap()).unwrap();
    // Disks on a ground, with the stripes' colours and noise.
    let random = &mut Pcg64::new(1, 1);
    let mut disk = || -> Vec<u8> {
        let colours: [[u8; 3]; 2] = random.random();
        let (middle, radius) = (random.random_range(5.0..11.0), random.random_range(2.0..6.0));
        let inside = |x: i32, y: i32| (f64::from(x) - middle).hypot(f64::from(y) - 8.0) < radius;
        let pixels = (0..256).flat_map(|at| colours[usize::from(inside(at % 16, at / 16))]);
        pixels.map(|value| value.saturating_add(random.random_range(0..24))).collect()
    };
    let answers: Vec<_> = (0..60).map(|_| predictor.predict(&disk(), 1).unwrap()).collect();
    let share = |marked: usize| marked as f64 / answers.len() as f64;
    let unsure = share(answers.iter().filter(|answer| answer.unsure == Some(true)).count());
    let certain = share(answers.iter().filter(|answer| answer.ranked[0].probability >= 0.99).count());
    let of_classes = results.calibration.unwrap().test_unsure.unwrap();
    assert!(unsure > 0.85 && unsure > 3.0 * of_classes && certain < 0.05, "{unsure}, {of_classes}, {certain}");
}

#[test]
fn the_same_data_and_seed_lead_a_search_to_the_same_file() {
    let place = Place::new([12, 4, 0]);
    let runs = [searched(), searched()].map(|asked| place.train(asked));
    assert!(place.network(&runs[0]) == place.network(&runs[1]), "two runs with one seed made different files");
}

#[test]
fn a_fit_whose_trainer_was_killed_ends_with_the_very_same_file() {
    let place = Place::new([24, 6, 6]);
    let whole = place.train(stated());
    let run = place.run(stated());
    place.kill_after(&run, |progress| matches!(progress, Progress::Epoch(metrics) if metrics.epoch == 3));
    place.finish(&run);
    assert!(place.network(&whole) == place.network(&run), "going on led to another network");

    let (told, _) = run.progress_from(0).unwrap();
    let resumed = told.iter().find_map(|progress| match progress {
        Progress::Resumed { epoch, seconds } => Some((*epoch, *seconds)),
        _ => None,
    });
    let (epoch, seconds) = resumed.unwrap();
    assert!((2..=4).contains(&epoch), "gone on after epoch {epoch}");
    assert!(seconds > 0.0);
    let again = told.iter().skip_while(|progress| !matches!(progress, Progress::Resumed { .. }));
    let epochs: Vec<u32> = again
        .filter_map(|progress| match progress {
            Progress::Epoch(metrics) => Some(metrics.epoch),
            _ => None,
        })
        .collect();
    assert_eq!(epochs, (epoch + 1..=6).collect::<Vec<_>>());
    let results = run.results().unwrap().unwrap();
    assert_eq!(results.curves.len(), 6);
    assert!(results.notes.iter().any(|note| note.contains("A trainer died")), "{:?}", results.notes);
    assert_eq!(run.status().unwrap().attempts, 2);
}

#[test]
fn a_search_whose_trainer_was_killed_ends_with_the_very_same_file() {
    let place = Place::new([12, 4, 0]);
    let whole = place.train(searched());
    let run = place.run(searched());
    place.kill_after(
        &run,
        |progress| matches!(progress, Progress::Candidate(candidate) if candidate.state == CandidateState::Tried),
    );
    let trials = fs::read_to_string(run.dir.join("checkpoint/trials.jsonl")).unwrap().lines().count();
    assert!(trials >= 1);
    place.finish(&run);
    assert!(place.network(&whole) == place.network(&run), "going on led to another network");
    let boards = [&whole, &run].map(|run| run.results().unwrap().unwrap().leaderboard);
    let figures = boards.map(|board| board.into_iter().map(|c| (c.number, c.val_loss)).collect::<Vec<_>>());
    assert_eq!(figures[0], figures[1]);
}

#[test]
fn a_trainer_that_died_after_publishing_is_followed_by_one_that_publishes_nothing_more() {
    let place = Place::new([8, 2, 12]);
    let quick = Hyperparameters { epochs: Some(1), ..stated() };
    let first = place.train(quick.clone());
    let second = place.run(quick);
    assert!(place.trainer(&second).args(["--margin", "1"]).status().unwrap().success());
    let died = |run: &Run| {
        let status = run.status().unwrap();
        run.write_status(&RunStatus { state: RunState::Running, ended: None, version: None, ..status }).unwrap();
    };

    died(&second);
    place.volumes.set_current("stripes", 1).unwrap();
    place.finish(&second);
    assert_eq!((second.status().unwrap().state, second.status().unwrap().version), (RunState::Succeeded, Some(2)));
    assert_eq!(place.volumes.version_numbers("stripes").unwrap(), [2, 1]);
    assert_eq!(place.volumes.current("stripes").unwrap(), Some(2), "what was left to do is done");

    died(&first);
    place.finish(&first);
    assert_eq!(first.status().unwrap().version, Some(1));
    assert_eq!(place.volumes.version_numbers("stripes").unwrap(), [2, 1]);
    assert_eq!(place.volumes.current("stripes").unwrap(), Some(2), "another one came into use since");
}

#[test]
fn a_second_run_on_the_same_data_takes_features_from_the_cache_unless_they_are_damaged() {
    let Some(backbones) = common::backbones() else {
        println!("SKIPPED: no backbone is installed; run `cargo xtask setup`");
        return;
    };
    let place = Place::new([8, 2, 0]);
    let linear = Hyperparameters { family: Some(Family::Linear), input_size: Some(64), epochs: Some(3), ..stated() };
    let train = || {
        let run = place.run(linear.clone());
        let output = place.trainer(&run).env("FOVEA_BACKBONES", &backbones).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let (told, _) = run.progress_from(0).unwrap();
        let is_computed =
            |progress: &Progress| matches!(progress, Progress::Stage { stage, .. } if stage == "features");
        (place.network(&run), told.iter().any(is_computed))
    };
    let (first, computed) = train();
    assert!(computed);
    let (second, computed) = train();
    assert!(!computed && first == second, "the second run computes nothing and comes to the same");

    for entry in fs::read_dir(place.volumes.volume1().join("cache/features")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let (third, computed) = train();
    assert!(computed && first == third, "what is damaged is computed anew");
}

#[test]
fn a_version_that_is_worse_than_the_one_in_use_stays_out_of_use() {
    let place = Place::new([40, 6, 16]);
    let learns = Hyperparameters { family: Some(Family::Cnn), epochs: Some(8), ..Hyperparameters::default() };
    let first = place.train(learns).results().unwrap().unwrap();
    let promotion = first.promotion.unwrap();
    assert_eq!((promotion.promoted, promotion.compared_with), (true, None));
    assert!(first.test_accuracy.unwrap() > 0.7, "{:?}", first.test_accuracy);

    // Too slow to learn anything in one epoch.
    let ignorant = Hyperparameters { epochs: Some(1), learning_rate: Some(1e-6), ..stated() };
    let second = place.train(ignorant.clone()).results().unwrap().unwrap();
    let promotion = second.promotion.unwrap();
    assert!(!promotion.promoted, "{}", promotion.reason);
    assert_eq!((promotion.compared_with, promotion.pictures), (Some(1), 32));
    assert_eq!((promotion.present_accuracy, promotion.new_accuracy), (first.test_accuracy, second.test_accuracy));
    assert_eq!(place.volumes.current("stripes").unwrap(), Some(1));
    place.volumes.version("stripes", 2).unwrap().verify().unwrap();

    let run = place.run(ignorant);
    assert!(place.trainer(&run).args(["--margin", "1"]).status().unwrap().success());
    assert_eq!(place.volumes.current("stripes").unwrap(), Some(3));
}

#[test]
fn a_version_whose_pictures_are_of_another_size_is_replaced_without_a_comparison() {
    let place = Place::new([8, 2, 12]);
    let quick = Hyperparameters { epochs: Some(1), ..stated() };
    place.train(quick.clone());
    let other = common::stripes(&place.volumes, PreprocessSpec::square(20), [8, 2, 12]);
    let run = place.volumes.create_run(&other.manifest.id, "stripes", quick).unwrap();
    place.finish(&run);
    let promotion = run.results().unwrap().unwrap().promotion.unwrap();
    assert!(promotion.promoted && promotion.new_accuracy.is_none());
    assert!(promotion.reason.contains("processed in another way"), "{}", promotion.reason);
}

/// Adds a network of the person's own that sees 24 pixels and whose features are the means of a map.
fn add_own_backbone(place: &Place) {
    let mut graph = predictor::testing::backbone_graph(None);
    graph.add_output("Relu_1");
    let onnx = graph.onnx();
    let interface = predictor::backbone::inspect(&onnx, Some(24), Some("Relu_1")).unwrap();
    let file = place.volumes.volume2().join("mine.onnx");
    fs::write(&file, &onnx).unwrap();
    let manifest = BackboneManifest {
        schema: SCHEMA,
        name: "mine".into(),
        licence: "MIT".into(),
        sha256: Sha256::digest(&onnx).iter().map(|byte| format!("{byte:02x}")).collect(),
        input: interface.input,
        output: interface.output,
        input_size: interface.input_size,
        n_features: interface.n_features,
        mean: [127.5; 3],
        deviation: [60.0; 3],
        created: "2026-01-01T00:00:00Z".into(),
    };
    place.volumes.add_backbone(manifest, &file).unwrap();
}

#[test]
fn a_head_on_a_persons_own_network_is_published_with_it() {
    let place = Place::new([20, 6, 6]);
    add_own_backbone(&place);
    let asked = Hyperparameters {
        family: Some(Family::Linear),
        backbone: Some("mine".into()),
        epochs: Some(10),
        patience: Some(0),
        ..Hyperparameters::default()
    };
    let run = place.train(asked);
    assert_eq!(run.results().unwrap().unwrap().settings.input_size, 24, "it is asked at the side that it sees");
    let version = place.volumes.version("stripes", 1).unwrap();
    let backbone = version.manifest.backbone.clone().unwrap();
    assert_eq!((backbone.name.as_str(), backbone.licence.as_str()), ("mine", "MIT"));

    // What is published needs the backbone's file no more.
    place.volumes.remove_backbone("mine").unwrap();
    let predictor = predictor::Predictor::load(version.onnx().parent().unwrap()).unwrap();
    let logits = |value: u8| predictor.logits(&[value; 16 * 16 * 3]).unwrap();
    assert_ne!(logits(0), logits(200), "what it says depends on the picture");
}

#[test]
fn a_search_tries_a_persons_own_network_at_the_size_it_sees() {
    let place = Place::new([20, 6, 0]);
    add_own_backbone(&place);
    let run = place.train(searched());
    let board = run.results().unwrap().unwrap().leaderboard;
    let mine: Vec<_> = board.iter().filter(|c| c.settings.backbone.as_deref() == Some("mine")).collect();
    assert!(!mine.is_empty() && mine.iter().all(|candidate| candidate.settings.input_size == 24), "{board:?}");
    assert!(mine.iter().any(|candidate| candidate.val_loss.is_some()), "{mine:?}");
}

#[test]
fn a_persons_own_network_that_cannot_do_what_is_asked_says_so() {
    let place = Place::new([8, 2, 0]);
    add_own_backbone(&place);
    let asked = |family, input_size| Hyperparameters {
        family: Some(family),
        backbone: Some("mine".into()),
        input_size: Some(input_size),
        ..Hyperparameters::default()
    };
    let reason = |asked| {
        let run = place.run(asked);
        assert!(!place.trainer(&run).output().unwrap().status.success());
        run.status().unwrap().reason.unwrap()
    };
    let at_another_size = reason(asked(Family::Linear, 32));
    assert!(at_another_size.contains("input_size is 32; backbone mine sees 24 pixels only"), "{at_another_size}");
    let tuned = reason(asked(Family::FineTune, 24));
    assert!(tuned.contains("backbone mine can only be used frozen"), "{tuned}");

    damage_own_backbone(&place);
    let damaged = reason(asked(Family::Linear, 24));
    assert!(damaged.contains("SHA-256"), "{damaged}");
    let searched_on = reason(Hyperparameters { backbone: Some("mine".into()), ..searched() });
    assert!(searched_on.contains("SHA-256"), "{searched_on}");
}

fn damage_own_backbone(place: &Place) {
    let file = place.volumes.backbone("mine").unwrap().dir.join(NETWORK_FILE);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
}

#[test]
fn a_search_goes_on_without_a_damaged_network_and_says_so() {
    let place = Place::new([8, 2, 0]);
    add_own_backbone(&place);
    damage_own_backbone(&place);
    let results = place.train(searched()).results().unwrap().unwrap();
    assert!(results.leaderboard.iter().all(|candidate| candidate.settings.backbone.is_none()));
    let told =
        |note: &String| note.starts_with("Backbone mine was left out of the search: ") && note.contains("SHA-256");
    assert!(results.notes.iter().any(told), "{:?}", results.notes);
}
