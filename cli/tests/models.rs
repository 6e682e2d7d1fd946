//! `fovea predict`, `fovea evaluate`, `fovea runs` and `fovea compare` as processes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use api::{
    PreprocessSpec,
    model::{Doubt, DoubtScore},
    predict::Prediction,
    preprocess::EncodedImage,
    train::{
        Candidate, CandidateState, Examined, Family, Hyperparameters, Results, RunLabel, RunState, RunStatus, Settings,
        Validated,
    },
};
use bytes::Bytes;
use common::{fails, json_of, picture, publish, results, run, succeeds, volumes};
use serde_json::json;
use store::Volumes;

const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const GRAY: [u8; 3] = [128, 128, 128];

const DOUBT: Doubt = Doubt { score: DoubtScore::Confidence, unsure_below: 0.9, false_alarms: 0.05 };

/// A picture without any symmetry, of other sides than the model sees.
fn noise(path: &Path) {
    let pixels: Vec<u8> = (0..23 * 17 * 3).map(|i: u32| (i * i * 31 % 251) as u8).collect();
    let spec = PreprocessSpec { width: 23, height: 17, ..PreprocessSpec::square(1) };
    fs::write(path, imaging::encode_png(&pixels, &spec)).unwrap();
}

#[test]
fn predictions_are_those_of_the_function_in_the_order_of_the_files() {
    let (folder, volumes) = volumes();
    publish(&volumes, "classifier", "ds-0", Some(DOUBT));
    let file = |name: &str| folder.path().join(name);
    picture(&file("blue.png"), BLUE, 30).unwrap();
    noise(&file("noise.png"));
    fs::write(file("broken.png"), &fs::read(file("noise.png")).unwrap()[..60]).unwrap();
    picture(&file("red.png"), RED, 8).unwrap();
    let files: Vec<PathBuf> = ["blue", "noise", "broken", "red"].map(|name| file(&format!("{name}.png"))).to_vec();
    let names: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();

    let output = run(&volumes, &[&["predict", "--json", "--top-k", "2"], &names[..]].concat());
    assert_eq!(output.status.code(), Some(1), "one of them is broken: {output:?}");
    let said: Vec<Prediction> = serde_json::from_value(json_of(&output)).unwrap();

    let function = inference::Function::new(volumes.version("classifier", 1).unwrap().dir);
    let images: Vec<_> = files
        .iter()
        .map(|file| EncodedImage::new(Some(file.display().to_string()), &fs::read(file).unwrap()))
        .collect();
    let body = json!({"images": images, "include_images": false, "top_k": 2}).to_string();
    let request = http::Request::post("/predict").header("content-type", "application/json");
    let answer = function.answer(&request.body(Bytes::from(body)).unwrap());
    let expected: Vec<Prediction> = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(said, expected);
    assert_eq!(said[0].prediction.as_deref(), Some("blue"));
    assert_eq!((said[1].unsure, said[3].unsure), (Some(true), Some(false)));
    assert!(said[2].error.is_some());
}

#[test]
fn predictions_are_a_table_and_what_cannot_be_read_says_why() {
    let (folder, volumes) = volumes();
    publish(&volumes, "colours", "ds-0", Some(DOUBT));
    picture(&folder.path().join("red.png"), RED, 8).unwrap();
    picture(&folder.path().join("gray.png"), GRAY, 8).unwrap();
    let mut command = common::fovea(&volumes, &["predict", "red.png", "gray.png", "none.png", "--model", "colours@v1"]);
    let output = command.current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(
        lines[..3],
        [
            "  FILE      LABEL  CONFIDENCE",
            "  red.png   red         0.965  green 0.018, blue 0.018",
            "  gray.png  red         0.333  unsure, green 0.333, blue 0.333",
        ]
    );
    assert!(lines[3].starts_with("  none.png  -               -  cannot read the file: No such file"), "{lines:?}");
    let said = succeeds(&volumes, &["predict", folder.path().join("red.png").to_str().unwrap(), "--model", "colours"]);
    assert!(said.contains("red"), "the version in use answers: {said}");
}

#[test]
fn a_model_that_is_not_there_is_told_those_that_are() {
    let (_folder, volumes) = volumes();
    fails(&volumes, &["predict", "a.png"], "there are no models yet; train one");
    publish(&volumes, "colours", "ds-0", None);
    fails(&volumes, &["predict", "a.png"], "there is no model \"classifier\"; there are: colours");
    fails(&volumes, &["predict", "a.png", "--model", "colours@v9"], "there is no model version \"colours v9\"");
    fs::remove_file(volumes.current_link("colours")).unwrap();
    fails(
        &volumes,
        &["predict", "a.png", "--model", "colours"],
        "no version of colours is in use; name one, like colours@v1",
    );
}

/// Three reds of which one is blue, one blue, a file that is no picture; none is green.
fn labelled(root: &Path) {
    for (name, colour) in [("red/1.png", RED), ("red/2.png", RED), ("red/3.png", BLUE), ("blue/1.png", BLUE)] {
        // No two are the same file.
        picture(&root.join(name), colour, 9 + u32::from(name.as_bytes()[name.len() - 5])).unwrap();
    }
    fs::write(root.join("red/broken.png"), b"\x89PNG\r\n\x1a\n").unwrap();
}

#[test]
fn an_evaluation_counts_each_class_and_lists_what_it_cannot_read() {
    let (folder, volumes) = volumes();
    publish(&volumes, "classifier", "ds-0", Some(DOUBT));
    let root = folder.path().join("set");
    labelled(&root);
    let data = root.to_str().unwrap();

    let report = json_of(&run(&volumes, &["evaluate", "--data", data, "--json"]));
    assert_eq!((&report["accuracy"], &report["pictures"], &report["right"]), (&0.75.into(), &4.into(), &3.into()));
    assert_eq!(report["labels"], json!(["red", "green", "blue"]));
    assert_eq!(report["confusion_matrix"], json!([[2, 0, 1], [0, 0, 0], [0, 0, 1]]));
    let recalls: Vec<_> = (0..3).map(|n| report["per_class"][n]["recall"].as_f64()).collect();
    assert_eq!(recalls, [Some(2.0 / 3.0), None, Some(1.0)]);
    assert_eq!((&report["unsure"], &report["seen"]), (&0.into(), &json!(null)));
    assert_eq!(report["unreadable"][0]["name"], "red/broken.png");
    let mistake = &report["mistakes"][0];
    assert_eq!(
        (&mistake["name"], &mistake["label"], &mistake["prediction"]),
        (&"red/3.png".into(), &"red".into(), &"blue".into())
    );

    let said = succeeds(&volumes, &["evaluate", "--data", data, "--threads", "1"]);
    for part in [
        "accuracy  0.750  3 of 4 right; 95 % interval 0.301 to 0.954",
        "  CLASS  PRECISION  RECALL     F1  PICTURES",
        "  red        1.000   0.667  0.800         3",
        "  green          -       -      -         0",
        "         red  green  blue\n  red      2      0     1",
        "  red/3.png: red, taken for blue with 0.965",
        "not readable, and not counted: 1\n  red/broken.png: ",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn the_exit_code_tells_whether_the_accuracy_is_as_high_as_was_asked_for() {
    let (folder, volumes) = volumes();
    publish(&volumes, "classifier", "ds-0", None);
    labelled(&folder.path().join("set"));
    let data = folder.path().join("set");
    let evaluate = |least: &str| {
        let output = run(&volumes, &["evaluate", "--data", data.to_str().unwrap(), "--min-accuracy", least]);
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said.lines().last().unwrap_or_default().to_owned())
    };
    assert_eq!(evaluate("0.75"), (Some(0), "passed: accuracy 0.75 is at least 0.75".to_owned()));
    assert_eq!(evaluate("0.76"), (Some(1), "failed: accuracy 0.75 is below 0.76".to_owned()));
}

#[test]
fn labels_that_the_model_does_not_know_are_named() {
    let (folder, volumes) = volumes();
    publish(&volumes, "classifier", "ds-0", None);
    let root = folder.path().join("set");
    for name in ["red/1.png", "pink/1.png", "teal/1.png"] {
        picture(&root.join(name), RED, 8).unwrap();
    }
    let told = "classifier v1 does not know pink, teal; it knows red, green, blue";
    fails(&volumes, &["evaluate", "--data", root.to_str().unwrap()], told);
    fails(&volumes, &["evaluate", "--data", "/nowhere"], "/nowhere is neither a folder or an archive nor a dataset");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fails(&volumes, &["evaluate", "--data", empty.to_str().unwrap()], "expected a folder per class, like red/1.png");
    let broken = folder.path().join("broken");
    fs::create_dir_all(broken.join("red")).unwrap();
    fs::write(broken.join("red/1.png"), "no picture").unwrap();
    fails(&volumes, &["evaluate", "--data", broken.to_str().unwrap()], "no picture could be read; red/1.png: ");
}

/// A folder with splits, the dataset that it became, and a model that was made from it.
fn with_splits(root: &Path, volumes: &Volumes) -> String {
    for (n, (split, class, colour)) in (0..).zip([
        ("train", "red", RED),
        ("train", "blue", BLUE),
        ("train", "red", [250, 0, 0]),
        ("train", "blue", [0, 0, 250]),
        ("test", "red", [240, 0, 0]),
        ("test", "blue", [0, 0, 240]),
        ("test", "blue", [240, 9, 0]),
    ]) {
        picture(&root.join(split).join(class).join(format!("{n}.png")), colour, 8).unwrap();
    }
    let added = run(volumes, &["dataset", "add", root.to_str().unwrap(), "--size", "8", "--json"]);
    let id = json_of(&added)["dataset"].as_str().expect("a dataset").to_owned();
    publish(volumes, "classifier", &id, None);
    id
}

#[test]
fn a_folder_its_archive_and_its_dataset_are_evaluated_alike_on_their_test_split() {
    let (folder, volumes) = volumes();
    let root = folder.path().join("set");
    let id = with_splits(&root, &volumes);
    let archive = folder.path().join("set.tar");
    let mut tar = tar::Builder::new(File::create(&archive).unwrap());
    tar.append_dir_all("set", &root).unwrap();
    tar.finish().unwrap();

    let report = |data: &str| {
        let report = json_of(&run(&volumes, &["evaluate", "--data", data, "--json"]));
        let told: Vec<_> =
            ["pictures", "accuracy", "loss", "confusion_matrix", "seen"].map(|key| report[key].clone()).into();
        (told, report["data"].as_str().unwrap().to_owned())
    };
    let (of_dataset, named) = report(&id);
    assert_eq!(of_dataset[0], 3, "{of_dataset:?}");
    assert_eq!(of_dataset[3], json!([[1, 0, 0], [0, 0, 0], [1, 0, 1]]));
    assert!(named.ends_with("its test split"), "{named}");
    for data in [root.to_str().unwrap(), archive.to_str().unwrap(), "latest"] {
        assert_eq!(report(data).0, of_dataset, "{data}");
    }
    let validation = ["evaluate", "--data", root.to_str().unwrap(), "--split", "validation"];
    fails(&volumes, &validation, "its validation split has no pictures in class folders");
    let inner = root.join("test");
    let without = ["evaluate", "--data", inner.to_str().unwrap(), "--split", "test"];
    fails(&volumes, &without, "there is no test split here; leave --split out");
    let staged = fs::read_dir(volumes.staging1()).unwrap().count();
    assert_eq!(staged, 0, "what was unpacked is gone");
}

#[test]
fn pictures_that_the_model_was_fitted_on_are_counted_apart() {
    let (folder, volumes) = volumes();
    let root = folder.path().join("set");
    with_splits(&root, &volumes);
    // A label that is wrong, so that both accuracies differ.
    let mixed = folder.path().join("mixed");
    for (from, to) in
        [("train/red/0.png", "red/0.png"), ("train/blue/1.png", "blue/1.png"), ("test/blue/6.png", "blue/6.png")]
    {
        fs::create_dir_all(mixed.join(to).parent().unwrap()).unwrap();
        fs::copy(root.join(from), mixed.join(to)).unwrap();
    }
    let said = succeeds(&volumes, &["evaluate", "--data", mixed.to_str().unwrap()]);
    let note =
        "note      2 of them are of the pictures that this version was fitted on; the accuracy on the others is 0.000";
    assert!(said.contains("2 of 3 right") && said.contains(note), "{said}");
}

/// Two runs: the first one with results, the second one queued.
fn two_runs(volumes: &Volumes) -> [String; 2] {
    let asked = Hyperparameters { family: Some(Family::Cnn), ..Default::default() };
    let first = volumes.create_run("ds-0", "classifier", asked).unwrap();
    first.write_results(&results("ds-0", first.id(), |results| results.choice = Some("It won.".into()))).unwrap();
    let version = Some(publish(volumes, "classifier", "ds-0", None).version);
    let status =
        RunStatus { state: RunState::Succeeded, reason: None, started: None, ended: None, version, attempts: 1 };
    first.write_status(&status).unwrap();
    first.write_label(&RunLabel { name: "first try".into(), notes: String::new() }).unwrap();
    let second = volumes.create_run("ds-0", "classifier", Hyperparameters::default()).unwrap();
    [first.id().to_owned(), second.id().to_owned()]
}

#[test]
fn runs_are_listed_newest_first_and_one_is_shown_with_what_came_out() {
    let (_folder, volumes) = volumes();
    assert!(succeeds(&volumes, &["runs"]).starts_with("no runs in "));
    let [first, second] = two_runs(&volumes);
    let list = succeeds(&volumes, &["runs"]);
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("  RUN ") && lines[1].contains(&second) && lines[1].contains("queued  "), "{list}");
    assert!(lines[2].contains("succeeded  ds-0     cnn        classifier v1  0.900"), "{list}");
    assert!(lines[2].ends_with("first try"), "{list}");
    let list = json_of(&run(&volumes, &["runs", "--json"]));
    assert_eq!((&list[1]["run"], &list[1]["test_accuracy"]), (&first.as_str().into(), &0.9.into()));
    assert_eq!(list[0]["status"]["state"], "queued");

    for named in [&first, "first try", &first[..first.len() - 1]] {
        // The beginning of an id may be that of the other one too: both were made within a second.
        if second.starts_with(named) {
            continue;
        }
        let shown = succeeds(&volumes, &["runs", named]);
        for part in [
            "model       classifier v1, in use",
            "accuracy    test 0.900 of 20 pictures",
            "choice      It won.",
            "  green",
        ] {
            assert!(shown.contains(part), "{part:?} is not in {shown}");
        }
    }
    let shown = json_of(&run(&volumes, &["runs", "latest", "--json"]));
    assert_eq!((&shown["run"], &shown["results"]), (&second.as_str().into(), &json!(null)));
    let run_1 = volumes.run(&first).unwrap();
    let held_back = results("ds-0", &first, |results| {
        let gate = json!({"promoted": false, "margin": 0.02, "reason": "it is worse than v1", "pictures": 20});
        results.promotion = Some(serde_json::from_value(gate).unwrap());
    });
    run_1.write_results(&held_back).unwrap();
    publish(&volumes, "classifier", "ds-0", None);
    let shown = succeeds(&volumes, &["runs", &first]);
    for part in ["gate        it is worse than v1", "`fovea publish classifier v1` puts it into use all the same"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    fails(&volumes, &["runs", "2"], "may be any of");
    fails(&volumes, &["runs", "third"], "there is no run \"third\"");
}

#[test]
fn a_leaderboard_tells_work_bounds_and_what_its_order_is() {
    let (_folder, volumes) = volumes();
    let [first, _] = two_runs(&volumes);
    let candidate = Candidate {
        number: 3,
        settings: Settings::defaults(Family::Cnn, 32),
        state: CandidateState::Chosen,
        rounds: 2,
        folds: 5,
        val_accuracy: Some(0.8),
        val_loss: Some(0.5),
        pictures: 10,
        multiply_adds: Some(6_120_000),
        seconds: 1.5,
        reason: None,
    };
    let change = |results: &mut Results| {
        results.validated = Some(Validated { pictures: 10, folds: 5 });
        results.examined = Some(Examined { pictures: 10, of: 50 });
        results.leaderboard = vec![candidate];
    };
    volumes.run(&first).unwrap().write_results(&results("ds-0", &first, change)).unwrap();
    let shown = succeeds(&volumes, &["runs", "first try"]);
    for part in [
        "validation 0.875 of 10 pictures in 5 folds",
        "examined    10 of 50 pictures for a wrong label",
        "ROUNDS  ACCURACY         95 %   LOSS   WORK   TIME  STATE",
        "     2     0.800  0.490-0.943  0.500  6.1 M  1.5 s  chosen",
        "  Best first: compared by cross-entropy",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
}

#[test]
fn two_runs_stand_side_by_side_and_what_differs_is_marked() {
    let (_folder, volumes) = volumes();
    let [first, _] = two_runs(&volumes);
    let asked = Hyperparameters { family: Some(Family::Linear), ..Default::default() };
    let other = volumes.create_run("ds-0", "classifier", asked).unwrap();
    other.write_results(&results("ds-0", other.id(), |results| results.test_accuracy = Some(0.8))).unwrap();
    let said = succeeds(&volumes, &["compare", &first, "latest"]);
    let line = |what: &str| said.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {said}"));
    assert!(line("test accuracy").starts_with("  a  ") && line("test accuracy").ends_with("0.800"), "{said}");
    assert!(line("asked for").starts_with("  *  ") && line("asked for").ends_with("linear"), "{said}");
    assert!(line("batch size").starts_with("     "), "{said}");
    assert!(said.contains("2 of 20 test pictures apart"), "{said}");
    let places = ["FIGURES", "test accuracy", "F1 BY CLASS", "SETTINGS", "WHAT WAS ASKED FOR", "asked for"]
        .map(|what| said.find(what).unwrap_or_else(|| panic!("no {what} in {said}")));
    assert!(places.is_sorted(), "{said}");
    let said = succeeds(&volumes, &["compare", &first, "latest", "--differences"]);
    assert!(!said.contains("batch size"), "{said}");
    let compared = json_of(&run(&volumes, &["compare", &first, "latest", "--json"]));
    assert_eq!(compared["a"]["run"], first.as_str());
}
