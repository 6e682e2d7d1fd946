//! `fovea train` as a process, with trainers that only do as if.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use api::train::{Progress, RunState};
use common::{fails, fovea, json_of, picture, results, succeeds, volumes};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use serde_json::Value;
use store::{Run, Volumes};
use web::launcher::{Launcher, LocalProcess};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);

/// Volumes with one dataset, `shapes`.
struct House {
    _folder: tempfile::TempDir,
    volumes: Volumes,
    dataset: String,
}

impl House {
    fn new() -> Self {
        let (folder, volumes) = volumes();
        let root = folder.path().join("shapes");
        for n in 0..4u8 {
            picture(&root.join(format!("light/{n}.png")), [200 + n, 250, 240 - n], 8).unwrap();
            picture(&root.join(format!("dark/{n}.png")), [n, 20, 30 - n], 8).unwrap();
        }
        let added = common::run(&volumes, &["dataset", "add", root.to_str().unwrap(), "--json"]);
        let dataset = json_of(&added)["dataset"].as_str().expect("a dataset").to_owned();
        Self { _folder: folder, volumes, dataset }
    }

    fn train(&self, trainer: &str, arguments: &[&str]) -> Command {
        let mut command = fovea(&self.volumes, &[&["train", "--family", "cnn"], arguments].concat());
        command.env("FOVEA_TRAINER", program(trainer)).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self) -> Option<Run> {
        self.volumes.runs().unwrap().into_iter().next()
    }

    /// The run, once it goes on.
    fn working(&self) -> Run {
        eventually("the run goes on", || {
            self.run().filter(|run| run.written_status().is_ok_and(|status| status.state == RunState::Running))
        })
    }

    /// Lets the trainer of a run end well.
    fn let_go(&self, run: &Run) {
        common::publish(&self.volumes, "classifier", &self.dataset, None);
        let results = results(&self.dataset, run.id(), |_| {});
        let aside = run.dir.join(".go");
        fs::write(&aside, serde_json::to_vec(&results).unwrap()).unwrap();
        fs::rename(aside, run.dir.join("go")).unwrap();
    }
}

fn program(trainer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trainers").join(format!("{trainer}.sh"))
}

#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < SOON, "it never came to pass that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn starts(run: &Run) -> usize {
    fs::read_to_string(run.dir.join("starts")).unwrap_or_default().lines().count()
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_run_is_told_in_lines_and_ends_with_what_came_out() {
    let house = House::new();
    let child = house.train("told", &["--dataset", "shapes", "--name", "first try", "--seed", "7"]).spawn().unwrap();
    let run = house.working();
    assert_eq!((run.spec.hyperparameters.seed, run.label().unwrap().name.as_str()), (Some(7), "first try"));
    house.let_go(&run);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    assert!(status.success(), "{}", text(&stderr));
    let lines: Vec<_> = text(&stderr).lines().collect();
    assert_eq!(lines[0], format!("run {}  dataset {}  model classifier", run.id(), house.dataset));
    assert_eq!(lines[1], "    0.5 s  computing features");
    assert!(
        lines[2].starts_with("    1.0 s  epoch 1/2  train loss 0.500, accuracy 0.750  validation loss"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 3, "{lines:?}");
    let said = text(&stdout);
    assert!(said.contains("succeeded  first try") && said.contains("classifier v1, in use"), "{said}");
    assert!(succeeds(&house.volumes, &["runs"]).contains("first try"));
}

#[test]
fn programs_get_the_run_its_progress_and_its_results_line_by_line() {
    let house = House::new();
    let child = house.train("told", &["--dataset", "latest", "--json"]).spawn().unwrap();
    let run = house.working();
    house.let_go(&run);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON on each line")).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["run"]), (&"run".into(), &run.id().into()));
    let told: Vec<Progress> =
        lines[1..lines.len() - 1].iter().map(|line| serde_json::from_value(line.clone()).unwrap()).collect();
    assert_eq!(told, run.progress_from(0).unwrap().0);
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["results"]["test_accuracy"]), (&"results".into(), &0.9.into()));
}

#[test]
fn an_interrupt_cancels_the_run_and_the_exit_code_tells() {
    let house = House::new();
    let child = house.train("told", &["--dataset", "latest"]).spawn().unwrap();
    let run = house.working();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert_eq!(run.written_status().unwrap().state, RunState::Cancelled);
    let said = text(&output.stderr);
    assert!(said.contains("Ctrl-C again kills the trainer") && said.ends_with("was cancelled\n"), "{said}");
}

#[test]
fn a_second_interrupt_kills_a_trainer_that_does_not_hear() {
    let house = House::new();
    let mut command = house.train("told", &["--dataset", "latest"]);
    let deaf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/tests/trainers/deaf.sh");
    let child = command.env("FOVEA_TRAINER", deaf).spawn().unwrap();
    let run = eventually("the trainer lives", || house.run().filter(|run| run.dir.join("child").exists()));
    interrupt(&child);
    eventually("the cancel is there", || run.cancel_requested().then_some(()));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert_eq!(run.written_status().unwrap().state, RunState::Cancelled);
}

#[test]
fn a_trainer_that_cannot_begin_leaves_a_failed_run_with_its_last_words() {
    let house = House::new();
    let output = house.train("fails", &["--dataset", "latest"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("exit status: 3; its last words: the library is not there"), "{said}");
    assert_eq!(house.run().unwrap().written_status().unwrap().state, RunState::Failed);
    let output = house.train("nowhere", &["--dataset", "latest"]).output().unwrap();
    assert!(text(&output.stderr).contains("cannot start the trainer"), "{output:?}");
}

#[test]
fn a_trainer_that_is_killed_is_followed_by_others_up_to_the_limit() {
    let house = House::new();
    let output = house.train("dies", &["--dataset", "latest"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let run = house.run().unwrap();
    assert_eq!(starts(&run), store::MAX_ATTEMPTS as usize);
    assert_eq!(text(&output.stderr).matches("another one goes on").count(), 2, "{output:?}");
    assert_eq!(run.written_status().unwrap().state, RunState::Failed);
}

#[test]
fn a_house_on_the_same_volumes_neither_starts_the_run_again_nor_takes_it_for_dead() {
    let house = House::new();
    let child = house.train("told", &["--dataset", "latest"]).spawn().unwrap();
    let run = house.working();
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let launcher = LocalProcess::new(program("told"), house.volumes.clone(), 2);
    tokio.block_on(launcher.recover()).unwrap();
    house.let_go(&run);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((starts(&run), run.status().unwrap().state), (1, RunState::Succeeded));
    tokio.block_on(launcher.shutdown(Duration::ZERO));
    assert_eq!(run.status().unwrap().state, RunState::Succeeded);
}

#[test]
fn a_run_that_another_process_took_first_is_followed_to_its_end() {
    let house = House::new();
    let child = house.train("late", &["--dataset", "latest"]).spawn().unwrap();
    let run = house.working();
    house.let_go(&run);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((starts(&run), run.status().unwrap().state), (1, RunState::Succeeded));
    assert!(text(&output.stdout).contains("classifier v1, in use"), "{output:?}");
}

#[test]
fn a_terminal_gets_a_bar_without_colours_and_what_is_final_above_it() {
    let house = House::new();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let terminal = File::options().read(true).write(true).open(ptsname(&master, Vec::new()).unwrap().to_str().unwrap());
    let mut command = house.train("told", &["--dataset", "latest"]);
    let child = command.env("TERM", "xterm").stderr(terminal.unwrap()).spawn().unwrap();
    drop(command);
    let reader = std::thread::spawn(move || {
        let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
        let mut master = File::from(master);
        // Reading fails when nobody has the terminal open any more.
        while let Ok(n @ 1..) = master.read(&mut chunk) {
            seen.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    });
    let run = house.working();
    house.let_go(&run);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let seen = reader.join().unwrap();
    assert!(seen.contains(&format!("run {}", run.id())) && seen.contains("epoch 1"), "{seen:?}");
    assert!(!seen.contains("\x1b[3") && !seen.contains("\x1b[1m"), "colours: {seen:?}");
    assert!(text(&output.stdout).contains("classifier v1, in use"), "{output:?}");
}

#[test]
fn what_cannot_be_trained_makes_no_run() {
    let house = House::new();
    fn train<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
        [&["train", "--trainer", "/bin/true"], arguments].concat()
    }
    fails(&house.volumes, &train(&["--dataset", "ds-9"]), "there is no dataset \"ds-9\"; `fovea dataset list`");
    let folder = house.volumes.volume1().parent().unwrap().join("shapes");
    let folder = folder.to_str().unwrap();
    fails(&house.volumes, &train(&["--dataset", folder]), &format!("first: fovea dataset add {folder}"));
    let wrong = ["--dataset", "latest", "--family", "cnn", "--epochs", "0", "--dropout", "2"];
    fails(&house.volumes, &train(&wrong), "epochs is 0; expected 1 to 1000; dropout is 2; expected 0 to 0.9");
    fails(&house.volumes, &train(&["--dataset", "latest", "--family", "linear"]), "is not installed; installed: none");
    fails(&house.volumes, &train(&["--dataset", "latest", "--model", "../up"]), "expected 1 to 100 letters");
    let long = "x".repeat(101);
    fails(&house.volumes, &train(&["--dataset", "latest", "--name", &long]), "name has 101 characters");
    assert!(house.run().is_none());
}

#[test]
fn the_command_that_is_printed_for_an_added_network_begins_a_run() {
    let house = House::new();
    let file = house.volumes.volume2().join("tiny.onnx");
    fs::write(&file, predictor::testing::backbone_onnx(Some(96))).unwrap();
    let add = ["backbone", "add", file.to_str().unwrap(), "--name", "tiny", "--licence", "MIT"];
    let told = succeeds(&house.volumes, &add);
    let command = told.trim_end().split_once("train on it: fovea ").expect("a command").1;
    let command = || command.split(' ').chain(["--trainer", "/bin/true"]);
    let other_side: Vec<_> = command().chain(["--input-size", "224"]).collect();
    fails(&house.volumes, &other_side, "input_size is 224; backbone tiny sees 96 pixels only");
    assert!(house.run().is_none());

    common::run(&house.volumes, &command().collect::<Vec<_>>());
    let asked = house.run().expect("a run").spec.hyperparameters;
    assert_eq!((asked.backbone.as_deref(), asked.input_size), (Some("tiny"), None));
}

#[test]
fn a_dataset_is_meant_by_its_id_its_beginning_its_name_or_latest() {
    let house = House::new();
    let id = house.dataset.as_str();
    for named in [id, &id[..7], &id[3..9], "shapes", "latest"] {
        let output = house.train("fails", &["--dataset", named]).output().unwrap();
        assert!(text(&output.stderr).contains(&format!("dataset {id}")), "{named}: {output:?}");
    }
    let root = house.volumes.volume1().parent().unwrap().join("shapes");
    let again = ["dataset", "add", root.to_str().unwrap(), "--size", "9"];
    succeeds(&house.volumes, &again);
    fails(&house.volumes, &["train", "--trainer", "/bin/true", "--dataset", "shapes"], "may be any of ds-");
}
