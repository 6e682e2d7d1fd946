//! `fovea dataset add` and `fovea dataset sample` as processes.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use api::PreprocessSpec;
use serde_json::Value;

fn fovea(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fovea"));
    command.arg("--data").arg(data).arg("dataset").args(arguments);
    for name in ["FOVEA_DATA", "FOVEA_VOLUME1", "FOVEA_VOLUME2"] {
        command.env_remove(name);
    }
    command.output().expect("fovea starts")
}

#[track_caller]
fn told(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).expect("text")
}

/// Four noisy pictures in each of two class folders, and a file that is none.
fn make_pictures(root: &Path) {
    let mut random = 1u64;
    for class in ["round", "square"] {
        fs::create_dir_all(root.join(class)).expect("a folder");
        for n in 0..4 {
            let next = |_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 56) as u8
            };
            let pixels: Vec<u8> = (0..16 * 16 * 3).map(next).collect();
            let png = imaging::encode_png(&pixels, &PreprocessSpec::square(16));
            fs::write(root.join(class).join(format!("{n}.png")), png).expect("a picture");
        }
    }
    fs::write(root.join("round/notes.txt"), "no picture").expect("a file");
}

#[test]
fn a_folder_becomes_a_dataset_once() {
    let root = tempfile::tempdir().expect("a folder");
    let (data, pictures) = (root.path().join("data"), root.path().join("shapes"));
    make_pictures(&pictures);
    let pictures = pictures.to_str().expect("a plain path");

    let first = fovea(&data, &["add", pictures, "--size", "20x16", "--fit", "contain"]);
    let text = told(&first);
    assert!(text.contains("8 pictures of 20 × 16 pixels in 2 classes"), "{text}");
    assert!(text.contains("unsupported format: 1\n    round/notes.txt: "), "{text}");
    assert!(first.stderr.is_empty(), "no progress where there is no terminal");

    let again = fovea(&data, &["add", pictures, "--size", "20x16", "--fit", "contain", "--json"]);
    let again: Value = serde_json::from_str(told(&again)).expect("JSON");
    assert_eq!(again["existed"], true);
    assert_eq!(again["files"], 9);
    assert_eq!(again["rejected"][0]["reason"], "unsupported_format");
    assert!(text.starts_with(again["dataset"].as_str().expect("an id")), "{text}");
    assert_eq!(again["manifest"]["name"], "shapes");
    assert_eq!(fs::read_dir(data.join(".staging")).expect("a folder").count(), 0);
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let root = tempfile::tempdir().expect("a folder");
    make_pictures(&root.path().join("shapes"));
    let pictures = root.path().join("shapes").to_str().expect("a plain path").to_owned();
    for (arguments, named) in [
        (&["add", "/nowhere"][..], "cannot read /nowhere"),
        (&["add", "/etc/hostname"], "neither ZIP nor tar"),
        (&["add", &pictures, "--size", "5000"], "expected 1 to 1024 pixels"),
        (&["add", &pictures, "--preprocess-url", "nonsense"], "expected one like http://127.0.0.1:8081"),
        (&["sample", "fashion-mnist", "--from", "/nowhere"], "apt-get install dataset-fashion-mnist"),
    ] {
        let output = fovea(&root.path().join("data"), arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(named) && said.lines().count() == 1, "{said}");
    }
}
