//! `fovea backbone` as a process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;

use api::backbone::BUILT_IN;
use common::{fails, fovea, json_of, run, succeeds, volumes};
use predictor::testing::{backbone_onnx, colours_onnx};
use serde_json::json;

#[test]
fn a_network_is_added_once_listed_and_removed() {
    let (folder, volumes) = volumes();
    assert!(succeeds(&volumes, &["backbone", "list"]).starts_with("no backbones; "));
    let file = folder.path().join("tiny.onnx");
    fs::write(&file, backbone_onnx(Some(16))).unwrap();
    let file = file.to_str().unwrap();
    let add = ["backbone", "add", file, "--name", "tiny", "--licence", "MIT", "--mean", "0,0,0", "--json"];
    let added = json_of(&run(&volumes, &add));
    assert_eq!(
        (&added["input_size"], &added["n_features"], &added["output"]),
        (&16.into(), &4.into(), &"features".into())
    );
    assert_eq!(added["mean"], json!([0.0, 0.0, 0.0]));
    assert!((added["deviation"][0].as_f64().unwrap() - 58.395).abs() < 1e-4, "ImageNet's unless stated: {added}");
    let own = volumes.backbone("tiny").unwrap();
    assert_eq!(fs::read(own.network()).unwrap(), backbone_onnx(Some(16)));

    fails(&volumes, &add[..add.len() - 1], "there is a backbone \"tiny\" already");
    let list = succeeds(&volumes, &["backbone", "list"]);
    assert!(list.contains("  tiny      16         4  MIT      you"), "{list}");
    assert!(succeeds(&volumes, &["verify"]).contains("backbone tiny: ok"));
    succeeds(&volumes, &["backbone", "remove", "tiny"]);
    fails(&volumes, &["backbone", "remove", "tiny"], "there is no backbone \"tiny\"");
    assert_eq!(json_of(&run(&volumes, &["backbone", "list", "--json"])), json!([]));
}

#[test]
fn what_cannot_be_a_backbone_is_not_added() {
    let (folder, volumes) = volumes();
    let file = folder.path().join("model.onnx");
    let add = |name| ["backbone", "add", file.to_str().unwrap(), "--name", name, "--licence", "MIT"];
    fails(&volumes, &add("mine"), "cannot read ");
    fs::write(&file, colours_onnx(&common::spec())).unwrap();
    fails(&volumes, &add("mine"), "its input images has another type or shape; expected one float input");
    fails(&volumes, &add("../mine"), "expected 1 to 100 letters");
    fails(&volumes, &add(BUILT_IN[0].name), "is the name of a backbone of the house");
    fails(&volumes, &["backbone", "remove", BUILT_IN[0].name], "comes with the house");
    assert!(volumes.backbones().unwrap().is_empty());
}

#[test]
fn backbones_of_the_house_are_listed_where_their_files_are() {
    let (folder, volumes) = volumes();
    fs::write(folder.path().join(BUILT_IN[0].file), "weights").unwrap();
    let mut command = fovea(&volumes, &["backbone", "list", "--json"]);
    let list = json_of(&command.env("FOVEA_BACKBONES", folder.path()).output().unwrap());
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!((&list[0]["name"], &list[0]["licence"]), (&BUILT_IN[0].name.into(), &BUILT_IN[0].licence.into()));
}
